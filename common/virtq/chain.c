/*
 * From descriptors to spans of memory.
 *
 * A descriptor arrives here as a copy, so what is checked is what is used. A broken rule spoils its
 * chain alone: the chain is completed unread, and the ring goes on. A descriptor of length 0 has no
 * memory, so nobody looks at its address.
 */
#include "virtq/chain.h"

#include <string.h>

/* --- Rules --- */

void chain_bad(struct slot *slot, const char *rule)
{
	struct virtq_chain *chain = &slot->chain;

	if (!chain->bad)
		chain->rule = rule;
	chain->bad = true;
	chain->n_out = chain->n_in = 0;
	chain->out_bytes = chain->in_bytes = 0;
}

static const char *judge_desc(const struct virtq_chain *chain, const struct desc *desc)
{
	if (!(desc->flags & VRING_DESC_F_WRITE) && chain->n_in)
		return "a readable descriptor follows a writable one";
	if (desc->len > UINT32_MAX - chain->in_bytes - (uint64_t)chain->out_bytes)
		return "the chain is longer than 4 GiB";
	return NULL;
}

/* The next n_bytes of guest memory become the n-th span of the chain. */
static int add_span(struct virtq *vq, struct slot *slot, unsigned int n,
	const struct map_span *span)
{
	if (n == SLOT_SPANS && slot->chain.iov == slot->few && !block_get(vq, slot, n))
		return PARSE_E_LATER;
	slot->chain.iov[n] = (struct iovec){ span->mem, (size_t)span->n_bytes };
	slot_gpas(slot)[n] = span->gpa;
	return 0;
}

static int find(struct virtq *vq, struct gpa addr, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span)
{
	int r = map_hint_find(&vq->hint, addr, n_bytes, access, ret_span);

	vq->waits |= r == MAP_E_LATER;
	return r;
}

/* All of one descriptor's memory, which may lie in several regions, from the n-th span on. */
static int add_spans(struct virtq *vq, struct slot *slot, const struct desc *desc, unsigned int *n)
{
	enum map_access access = desc->flags & VRING_DESC_F_WRITE ? MAP_WRITE : MAP_READ;
	struct map_span span = { .n_bytes = 0 };
	int r;

	for (uint64_t done = 0; done < desc->len && !slot->chain.bad; done += span.n_bytes) {
		r = find(vq, (struct gpa){ desc->addr + done }, desc->len - done, access, &span);
		if (r == MAP_E_LATER)
			return PARSE_E_LATER;
		if (r != 0)
			chain_bad(slot, "a descriptor lies outside guest memory");
		else if (*n == VIRTQ_CHAIN_SPANS_MAX)
			chain_bad(slot, "the chain has too many descriptors");
		else if (add_span(vq, slot, (*n)++, &span) != 0)
			return PARSE_E_LATER;
	}
	return 0;
}

int chain_add(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	struct virtq_chain *chain = &slot->chain;
	unsigned int had = chain->n_out + chain->n_in, n = had;
	const char *rule;

	if (chain->bad || desc->len == 0)
		return 0;
	rule = judge_desc(chain, desc);
	if (rule) {
		chain_bad(slot, rule);
		return 0;
	}
	if (add_spans(vq, slot, desc, &n) != 0)
		return PARSE_E_LATER;
	if (chain->bad)
		return 0;
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->n_in = (uint16_t)(chain->n_in + n - had);
		chain->in_bytes += desc->len;
	} else {
		chain->n_out = (uint16_t)(chain->n_out + n - had);
		chain->out_bytes += desc->len;
	}
	return 0;
}

void chain_mark_dirty(const struct virtq *vq, struct slot *slot, uint64_t n_bytes)
{
	const struct virtq_chain *chain = &slot->chain;
	const struct gpa *gpas = slot_gpas(slot);

	for (unsigned int i = chain->n_out; i < chain->n_out + chain->n_in && n_bytes; i++) {
		uint64_t n = MIN(chain->iov[i].iov_len, n_bytes);

		map_mark_dirty(vq->map, gpas[i], n);
		n_bytes -= n;
	}
}

