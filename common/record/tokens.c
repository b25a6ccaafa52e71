#include "record/tokens.h"

#include <stddef.h>

/** struct walk - a visitor on its way */
struct walk {
	record_token_fn *visit;
	void *data;
	enum record_half half;
};

static int visit(const struct walk *walk, enum record_place place, uint64_t token, uint32_t index)
{
	const struct record_token found = {
		.token = token, .half = walk->half, .place = place, .index = index
	};

	return token ? walk->visit(walk->data, &found) : 0;
}

static int visit_ring(const struct walk *walk, const Bh__Ring *ring)
{
	int r = visit(walk, RECORD_RING_KICK, ring->kick_token, ring->index);

	if (r == 0)
		r = visit(walk, RECORD_RING_CALL, ring->call_token, ring->index);
	return r ? r : visit(walk, RECORD_RING_ERR, ring->err_token, ring->index);
}

static int visit_desired(const struct walk *walk, const Bh__Desired *desired)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < desired->n_regions; i++)
		r = visit(walk, RECORD_REGION, desired->regions[i]->token, (uint32_t)i);
	if (r == 0 && desired->inflight)
		r = visit(walk, RECORD_INFLIGHT, desired->inflight->token, 0);
	if (r == 0 && desired->log)
		r = visit(walk, RECORD_LOG, desired->log->token, 0);
	for (size_t i = 0; r == 0 && i < desired->n_rings; i++)
		r = visit_ring(walk, desired->rings[i]);
	return r;
}

static int visit_observed(const struct walk *walk, const Bh__Observed *observed)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < observed->n_tokens; i++)
		r = visit(walk, RECORD_KEPT_BY_WORKER, observed->tokens[i], (uint32_t)i);
	return r;
}

int record_each_token(const Bh__Desired *desired, const Bh__Observed *observed,
	record_token_fn *visitor, void *data)
{
	struct walk walk = { .visit = visitor, .data = data, .half = RECORD_DESIRED };
	int r = desired ? visit_desired(&walk, desired) : 0;

	walk.half = RECORD_OBSERVED;
	return r == 0 && observed ? visit_observed(&walk, observed) : r;
}
