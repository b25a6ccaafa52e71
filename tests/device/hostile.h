#ifndef TESTS_DEVICE_HOSTILE_H
#define TESTS_DEVICE_HOSTILE_H

/*
 * Descriptor chains that no honest driver posts. A row says which, in terms of both layouts, and
 * what must follow: either the chain comes back with nothing written and the ring goes on, or the
 * ring stops and its err eventfd tells. Nothing may happen to other rings, devices or processes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOSTILE_MAX_DESC 4

/* address of a bad descriptor; GOOD is a buffer of 2048 bytes of the ring's own */
enum hostile_addr {
	AT_GOOD = 0,
	AT_NOTHING,   /* far outside */
	AT_TOP,       /* 2^64 - 16 */
	AT_END,       /* the last 8 bytes of the region */
	AT_TABLE,     /* the case's indirect table */
	AT_TABLE_END, /* a table of which only the first entry lies in the region */
	AT_TABLE_ODD, /* the case's indirect table, one byte further */
	AT_DESC,      /* the ring's own descriptors */
};

enum hostile_follow {
	FAILS_ALONE, /* comes back, length 0, the ring goes on */
	STOPS,       /* err eventfd */
	EITHER,
	SERVED, /* odd, but legal: comes back, the ring goes on */
};

struct hostile_desc {
	enum hostile_addr at;
	uint32_t len;
	uint16_t flags; /* RING_DESC_* but AVAIL and USED */
	uint16_t next;  /* split: target when flags have NEXT, from the chain's first */
};

struct hostile_row {
	const char *what;
	struct hostile_desc d[HOSTILE_MAX_DESC];
	size_t n;
	struct hostile_desc table[HOSTILE_MAX_DESC];
	size_t n_table;
	enum hostile_follow follow;
	bool split_only;
};

extern const struct hostile_row hostile_tx[];
extern const size_t n_hostile_tx;
extern const struct hostile_row hostile_rx[];
extern const size_t n_hostile_rx;

#endif
