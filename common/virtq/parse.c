/*
 * From descriptors to spans of memory. A descriptor arrives here as a copy; what is checked is what is
 * used. A rule broken inside a chain spoils that chain only: it is completed unread, and the ring goes on.
 */
#include "virtq/internal.h"

#include <stdlib.h>
#include <string.h>

int parse_broken(struct virtq *vq, const char *why)
{
	vq->error = why;
	vq->slot->broken = 1;
	return -VIRTQ_E_BROKEN;
}

struct chain *parse_begin(struct virtq *vq)
{
	struct chain *chain = &vq->chains[vq->free_chains[--vq->n_free]];

	chain->pub = (struct virtq_chain){ .iov = chain->few };
	chain->recovered = false;
	return chain;
}

void parse_bad(struct chain *chain, const char *rule)
{
	if (!chain->pub.bad)
		chain->pub.rule = rule;
	chain->pub.bad = true;
	chain->pub.n_out = chain->pub.n_in = 0;
	chain->pub.out_bytes = chain->pub.in_bytes = 0;
}

/* Room for one descriptor's spans behind those that are there. */
static unsigned int room(struct chain *chain, unsigned int n)
{
	unsigned int have = chain->pub.iov == chain->few ? SPANS_INLINE : chain->n_many;
	struct iovec *many;

	if (have - n >= 2 || n >= VIRTQ_CHAIN_SPANS_MAX)
		return MIN(have, (unsigned int)VIRTQ_CHAIN_SPANS_MAX) - n;
	if (chain->n_many <= n + 1) {
		unsigned int want = MAX(4 * have, 32u);

		many = reallocarray(chain->many, want, sizeof(*many));
		if (!many)
			return 0;
		chain->many = many;
		chain->n_many = want;
	}
	if (chain->pub.iov == chain->few)
		memcpy(chain->many, chain->few, n * sizeof(struct iovec));
	chain->pub.iov = chain->many;
	return MIN(chain->n_many, (unsigned int)VIRTQ_CHAIN_SPANS_MAX) - n;
}

void parse_add(struct virtq *vq, struct chain *chain, const struct desc *desc, bool writable)
{
	struct virtq_chain *pub = &chain->pub;
	uint32_t *bytes = writable ? &pub->in_bytes : &pub->out_bytes;
	unsigned int n = pub->n_out + pub->n_in, left;
	int got;

	if (pub->bad || desc->len == 0)
		return;
	if (!writable && pub->n_in) {
		parse_bad(chain, "a readable descriptor follows a writable one");
		return;
	}
	left = room(chain, n);
	if (left == 0) {
		parse_bad(chain, "the chain has too many descriptors");
		return;
	}
	got = map_spans(vq->map, (struct gpa){ desc->addr }, desc->len, &pub->iov[n], left);
	if (got < 0) {
		parse_bad(chain, "a descriptor points outside guest memory");
		return;
	}
	if (desc->len > UINT32_MAX - *bytes) {
		parse_bad(chain, "the chain is longer than 4 GiB");
		return;
	}
	*bytes += desc->len;
	if (writable)
		pub->n_in = (uint16_t)(pub->n_in + got);
	else
		pub->n_out = (uint16_t)(pub->n_out + got);
}

static bool copy_entry(struct virtq *vq, uint64_t table, uint32_t i, struct desc *ret)
{
	struct iovec spans[2];
	int n = map_spans(vq->map, (struct gpa){ table + i * sizeof(*ret) }, sizeof(*ret), spans, 2);

	if (n < 0)
		return false;
	memcpy(ret, spans[0].iov_base, spans[0].iov_len);
	if (n == 2)
		memcpy((uint8_t *)ret + spans[0].iov_len, spans[1].iov_base, spans[1].iov_len);
	return true;
}

static const char *judge_indirect(const struct virtq *vq, const struct desc *desc, uint16_t flags)
{
	if (!vq->setup.indirect)
		return "an indirect descriptor, which was not negotiated";
	if (flags & DESC_F_NEXT)
		return "an indirect descriptor with a next one";
	if (desc->len == 0 || desc->len % sizeof(struct desc))
		return "an indirect table whose size is no multiple of 16";
	if (desc->len / sizeof(struct desc) > vq->size)
		return "an indirect table with more entries than the ring";
	return NULL;
}

/* Split: entries are linked by `next`. Packed: they follow each other, and only WRITE has a meaning. */
void parse_indirect(struct virtq *vq, struct chain *chain, const struct desc *desc)
{
	bool packed = vq->setup.packed;
	uint16_t flags = packed ? desc->b : desc->a;
	const char *wrong = judge_indirect(vq, desc, flags);
	uint32_t n = desc->len / (uint32_t)sizeof(struct desc), i = 0;

	if (wrong) {
		parse_bad(chain, wrong);
		return;
	}
	for (uint32_t seen = 0; seen < n; seen++) {
		struct desc entry;

		if (!copy_entry(vq, desc->addr, i, &entry)) {
			parse_bad(chain, "an indirect table outside guest memory");
			return;
		}
		flags = packed ? entry.b : entry.a;
		if (flags & DESC_F_INDIRECT) {
			parse_bad(chain, "an indirect descriptor inside an indirect table");
			return;
		}
		parse_add(vq, chain, &entry, flags & DESC_F_WRITE);
		if (packed) {
			i++;
			continue;
		}
		if (!(flags & DESC_F_NEXT))
			return;
		i = entry.b;
		if (i >= n) {
			parse_bad(chain, "an indirect table whose next is past its end");
			return;
		}
	}
	if (!packed)
		parse_bad(chain, "an indirect table that runs in a circle");
}

void parse_end(struct virtq *vq, struct chain *chain, uint32_t n_descs)
{
	chain->pub.n_slots = (uint16_t)n_descs;
	vq->busy[chain->pub.id] = 1;
	vq->window[(vq->window_head + vq->window_len) & vq->mask] = (uint16_t)(chain - vq->chains);
	vq->window_len++;
	vq->window_slots += n_descs;
}

void parse_drop(struct virtq *vq, struct chain *chain)
{
	vq->free_chains[vq->n_free++] = (uint16_t)(chain - vq->chains);
}
