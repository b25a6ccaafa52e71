#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proc/proc.h"
#include "record.pb-c.h"
#include "guest/map.h"
#include "device/offer.h"
#include "device/ops.h"
#include "device/queue.h"
#include "virtq/ledger.h"

/*
 * The part common to all workers: watch the record, apply it to the device, report. A device adds
 * one table, struct device_ops. First start, restart after a crash and normal operation share one
 * path: the difference between the record and the current state is applied in idempotent steps.
 */

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

/** device_is_suspended() - whether no ring runs, as at birth and since the last ring stopped.
 * Nothing is then written to guest memory, and neither driver nor VMM is notified; the frontend
 * holds back what it has to tell the VMM. The VMM moves a device's state only in this state.
 * Loop thread. */
static inline bool device_is_suspended(const struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq)
			return false;
	return true;
}

/** device_main() - a worker's main(): run a process that serves this device, until it ends
 * (proc_main()). Returns the exit status. */
int device_main(int argc, char *argv[], const struct device_ops *ops);

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
