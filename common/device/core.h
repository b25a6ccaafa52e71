#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "bus/bus.h"
#include "device/device.h"
#include "device/turn.h"
#include "device/vmm-inflight.h"
#include "fd/fdlink.h"
#include "record/record.h"

/* What device.c, apply.c and queue.c share; not for devices. */

/** struct ring_state - what is in force of one ring of the record, beside struct device_queue */
struct ring_state {
	uint64_t start_id; /* of the ring that runs or last ran here */
	uint32_t size;     /* it was started with, as the next three */
	uint64_t desc_uva, avail_uva, used_uva;
	uint64_t kick_token;
	uint64_t call_token;
	uint64_t err_token;
	const char *error; /* static text; NULL = nothing is wrong */
	uint64_t error_start_id;
	bool broken; /* the error came while it ran: it stays until the ring is started anew */
	const char *break_why; /* it is broken, and stops when it rests: static text */
	bool err_signalled;
	atomic_bool call_may_block; /* it was blocking when it came, or once blocked */
	atomic_bool call_is_socket;
	bool shows; /* its memory was seen to hold what a driver wrote; the serving thread's */
	uint8_t n_blank_kicks; /* kicks since the start while it held nothing */
	/* running, since the ring came to a chain; the serving thread's, as the next two */
	uint8_t n_empty_kicks;
	bool kicks_told;    /* the log says that it is kicked for nothing */
	uint64_t kicked_at; /* chains that the ring had come to at the last kick */
};

/** struct mapped_region - one region that is in the map now */
struct mapped_region {
	uint64_t token;
	struct map_region region;
};

static inline bool mapped_is(const struct mapped_region *mapped, const Bh__Region *region)
{
	const struct map_region *m = &mapped->region;

	return mapped->token == region->token && m->gpa.val == region->gpa &&
		m->uva.val == region->uva && m->size_bytes == region->size_bytes &&
		m->offset_bytes == region->offset_bytes;
}

struct device_core {
	struct turn turn;
	bool serves;  /* it is our turn: from here on everything is put in force */
	bool settled; /* ops->settle() and begin() are done */
	struct vault_link *vault;
	struct vault_attachment attachment;
	struct record_file *record;
	uint64_t record_id;
	struct bus_client *bus;
	Bh__Desired *applied;     /* what is in force; NULL = nothing yet */
	uint64_t generation;      /* of the record as last looked at */
	const char *apply_error;  /* static text; NULL = put in force whole */
	struct ring_state *rings; /* offer.n_queues */
	/* offer.n_queues; NULL: the loop's thread does not serve it */
	struct loop_ring **loop_rings;
	struct mapped_region mapped[MAP_REGIONS_MAX];
	size_t n_mapped;
	struct inflight_map inflight;
	/* device->state is a mapping of its own; 0 = it is the ledger's */
	size_t state_mapping_bytes;

	uint64_t report_generation; /* of the last report made */
	bool report_open;           /* one is on its way */
	bool report_due;            /* something changed since */
	bool watch_open;
	char quarantine[160];   /* why nothing of the record is put in force; "" = all is */
	atomic_uint blank_ring; /* for blank_look(): one behind the ring's number; 0 = none */
	_Atomic uint64_t
		/* the last one whose operator was told that guest memory shows nothing */
		blank_session;
	bool waits;   /* the last record is not in force before rings have come to rest */
	bool started; /* the first record is in force, and was reported */

	int wake_fd; /* device_queue_broken(), from any thread, leaves a note below */
	pthread_mutex_t broken_lock;
	const char **broken; /* offer.n_queues static texts; NULL = fine */
};

static inline bool core_has_mapped(const struct device_core *core, const Bh__Region *region)
{
	for (size_t i = 0; i < core->n_mapped; i++)
		if (mapped_is(&core->mapped[i], region))
			return true;
	return false;
}

/** apply_desired() - make the device look like the record; takes desired over (always). -EAGAIN =
 * nothing was done, since the memory manager is away (after 5 s of trying): the record is looked at
 * again when it is back. -EINPROGRESS = a ring comes to rest first: the caller reads the record
 * again when the loop is woken. */
int apply_desired(struct device *device, Bh__Desired *desired);

/** apply_note() - this record is what was looked at last; takes desired over (always) */
static inline void apply_note(struct device_core *core, Bh__Desired *desired)
{
	if (core->applied)
		bh__desired__free_unpacked(core->applied, NULL);
	core->applied = desired;
	core->generation = desired->generation;
}

/** apply_memory() - standing by: map what the record names, and nothing else; else as
 * apply_desired() */
int apply_memory(struct device *device, Bh__Desired *desired);

/** quarantine_holds() - whether an input is to be kept from killing us again; looked at with every
 * record, since an operator may release the device */
bool quarantine_holds(struct device *device);

/** apply_broken() - stop the rings that device_queue_broken() named */
void apply_broken(struct device *device);

/** wake_loop() - it looks at broken rings, and at the record if that waits. Any thread. */
void wake_loop(struct device_core *core);

/** queue_set_call() - take a call descriptor over (or -1); a running ring's is called once */
void queue_set_call(struct device_queue *queue, int fd);

/** queue_exchange_call() - as queue_set_call() of a ring that has one and runs on meanwhile, for
 * one that is not -1 */
void queue_exchange_call(struct device_queue *queue, int fd);

/** queue_signal_call() - notify the driver, whether it wants it or not; counts */
void queue_signal_call(struct device_queue *queue);

/** queue_signal_err() - tell the VMM, once for each start, that the ring is in error */
void queue_signal_err(struct device_queue *queue);

/** queue_look_at_memory() - a ring was kicked that has shown nothing yet: is it that guest memory
 * is not shared? Its serving thread; the loop is woken where blank_look() is to say. */
void queue_look_at_memory(struct device_queue *queue);
/** blank_look() - tell the operator, if it is so; loop's thread */
void blank_look(struct device *device);

/** device_state_open() - device->state, when the ledger is open; 0 | negative errno */
int device_state_open(struct device *device);
/** device_state_close() - before the ledger is closed */
void device_state_close(struct device *device);
