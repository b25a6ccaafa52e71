#pragma once

#include <systemd/sd-event.h>

#include "bus/bus.h"
#include "fd/transfer.h"

/*
 * What the snapshot process does for one device: take the stream of its transfer, move the bytes,
 * and report. It judges what it reads: only a State in form reaches the device's process.
 */

/** struct hands - what every piece of work needs; borrowed */
struct hands {
	sd_event *event;
	struct vault_link *vault;
	struct bus_client *bus;
};

struct work;

/** work_begin() - of a transfer whose turn it is ours; save: it has the state
 * @hands: borrowed until work_end()
 * Returns: the work | NULL: there is no memory. */
struct work *work_begin(const struct hands *hands, const Bh__Transfer *transfer);

/** work_end() - it is not wanted any more, or was reported: close and free. NULL is fine; returns
 * NULL */
struct work *work_end(struct work *work);

/** work_is_of() - whether this is the work for that transfer */
bool work_is_of(const struct work *work, const Bh__Transfer *transfer);

/** work_go_on() - over a new connection, memory still waits for it: a report was lost, and is sent
 * again */
void work_go_on(struct work *work);
