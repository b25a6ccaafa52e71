#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "bus/bus.h"
#include "device/device.h"
#include "device/mapped.h"
#include "device/turn.h"
#include "device/vmm-inflight.h"
#include "fd/fdlink.h"
#include "record/record.h"

/* Shared by the files of common/device; not for devices. */

/** struct ring_state - what is applied of a ring of the record, beside struct device_queue */
struct ring_state {
	uint64_t start_id; /* of the ring that is running or last ran */
	uint32_t size;     /* at the last start, as are the next three */
	uint64_t desc_uva, avail_uva, used_uva;
	uint64_t log_gpa; /* of the used ring; RING_UNLOGGED = it is not logged */
	uint64_t kick_token;
	uint64_t call_token;
	uint64_t err_token;
	const char *error; /* static text; NULL = no error */
	uint64_t error_start_id;
	bool broken;           /* the error occurred while running: it stays until the next start */
	const char *break_why; /* why the ring is broken and stops once drained: static text */
	bool err_signalled;
	atomic_bool call_may_block; /* it was blocking when received, or has blocked once */
	atomic_bool call_is_socket;
	bool shows;            /* the driver has written to the ring; serving thread only */
	uint8_t n_blank_kicks; /* kicks since the start while the ring was blank */
	/* consecutive kicks without a new chain; serving thread only, as are the next two */
	uint8_t n_empty_kicks;
	bool kicks_told;    /* the useless kicks have been logged */
	uint64_t kicked_at; /* the ring's chain count at the last kick */
};

struct dirty_log;
struct shmem;

struct device_core {
	struct turn turn;
	bool serves;  /* this instance has the turn, and applies records in full */
	bool settled; /* ops->settle() and begin() have completed */
	struct vault_link *vault;
	int bell_fd; /* rings when the record is newer; -1: the watch says so */
	sd_event_source *bell_source;
	struct vault_attachment attachment;
	struct record_file *record;
	uint64_t record_id;
	struct bus_client *bus;
	Bh__Desired *applied;     /* the last record applied; NULL = none yet */
	uint64_t generation;      /* of the last record read */
	const char *apply_error;  /* static text; NULL = applied completely */
	struct ring_state *rings; /* offer.n_queues */
	/* offer.n_queues; an entry is NULL if a thread serves the ring */
	struct loop_ring **loop_rings;
	struct mapped_region mapped[MAP_REGIONS_MAX];
	size_t n_mapped;
	struct inflight_map inflight;
	struct dirty_log *log;      /* NULL = nothing is marked */
	struct shmem *shmem;        /* NULL = nothing was mapped yet; see shmem-set.h */
	size_t state_mapping_bytes; /* of device->state; 0 = it is in the ledger */

	uint64_t report_generation; /* of the last report */
	uint64_t reported_epoch;    /* shmem_epoch of the last report before this instance */
	bool report_open;           /* a report is in flight */
	bool report_due;            /* state has changed since the last report */
	bool watch_open;
	bool was_left;          /* the previous worker ended in order: the pause is known */
	uint64_t told_features; /* the journal has these */
	char told_status[160];  /* the service manager has this */
	char quarantine[160];   /* why no record is applied; "" = not quarantined */
	atomic_uint blank_ring; /* for blank_look(): 1 + the ring's number; 0 = none */
	/* the last one for which blank guest memory was reported */
	_Atomic uint64_t blank_session;
	struct transfer *transfer; /* of the device's state; see transfer.h */
	bool waits;                /* the last record waits for rings to drain */
	bool started;              /* the first record is applied and reported */

	int wake_fd; /* eventfd: a thread has written to broken[], see device_queue_broken() */
	pthread_mutex_t broken_lock;
	const char **broken; /* offer.n_queues static texts; NULL = not broken */
};

static inline bool core_has_mapped(const struct device_core *core, const Bh__Region *region)
{
	for (size_t i = 0; i < core->n_mapped; i++)
		if (mapped_is(&core->mapped[i], region))
			return true;
	return false;
}

/** apply_desired() - bring the device in line with the record; always consumes desired. -EAGAIN =
 * nothing was done, because the memory manager did not answer within 5 s; retried when it is back.
 * -EINPROGRESS = a ring is draining; the caller reads the record again when the loop is woken. */
int apply_desired(struct device *device, Bh__Desired *desired);

/** apply_note() - make this the last applied record; always consumes desired */
static inline void apply_note(struct device_core *core, Bh__Desired *desired)
{
	if (core->applied)
		bh__desired__free_unpacked(core->applied, NULL);
	core->applied = desired;
	core->generation = desired->generation;
}

/** apply_memory() - for a standby: map the regions that the record names, and do nothing else;
 * otherwise as apply_desired() */
int apply_memory(struct device *device, Bh__Desired *desired);

/** quarantine_holds() - whether the device must not be served, to avoid another crash by the same
 * input; checked with every record, since the operator may release the device at any time */
bool quarantine_holds(struct device *device);

/** apply_broken() - stop the rings that were passed to device_queue_broken() */
void apply_broken(struct device *device);

/** wake_loop() - make the loop check for broken rings and a pending record. Any thread. */
void wake_loop(struct device_core *core);

/** queue_set_call() - set the call descriptor (owned; -1 = none); notifies if the ring runs */
void queue_set_call(struct device_queue *queue, int fd);

/** queue_exchange_call() - as queue_set_call(), while the ring is running. Both the old and the
 * new descriptor must be valid. */
void queue_exchange_call(struct device_queue *queue, int fd);

/** queue_signal_call() - notify the driver unconditionally; counts */
void queue_signal_call(struct device_queue *queue);

/** queue_signal_err() - signal the ring's error to the VMM, once per start */
void queue_signal_err(struct device_queue *queue);

/** queue_look_at_memory() - check for unshared guest memory after a kick of a ring that has been
 * blank so far. Serving thread; wakes the loop for blank_look() on suspicion. */
void queue_look_at_memory(struct device_queue *queue);
/** blank_look() - log a warning if guest memory is not shared; loop thread */
void blank_look(struct device *device);

/** device_state_open() - map device->state, after the ledger is opened; 0 | negative errno */
int device_state_open(struct device *device);
/** device_state_close() - unmap it, before the ledger is closed */
void device_state_close(struct device *device);
