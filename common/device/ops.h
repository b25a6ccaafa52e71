#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/queue.h"
#include "record.pb-c.h"

struct device;

/** struct device_stage - the device's own stage of a state that is loaded; borrowed */
struct device_stage {
	uint32_t version; /* 1 to ops->state_version */
	const uint8_t *data;
	size_t n_bytes;
	uint64_t features; /* acked when it was saved; all of them are offered here */
};

#define DEVICE_FIGURES_MAX 16

/** struct device_figure - "3 contexts", "4096 bytes mapped"; static texts */
struct device_figure {
	const char *name;
	const char *unit; /* "" = things are counted */
	uint64_t value;
};

/** struct device_ops - the table of a device. type and serve() are mandatory; other entries may
 * be absent, which means no action unless stated otherwise. All but serve() run in the loop
 * thread. */
/** struct feature_name - of a virtio feature, as the specification has it */
struct feature_name {
	unsigned int bit;
	const char *name;
};

struct device_ops {
	const char *type;  /* as in the configuration */
	size_t data_bytes; /* size of device->data, which is zeroed */
	/* Size of device->state, which survives the process and upgrades. Its layout only grows at
	 * the end: fields keep their place and meaning, and zeros are a field not yet written by
	 * any release. A release preserves fields it does not know. */
	uint32_t state_bytes;
	/* state_bytes in the device's first release, for which ledgers were laid out; constant */
	uint32_t state_first_bytes;

	/* Start-up has five steps. A standby runs prepare() and start() immediately, the others
	 * when it gets the turn and the guest is waiting. Errors: negative errno, already
	 * logged. */
	/** prepare() - fill device->offer, and allocate what needs neither the host resource nor
	 * threads */
	int (*prepare)(struct device *device);
	/** open() - open the host resource, or get it back by device_take_kept(). Must not create
	 * threads: rights are dropped after it. A standby has no rights, and relies on what was
	 * kept. */
	int (*open)(struct device *device);
	/** start() - create the device's own threads. The serving threads exist; they stay idle
	 * until the first resume(). */
	int (*start)(struct device *device);
	/** settle() - whether I/O of previous instances is over: none of it, in the kernel or on
	 * another host, can still write to guest memory or the host resource. Their threads have
	 * ended; device->state holds their notes. Must not block. 0 | -EAGAIN: not yet, retried
	 * shortly, no ring starts before | other: the start fails. Absent: for devices that wait
	 * for all their I/O in serve(). */
	int (*settle)(struct device *device);
	/** begin() - ledger and state are mapped (zeroed if new); the last step before the first
	 * record */
	void (*begin)(struct device *device);
	/** close() - undo prepare() and whichever later steps have run; no ring is being served */
	void (*close)(struct device *device);

	/** serve() - one turn of a running ring. Must be bounded, because other rings wait. Runs
	 * in the thread of the ring's group, highest index first, or in the loop thread. */
	enum device_wait (*serve)(struct device_queue *queue);
	/** group() - which group serves the ring: its number, DEVICE_GROUP_LOOP or _NONE. May
	 * change with features only. Absent: round-robin. */
	uint32_t (*group)(const struct device *device, uint32_t index);
	bool serves_disabled; /* call serve() for disabled rings as well */
	/** drain() - the ring must stop, or memory be unmapped: finish all its chains. From now
	 * on serve() takes at most device_queue_may_take() chains, and completes and publishes
	 * those taken. When nothing is in flight and nothing may be taken, call device_drained(),
	 * immediately or later, from any thread. Chains stay valid until then, as in any pause.
	 * The drain may be cancelled. Called paused; serve() is called after it, but for a ring of
	 * the loop thread, which must be drained at once. Absent: no chain is held between calls
	 * of serve(). */
	void (*drain)(struct device_queue *queue);
	/** resume() - the group continues with its current rings: cached window state is invalid,
	 * and host_fd must be set if there is one. Called paused. */
	void (*resume)(struct device_group *group);

	/* The following are called with the affected ring paused, or without a ring argument, with
	 * the whole device paused. */
	/** negotiated() - device->features changed */
	void (*negotiated)(struct device *device);
	/** reset() - the driver or VMM reset the device, or a new VMM connected: discard the
	 * guest's settings */
	void (*reset)(struct device *device);
	/** queue_started() - the ring was started; resumed: from the position where a previous
	 * instance, or this one, left it */
	void (*queue_started)(struct device *device, struct device_queue *queue, bool resumed);
	/** queue_changed() - the ring was started, stopped (vq NULL), enabled, disabled, or got
	 * new descriptors */
	void (*queue_changed)(struct device *device, struct device_queue *queue);
	/** config_write() - the VMM wrote to configuration space (range already checked) */
	void (*config_write)(struct device *device, uint32_t offset, const uint8_t *data,
		uint32_t n);
	/** reads_only() - whether the device never writes to buffers of this ring; called when it
	 * starts */
	bool (*reads_only)(unsigned int index);
	/** desired() - the generic part of this record is applied: apply the part specific to this
	 * device type, if it changed. ledger.header->own_seq is the device's, for actions that must
	 * be done once. Called unpaused. */
	void (*desired)(struct device *device, const Bh__Desired *desired);
	/** shmem_mapped() - the VMM has made this map, or has refused to; see shmem.h. Called
	 * unpaused, once for each map; after a restart of the worker perhaps again. */
	void (*shmem_mapped)(struct device *device, uint64_t seq, bool refused);
	/** describe() - describe the back-end for the operator: "tap vm1 (up)" */
	void (*describe)(struct device *device, char *buf, size_t n);
	/** trouble() - one line on what keeps the device from serving although the record is in
	 * force: "tap 'vm1' is gone"; unchanged: nothing does. May be NULL. */
	void (*trouble)(struct device *device, char *buf, size_t n);
	/** feature_names - of the type's own virtio features, for the journal; the last entry has
	 * no name. May be NULL */
	const struct feature_name *feature_names;
	/** figures() - the device's own numbers for the operator, as of now; returns how many of
	 * DEVICE_FIGURES_MAX were filled in. Called for each report: device_report() makes one. */
	size_t (*figures)(struct device *device, struct device_figure *ret);

	/* The device's own stage of its state (proto/state.proto). With save() and load() the
	 * device offers VHOST_USER_PROTOCOL_F_DEVICE_STATE; without, its state cannot be moved. */
	/** state_version - of the stage that save() writes; load() reads all up to it. Raised
	 * when a reader of the former one would do wrong. */
	uint32_t state_version;
	/** save() - pack what device->state says; called paused. Returns the bytes of *ret_data,
	 * which is from malloc(), the caller's, and NULL for 0 bytes. */
	size_t (*save)(const struct device *device, uint8_t **ret_data);
	/** load() - judge all of a stage, then replace device->state by it and put it in force, as
	 * after a restart of the worker. No ring runs. Features may not be negotiated yet.
	 * Errors: 0 | -EINVAL: nothing has changed, and why names field and rule. */
	int (*load)(struct device *device, const struct device_stage *stage, char *why,
		size_t n_why);
};
