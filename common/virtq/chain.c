/*
 * From descriptors to spans of memory.
 *
 * A descriptor arrives here as a copy; what is checked is what is used. A rule broken inside a chain spoils
 * that chain alone: it is completed unread, and the ring goes on. A descriptor of length 0 has no memory,
 * so its address is not looked at.
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

static int find_spans(struct virtq *vq, const struct desc *desc, struct iovec *ret, unsigned int room)
{
	struct gpa addr = { desc->addr };
	void *mem;

	if (room == 0)
		return -MAP_E_OUTSIDE;
	mem = map_gpa_hinted(vq->map, &vq->hint, addr, desc->len);
	if (!mem)
		return map_spans(vq->map, addr, desc->len, ret, room);
	*ret = (struct iovec){ mem, desc->len };
	return 1;
}

int chain_add(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	struct virtq_chain *chain = &slot->chain;
	unsigned int n = chain->n_out + chain->n_in;
	bool few = chain->iov == slot->few;
	const char *rule;
	int got;

	if (chain->bad || desc->len == 0)
		return 0;
	rule = judge_desc(chain, desc);
	if (rule) {
		chain_bad(slot, rule);
		return 0;
	}
	got = find_spans(vq, desc, &chain->iov[n], (few ? SLOT_SPANS : VIRTQ_CHAIN_SPANS_MAX) - n);
	if (got < 0 && few) {
		if (!block_get(vq, slot, n))
			return PARSE_E_LATER;
		got = find_spans(vq, desc, &chain->iov[n], VIRTQ_CHAIN_SPANS_MAX - n);
	}
	if (got < 0) {
		chain_bad(slot, n == VIRTQ_CHAIN_SPANS_MAX ? "the chain has too many descriptors"
							   : "a descriptor lies outside guest memory");
		return 0;
	}
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->n_in = (uint16_t)(chain->n_in + got);
		chain->in_bytes += desc->len;
	} else {
		chain->n_out = (uint16_t)(chain->n_out + got);
		chain->out_bytes += desc->len;
	}
	return 0;
}

/* --- Indirect tables --- */

/* One entry, copied once. It may be misaligned, and lie in two regions. */
static bool copy_entry(struct virtq *vq, uint64_t addr, struct desc *ret)
{
	uint64_t words[2];
	struct iovec spans[2];
	void *mem = map_gpa_hinted(vq->map, &vq->hint, (struct gpa){ addr }, DESC_BYTES);
	int n;

	if (mem) {
		memcpy(words, mem, DESC_BYTES);
	} else {
		n = map_spans(vq->map, (struct gpa){ addr }, DESC_BYTES, spans, 2);
		if (n < 0)
			return false;
		memcpy(words, spans[0].iov_base, spans[0].iov_len);
		if (n == 2)
			memcpy((uint8_t *)words + spans[0].iov_len, spans[1].iov_base, spans[1].iov_len);
	}
	atomic_signal_fence(memory_order_seq_cst); /* what follows is about the copy */
	*ret = desc_of(words[0], words[1], vq->packed);
	return true;
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

/* Where the entry after this one is: split tables are linked, packed ones are in order, and each entry
 * of theirs counts. False: it was the last. */
static bool next_entry(const struct virtq *vq, struct slot *slot, const struct desc *entry, uint32_t n,
	uint32_t *i)
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

/* A table may hold more entries than the ring: Linux makes such chains, and they do no harm. Packed tables that
 * are only read may say of entries that these be written: DPDK leaves what stood there before. */
int chain_indirect(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	const char *rule = judge_table(vq, desc);
	uint32_t n = desc->len / DESC_BYTES, i = 0, seen = 0;
	uint64_t end;
	struct desc entry;

	if (!rule && add_overflows(desc->addr, desc->len, &end))
		rule = "an indirect table lies outside guest memory";
	if (rule)
		chain_bad(slot, rule);
	while (!slot->chain.bad) {
		if (seen++ == MIN(n, (uint32_t)VIRTQ_CHAIN_SPANS_MAX)) {
			chain_bad(slot, "an indirect table is too long, or runs in a circle");
		} else if (!copy_entry(vq, desc->addr + (uint64_t)i * DESC_BYTES, &entry)) {
			chain_bad(slot, "an indirect table lies outside guest memory");
		} else if (entry.flags & VRING_DESC_F_INDIRECT) {
			chain_bad(slot, "an indirect descriptor in an indirect table");
		} else {
			if (vq->packed && vq->setup.reads_only)
				entry.flags &= (uint16_t)~VRING_DESC_F_WRITE;
			if (chain_add(vq, slot, &entry) != 0)
				return PARSE_E_LATER;
			if (!next_entry(vq, slot, &entry, n, &i))
				break;
		}
	}
	return 0;
}
