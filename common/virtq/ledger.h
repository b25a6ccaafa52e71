#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blame.h"
#include "virtq/ledger-detail.h"

/*
 * The ledger: one memfd for each device, mapped by its worker and kept by memory. It holds what a
 * new worker must know about the rings when the old one is gone: positions, descriptors in flight
 * (in the in-flight layout of the vhost-user specification), counters, and the device's own state.
 *
 *   header, locks (locks.h) | device state | n_queues x struct ledger_queue | n_queues x in-flight
 *   region (sparse)
 *
 * Every part begins on a page, and where is said by the shape that the ledger was laid out with: a
 * release that is upgraded to, or gone back to, finds the rings where they are. What a device's
 * state has grown to since its first release goes into the rest of its page, and then into a file
 * of its own (device/state.c).
 *
 * The worker is the only writer while it lives; whoever reads checks,
 * because a worker that a guest has taken over may have written anything.
 */

#define LEDGER_MAGIC 0x524547444c484b42ULL /* "BKHLDGER" */
#define LEDGER_VERSION 1
#define LEDGER_SHAPED_AT 4096 /* from here on the shape says what lies where */

struct ledger_header {
	uint64_t magic;
	uint32_t version;
	uint32_t n_queues;
	uint32_t queue_size_max;
	uint32_t state_bytes;
	/* what of the record's counters the device has acted upon; written by common/device */
	uint64_t session;
	uint64_t reset_epoch;
	uint64_t own_seq; /* of the part that the type of device has; written by the device */
	uint64_t config_write_seq;
	uint32_t status;
	uint32_t pad;
	/* CLOCK_MONOTONIC: a worker ended in good order, and nobody serves since; 0 = none */
	uint64_t left_ns;
	/* how long that took the last time; 0 = its successor does not serve yet */
	uint64_t pause_ns;
	uint64_t shmem_epoch; /* as in the record: Observed.shmem_epoch */
	uint64_t reserved[1];
	struct blame_mark blame; /* of the worker's death; what: the ring, or LEDGER_BLAME_RECORD */
};

#define LEDGER_BLAME_RECORD UINT32_MAX /* which: the generation that was being put in force */
#define LEDGER_BLAME_NO_HEAD                                                                       \
	BLAME_WHICH_ANY /* which, of a ring: not known yet; else a head (packed: a buffer id) */

/** struct ledger_counters - written with plain stores by the thread that serves the queue: chains
 * by virtq itself, the others by the device */
struct ledger_counters {
	uint64_t chains;  /* completed */
	uint64_t bytes;   /* payload moved, headers not counted */
	uint64_t dropped; /* what could not be done, and is not the driver's fault */
	uint64_t errors;  /* chains that broke a rule */
	uint64_t kicks;   /* wake-ups by the driver */
	uint64_t calls;   /* notifications sent to the driver */
};

/** struct ledger_queue - one ring's slot; 256 bytes */
struct ledger_queue {
	uint64_t start_id; /* Ring.start_id that the rest belongs to; 0 = never used */
	uint16_t size;     /* descriptors */
	uint8_t packed;
	uint8_t running;
	uint16_t avail_idx; /* split: free running. packed: bits 0-14 slot, bit 15 wrap counter. */
	uint16_t used_idx; /* the same; each is one store, so that no reader sees half a position */
	/* slots (split: chains) between used and avail that were lost before start_id */
	uint16_t skew;
	uint8_t broken; /* stopped by a rule that the guest broke */
	uint8_t pad[5];
	struct ledger_counters counters;
	/* virtq_setup.inflight_id of the region that start_id's chains are in */
	uint64_t inflight_id;
	struct ledger_detail detail;
	uint8_t reserved[176 - sizeof(struct ledger_detail)];
};

_Static_assert(sizeof(struct ledger_queue) == 256, "a slot is 256 bytes");

struct ledger {
	struct ledger_header *header;
	void *state;                 /* ledger_state_room() bytes, zero when new */
	struct ledger_queue *queues; /* n_queues */
	size_t size_bytes;
	uint32_t n_queues; /* checked copies of what the header says */
	uint32_t queue_size_max;
	uint32_t state_bytes;
	bool read_only;
};

/** ledger_bytes() - the size of the file for a device of this shape */
size_t ledger_bytes(uint32_t n_queues, uint32_t queue_size_max, uint32_t state_bytes);

/** ledger_inflight_bytes() - the size of one queue's in-flight region, for either ring layout */
size_t ledger_inflight_bytes(uint32_t queue_size);

/**
 * ledger_open() - map a ledger, and lay it out when it is new (all zeros)
 * @ret_ledger:  [out] set only on 0; the caller's until ledger_close()
 * @fd:          [in]  borrowed, at least ledger_bytes() long
 * @state_bytes: [in]  for a new ledger; an old one keeps the room that it has
 *
 * Errors:  0 | -EINVAL: the file is too short, or the shape is senseless | -EPROTO: the ledger is
 *          not new, and has other queues or another version | other negative errno of fstat or
 *          mmap.
 * State:   the worker's: no other process writes the ledger meanwhile.
 */
int ledger_open(struct ledger *ret_ledger, int fd, uint32_t n_queues, uint32_t queue_size_max,
	uint32_t state_bytes);

/** ledger_open_existing() - map a ledger read-only, with the shape that its header tells, which is
 * checked. Owner: the caller, until ledger_close(). 0 | -ENODATA: nobody has laid it out yet |
 * -EPROTO: it is none of ours | other negative errno of fstat or mmap */
int ledger_open_existing(struct ledger *ret_ledger, int fd);

/** ledger_state_room() - bytes of state that there is room for; what nobody has written is zero */
size_t ledger_state_room(const struct ledger *ledger);

/** ledger_close() - unmap; a ledger of zeros is fine, and is what remains */
void ledger_close(struct ledger *ledger);

/** ledger_inflight() - the in-flight region of one queue; NULL for a queue that the ledger does not
 * have, and in a ledger that was opened read-only */
void *ledger_inflight(const struct ledger *ledger, uint32_t queue);

/** ledger_base() - the position of a ring without what is in flight, encoded as in GET_VRING_BASE,
 * so that chains which a dead worker had taken are offered again. The slot may hold anything, since
 * a guest may have taken over the worker that wrote it: there is an answer to any content */
uint32_t ledger_base(const struct ledger_queue *queue);
