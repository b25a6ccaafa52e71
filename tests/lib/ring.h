#ifndef TESTS_LIB_RING_H
#define TESTS_LIB_RING_H

/*
 * The driver side of a virtqueue, split or packed, which checks everything the device does. Each
 * buffer must be returned exactly once, with a valid length. Nothing may be written outside
 * writable buffers, nor beyond the reported length. The driver's parts of the ring must not change.
 *
 * The first fault is stored in ring.fault; from then on every call returns -EBADMSG.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

#define RING_MAX_SEGS 32
#define RING_FILL 0xa5 /* fill value of writable buffers */

struct ring_desc { /* both layouts are 16 bytes */
	uint64_t addr;
	uint32_t len;
	uint16_t a; /* split: flags, packed: id */
	uint16_t b; /* split: next, packed: flags */
};

enum {
	RING_DESC_NEXT = 1,
	RING_DESC_WRITE = 2,
	RING_DESC_INDIRECT = 4,
	RING_DESC_AVAIL = 1 << 7,
	RING_DESC_USED = 1 << 15,
};

struct ring_seg {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

struct ring_config {
	uint16_t index; /* number of the virtqueue */
	uint16_t size;
	uint16_t base; /* initial position of both sides: split index, packed slot | wrap << 15 */
	bool packed;
	bool event_idx;
	bool in_order;
	bool indirect;              /* use indirect tables */
	uint64_t desc, avail, used; /* guest addresses; all 0: allocate */
};

struct ring_used {
	void *cookie;
	uint32_t len;
	bool len_known; /* false for buffers that an in-order batch skipped */
};

struct ring_buf;

struct ring {
	struct ring_config cfg;
	struct guest *g;              /* borrowed */
	int kick_fd, call_fd, err_fd; /* eventfds; owned */
	int call_peer_fd;             /* passed to the back-end; -1: call_fd itself; owned */
	uint64_t n_kicks, n_calls;
	bool want_calls;
	struct ring_desc *desc;   /* guest memory */
	uint16_t *avail, *used;   /* guest memory: driver and device areas as u16 */
	struct ring_desc *shadow; /* what the driver last wrote to desc */
	struct ring_buf *bufs;    /* by buffer id */
	uint16_t *free_ids;       /* split: descriptors, packed: buffer ids */
	uint16_t n_free_ids, n_free_desc;
	uint16_t *order;           /* ids in posting order, circular with size entries */
	uint64_t n_posted, n_used; /* buffers since init */
	uint16_t next_avail;       /* split: avail index, packed: slot */
	uint16_t next_used;
	uint16_t next_desc; /* split and in order: the next descriptor to use */
	uint16_t added;     /* split: entries, packed: slots since the last kick decision */
	bool avail_wrap, used_wrap;
	uint16_t batch_left; /* buffers of an in-order batch not handed out yet */
	uint16_t batch_id;
	uint32_t batch_len;
	char fault[200];
};

/* 0 or a negative errno; initializes the ring without telling the back-end */
int ring_init(struct ring *r, struct guest *g, const struct ring_config *cfg);
void ring_deinit(struct ring *r);

/* 0 | -ENOSPC ring full | -EINVAL | -EBADMSG; makes it available, does not kick */
int ring_post(struct ring *r, const struct ring_seg *segs, size_t n, void *cookie);
/* 1 kicked | 0 the device has kicks disabled */
int ring_kick(struct ring *r);
void ring_kick_always(struct ring *r);

/* 1 one buffer returned | 0 none | -EBADMSG */
int ring_reap(struct ring *r, struct ring_used *ret_used);
bool ring_has_used(const struct ring *r);

/* enable or disable calls; takes effect from the next used buffer on */
void ring_want_calls(struct ring *r, bool want);
/* 0 a buffer is used | -ETIMEDOUT | -EBADMSG used, but the requested call is missing */
int ring_wait(struct ring *r, int timeout_ms);
/* as ring_wait(), but ignores the call descriptor */
int ring_poll(struct ring *r, int timeout_ms);
/* number of calls since the last time; adds it to n_calls */
uint64_t ring_drain_calls(struct ring *r);
/* 0 the err eventfd was signalled | -ETIMEDOUT */
int ring_wait_err(struct ring *r, int timeout_ms);

/* for the back-end: user-space addresses, and the ring's current base */
void ring_addr(const struct ring *r, struct vu_addr *ret_addr);
uint32_t ring_base(const struct ring *r);
uint32_t ring_in_flight(const struct ring *r);

/* 0 or -EBADMSG: descriptors and avail ring unmodified, red zones intact */
int ring_check(struct ring *r);

#endif
