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
 * What is common to every worker: watch the record, make the device look like it, report. A device
 * adds one table, struct device_ops. First start, restart after a crash and ordinary operation are
 * one path: the difference between the record and what is in force is applied, step by step, each
 * step idempotent.
 */

struct device;

/** struct device_ops - THE table of a device. It must have type and serve(); absent entries do
 * nothing, or what their line says. All but serve() are called in the loop's thread. */
struct device_ops {
	const char *type;  /* as in the configuration */
	size_t data_bytes; /* of device->data, zeroed */
	/* device->state survives the process, and the release: it grows at its end alone, each part
	 * keeps its place and meaning, and zeros are a part that no release has written yet. An
	 * earlier release leaves alone what it does not know. */
	uint32_t state_bytes;
	/* of the device's first release, whose ledgers were laid out with it; never changed */
	uint32_t state_first_bytes;

	/* A start has five steps; one who stands by takes the first and third at once, the others
	 * when its turn has come and the guest waits. Errors: negative errno, already logged. */
	/** prepare() - fill device->offer, and make what needs neither the host's resource nor
	 * threads */
	int (*prepare)(struct device *device);
	/** open() - take the host resource; what is kept by device_take_kept(). No threads: rights
	 * are dropped behind it. One who stood by has none, and takes what was kept. */
	int (*open)(struct device *device);
	/** start() - make threads of the device's own, those that serve rings are there; until the
	 * first resume() they touch nothing, and take no time */
	int (*start)(struct device *device);
	/** settle() - whether what a former instance had under way is over: no I/O that it began,
	 * which the kernel or another host may still be doing, writes into guest memory or the
	 * host's resource any more. All its threads have ended; device->state tells what it noted
	 * there. 0 | -EAGAIN: not yet, ask again in a moment; no ring starts before | other: the
	 * start fails. It does not block. Absent: a device that waits for all its I/O in serve()
	 * leaves none behind. */
	int (*settle)(struct device *device);
	/** begin() - ledger and state are there (zero when new); last step before the first
	 * record */
	void (*begin)(struct device *device);
	/** close() - after prepare(), however many of the others were done; no ring is served any
	 * more */
	void (*close)(struct device *device);

	/** serve() - a turn of a ring that runs: bounded, since others wait for it. In the thread
	 * of the ring's group, by the highest index first; or in the loop's. */
	enum device_wait (*serve)(struct device_queue *queue);
	/** group() - who serves the rings of this number: a group, DEVICE_GROUP_LOOP or _NONE. It
	 * changes with features alone. Absent: groups take turns. */
	uint32_t (*group)(const struct device *device, uint32_t index);
	bool serves_disabled; /* serve() is called for disabled rings, too */
	/** drain() - the ring is to stop, or memory to be unmapped: hold no chain of it. serve()
	 * takes no more than device_queue_may_take(), completes and publishes what was taken;
	 * device_drained() says when nothing is in flight and none may be taken: at once or much
	 * later, by whatever thread. Meanwhile, as in every pause, chains stay valid. It may be
	 * called off. Called paused; serve() is called again after it. Absent: no chain is held
	 * from one serve() to the next. Not for rings of the loop's thread. */
	void (*drain)(struct device_queue *queue);
	/** resume() - the group goes on, with the rings that it has now: what is remembered of
	 * their windows is void, and host_fd is to be set, if there is one. Called paused. */
	void (*resume)(struct device_group *group);

	/* All of these are called with the rings that they concern paused; without a ring, with the
	 * whole device paused. */
	/** negotiated() - device->features changed */
	void (*negotiated)(struct device *device);
	/** reset() - the driver or VMM reset the device, or a new VMM came: forget what the guest
	 * set */
	void (*reset)(struct device *device);
	/** queue_started() - begun, or with resumed gone on where a former instance, or this one,
	 * left it */
	void (*queue_started)(struct device *device, struct device_queue *queue, bool resumed);
	/** queue_changed() - queue started, stopped (vq NULL), enabled, disabled, or got other
	 * descriptors */
	void (*queue_changed)(struct device *device, struct device_queue *queue);
	/** config_write() - the VMM wrote configuration space (range already checked) */
	void (*config_write)(struct device *device, uint32_t offset, const uint8_t *data,
		uint32_t n);
	/** reads_only() - whether the device never writes into the buffers of this ring; called at
	 * its start */
	bool (*reads_only)(unsigned int index);
	/** desired() - all of this record is in force, but for the part of it that is of this type
	 * of device: whatever of that is new. ledger.header->own_seq is kept, for what must be done
	 * once. Called unpaused. */
	void (*desired)(struct device *device, const Bh__Desired *desired);
	/** describe() - what the operator sees of the back-end: "tap vm1 (up)" */
	void (*describe)(struct device *device, char *buf, size_t n);
};

/** struct device - the worker's state */
struct device {
	const struct device_ops *ops;
	struct proc *proc;
	sd_event *event;
	const struct config_device *config;
	struct device_offer offer;
	uint64_t features;           /* acked, in force */
	bool connected;              /* a VMM is there */
	struct map *map;             /* guest memory */
	struct device_queue *queues; /* offer.n_queues */
	struct device_group *groups; /* n_groups */
	unsigned int n_groups;
	struct ledger ledger;
	void *state;              /* ops->state_bytes */
	void *data;               /* ops->data_bytes */
	struct device_core *core; /* device.c's own */
};

/** device_proc_open() - a struct proc_role's open() for a worker of this device */
int device_proc_open(struct proc *proc, const struct device_ops *ops);
/** device_proc_start(), device_proc_leave(), device_proc_stop() - its start(), leave() and
 * stop() */
int device_proc_start(struct proc *proc);
void device_proc_leave(struct proc *proc);
void device_proc_stop(struct proc *proc);
/** device_keep() - keep a descriptor (borrowed) across our death, under a name */
int device_keep(struct device *device, const char *name, int fd);
/** device_take_kept() - what a former instance kept under that name, or what whoever started us
 * passed as "NAME.DEVICE"; now the caller's; -ENOENT */
int device_take_kept(struct device *device, const char *name);
/** device_unkeep() - keep it no more; it need not be there */
int device_unkeep(struct device *device, const char *name);
/** device_config_changed() - offer.config changed: the guest is to be told (loop's thread) */
void device_config_changed(struct device *device);

/** device_report() - have the description reported anew (loop's thread) */
void device_report(struct device *device);