/* --- Indirect tables --- */

/* One entry, copied once. It may be misaligned, and lie in several regions. 0 | MAP_E_* */
static int copy_entry(struct virtq *vq, uint64_t addr, struct desc *ret)
{
	struct map_span span = { .n_bytes = 0 };
	uint64_t words[2];

	for (uint64_t done = 0; done < DESC_BYTES; done += span.n_bytes) {
		int r = find(vq, (struct gpa){ addr + done }, DESC_BYTES - done, MAP_READ, &span);

		if (r != 0)
			return r;
		memcpy((uint8_t *)words + done, span.mem, span.n_bytes);
	}
	atomic_signal_fence(memory_order_seq_cst); /* what follows is about the copy */
	*ret = desc_of(words[0], words[1], vq->packed);
	return 0;
}

static const char *judge_table(const struct virtq *vq, const struct desc *desc)
{
	if (!vq->indirect)
		return "an indirect descriptor, which was not negotiated";
	if (desc->flags & VRING_DESC_F_NEXT)
		return "an indirect descriptor with a next one";
	if (desc->len == 0 || desc->len % DESC_BYTES)
		return "an indirect table whose size is no multiple of 16";
	if (vq->packed && desc->len / DESC_BYTES > VIRTQ_CHAIN_SPANS_MAX)
		return "the chain has too many descriptors";
	return NULL;
}

/* Where the next entry is: split tables are linked; packed tables are in order, and all of their
 * entries count.
 * False: this was the last. */
static bool next_entry(const struct virtq *vq, struct slot *slot, const struct desc *entry,
	uint32_t n, uint32_t *i)
{
	if (vq->packed)
		return ++*i < n;
	if (!(entry->flags & VRING_DESC_F_NEXT))
		return false;
	*i = entry->link;
	if (*i >= n)
		chain_bad(slot, "a next in an indirect table points behind it");
	return !slot->chain.bad;
}

/* The copy of an entry becomes part of the chain. */
static int add_entry(struct virtq *vq, struct slot *slot, struct desc *entry)
{
	if (entry->flags & VRING_DESC_F_INDIRECT) {
		chain_bad(slot, "an indirect descriptor in an indirect table");
		return 0;
	}
	/* A packed table that is only read may mark entries as writable: DPDK leaves what stood
	 * there before. */
	if (vq->packed && vq->setup.reads_only)
		entry->flags &= (uint16_t)~VRING_DESC_F_WRITE;
	return chain_add(vq, slot, entry);
}

/* A table may hold more entries than the ring: Linux makes such chains, and they do no harm. */
int chain_indirect(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	const char *rule = judge_table(vq, desc);
	uint32_t n = desc->len / DESC_BYTES, i = 0, seen = 0;
	uint64_t end;
	struct desc entry;
	int r;

	if (!rule && add_overflows(desc->addr, desc->len, &end))
		rule = "an indirect table lies outside guest memory";
	if (rule)
		chain_bad(slot, rule);
	while (!slot->chain.bad) {
		if (seen++ == MIN(n, (uint32_t)VIRTQ_CHAIN_SPANS_MAX)) {
			chain_bad(slot, "an indirect table is too long, or runs in a circle");
			break;
		}
		r = copy_entry(vq, desc->addr + (uint64_t)i * DESC_BYTES, &entry);
		if (r == MAP_E_LATER)
			return PARSE_E_LATER;
		if (r != 0)
			chain_bad(slot, "an indirect table lies outside guest memory");
		else if (add_entry(vq, slot, &entry) != 0)
			return PARSE_E_LATER;
		if (slot->chain.bad || !next_entry(vq, slot, &entry, n, &i))
			break;
	}
	return 0;
}
