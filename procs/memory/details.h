#pragma once

#include "bus.pb-c.h"
#include "served.h"
#include "virtq/ledger.h"

/* What a status says of a device beyond what people read at a glance: the parts of a sum, and
 * histograms. */

/** details_fill_queue() - what was moved, and why something was dropped
 * Owner: details_free_queue() frees what was added. */
void details_fill_queue(const struct ledger_queue *queue, Bh__QueueCounters *ret);
/** details_free_queue() - of zeros it is fine, too */
void details_free_queue(Bh__QueueCounters *counters);

/** details_fill_device() - pauses, and the interface on the host
 * Owner: details_free_device() frees what was added; the interface's name is the config's. */
void details_fill_device(const struct served *device, Bh__DeviceStatus *ret);
/** details_free_device() - of zeros it is fine, too */
void details_free_device(Bh__DeviceStatus *status);
