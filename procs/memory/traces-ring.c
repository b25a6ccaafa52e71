/* The place of an entry is its number, modulo the size of the ring. */
#include "traces-ring.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"

static Bh__TraceEntry **slot(struct traces *traces, uint64_t seq)
{
	return &traces->ring[seq % TRACES_MAX];
}

static void drop(Bh__TraceEntry **entry)
{
	if (*entry)
		bh__trace_entry__free_unpacked(*entry, NULL);
	*entry = NULL;
}

static Bh__TraceEntry *copy(const Bh__TraceEntry *entry)
{
	size_t n = bh__trace_entry__get_packed_size(entry);
	_cleanup_free_ uint8_t *bytes = malloc(n + 1);
	Bh__TraceEntry *own;

	check(bytes);
	bh__trace_entry__pack(entry, bytes);
	own = bh__trace_entry__unpack(NULL, n, bytes);
	check(own);
	return own;
}

void traces_add(struct traces *traces, const Bh__TraceEntry *entry)
{
	Bh__TraceEntry **place = slot(traces, traces->next);

	drop(place);
	*place = copy(entry);
	(*place)->seq = traces->next++;
}

void traces_skip(struct traces *traces, uint64_t n)
{
	for (uint64_t i = 0; i < MIN(n, (uint64_t)TRACES_MAX); i++)
		drop(slot(traces, traces->next + n - 1 - i));
	traces->next += n;
}

void traces_read(const struct traces *traces, const char *device, uint64_t from, size_t n_max,
	struct traces_part *ret)
{
	uint64_t there = traces->next > TRACES_MAX ? traces->next - TRACES_MAX : 0;
	uint64_t seq = MIN(from, traces->next);

	ret->n = 0;
	ret->lost = there > seq ? there - seq : 0;
	for (seq = MAX(seq, there); seq < traces->next && ret->n < n_max; seq++) {
		Bh__TraceEntry *entry = traces->ring[seq % TRACES_MAX];

		if (!entry && ret->n)
			break;
		if (!entry)
			ret->lost++;
		else if (!*device || strcmp(entry->device, device) == 0)
			ret->list[ret->n++] = entry;
	}
	ret->next = seq;
}

void traces_clear(struct traces *traces)
{
	for (size_t i = 0; i < TRACES_MAX; i++)
		drop(&traces->ring[i]);
}
