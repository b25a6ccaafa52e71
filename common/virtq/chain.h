#pragma once

#include <stdbool.h>

#include "virtq/slots.h"

/* From descriptors to spans of memory (chain.c). A descriptor arrives here as a copy, already read
 * once. */

/** chain_bad() - the chain in this slot broke a rule: it loses its spans, and keeps the first rule
 * it broke */
void chain_bad(struct slot *slot, const char *rule);

/**
 * chain_add() - append the memory of one descriptor to the chain in this slot
 *
 * A broken rule makes the chain bad, which is no failure here.
 *
 * Errors:  0 | PARSE_E_LATER: no storage until another chain is completed, or the map may have the
 *          memory later; the caller gives the chain up.
 * Cost:    no allocation; one look-up in the map.
 */
int chain_add(struct virtq *vq, struct slot *slot, const struct desc *desc);

/** chain_indirect() - append all of an indirect table, which desc points to; as chain_add() */
int chain_indirect(struct virtq *vq, struct slot *slot, const struct desc *desc);

/** chain_mark_dirty() - the first n_bytes of the chain's writable part were written; for a map with
 * a log */
void chain_mark_dirty(const struct virtq *vq, struct slot *slot, uint64_t n_bytes);

/** chain_simple() - the quick form of chain_add() for a chain of one direct descriptor in the
 * region that was used last, which nearly all chains are; false: it is not, and nothing was done */
static inline bool chain_simple(struct virtq *vq, struct slot *slot, const struct desc *desc)
{
	struct virtq_chain *chain = &slot->chain;
	struct gpa addr = { desc->addr };
	struct map_span span;

	if (unlikely(desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) ||
		unlikely(desc->len == 0) || unlikely(!map_hint_holds(&vq->hint, addr, desc->len)))
		return false;
	span = map_hint_span(&vq->hint, addr, desc->len);
	slot->few[0] = (struct iovec){ span.mem, desc->len };
	slot->few_gpas[0] = span.gpa;
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->n_in = 1;
		chain->in_bytes = desc->len;
	} else {
		chain->n_out = 1;
		chain->out_bytes = desc->len;
	}
	return true;
}
