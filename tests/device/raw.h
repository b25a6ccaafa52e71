#ifndef TESTS_DEVICE_RAW_H
#define TESTS_DEVICE_RAW_H

/*
 * Chains put into a ring of the tests' library behind its back: it would not post what is wrong,
 * nor let anybody write into what was posted. The ring must have nothing in flight.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring.h"

struct raw_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags; /* RING_DESC_* but AVAIL and USED */
	uint16_t link;  /* split: next; packed: id */
};

enum raw_end {
	RAW_BACK,    /* as many chains as were put in came back */
	RAW_STOPPED, /* the err descriptor was signalled */
	RAW_NOTHING,
};

/* one chain of n descriptors: the table's first ones, or the ring's next ones; no kick */
void raw_put(struct ring *r, const struct raw_desc *descs, size_t n);
/* packed: the same, with the bits of AVAIL and USED turned round as the mask says */
void raw_put_marked(struct ring *r, const struct raw_desc *descs, size_t n, uint16_t turned);
/* split: this head once more, at once with the next raw_put() if `later` */
void raw_put_head(struct ring *r, uint16_t head, bool later);
/* what came of them; to be asked once for all that was put in */
enum raw_end raw_wait(struct ring *r, int timeout_ms);
/* the library's books, behind what came back */
void raw_settle(struct ring *r);

#endif
