#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proc/proc.h"
#include "record.pb-c.h"
#include "guest/map.h"
#include "device/offer.h"
#include "device/queue.h"
#include "virtq/ledger.h"

/*
 * The part common to all workers: watch the record, apply it to the device, report. A device adds
 * one table, struct device_ops. First start, restart after a crash and normal operation share one
 * path: the difference between the record and the current state is applied in idempotent steps.
 */

struct device;

/** struct device_ops - the table of a device. type and serve() are mandatory; other entries may
 * be absent, which means no action unless stated otherwise. All but serve() run in the loop
 * thread. */
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
	 * The drain may be cancelled. Called paused; serve() is called after it. Absent: no chain
	 * is held between calls of serve(). Not used for rings of the loop thread. */
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
	/** describe() - describe the back-end for the operator: "tap vm1 (up)" */
	void (*describe)(struct device *device, char *buf, size_t n);
};

/** struct device - the worker's state */
struct device {
	const struct device_ops *ops;
	struct proc *proc;
	sd_event *event;
	const struct config_device *config;
	struct device_offer offer;
	uint64_t features;           /* negotiated features, in force */
	bool connected;              /* a VMM is connected */
	struct map *map;             /* guest memory */
	struct device_queue *queues; /* offer.n_queues */
	struct device_group *groups; /* n_groups */
	unsigned int n_groups;
	struct ledger ledger;
	void *state;              /* ops->state_bytes */
	void *data;               /* ops->data_bytes */
	struct device_core *core; /* private to common/device */
};

/** device_proc_open() - implements struct proc_role's open() for a worker of this device */
int device_proc_open(struct proc *proc, const struct device_ops *ops);
/** device_proc_start(), device_proc_leave(), device_proc_stop() - implement its start(), leave()
 * and stop() */
int device_proc_start(struct proc *proc);
void device_proc_leave(struct proc *proc);
void device_proc_stop(struct proc *proc);
/** device_keep() - keep a descriptor (borrowed) under a name, across restarts of the worker */
int device_keep(struct device *device, const char *name, int fd);
/** device_take_kept() - get the descriptor that a previous instance kept under this name, or that
 * the parent process passed as "NAME.DEVICE"; owned by the caller; -ENOENT = none */
int device_take_kept(struct device *device, const char *name);
/** device_unkeep() - drop a kept descriptor; it need not exist */
int device_unkeep(struct device *device, const char *name);
/** device_config_changed() - notify the guest that offer.config changed; loop thread */
void device_config_changed(struct device *device);

/** device_report() - report again, after the description changed; loop thread */
void device_report(struct device *device);
