#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/map.h"
#include "virtq/ledger.h"
#include "virtq/payload.h"
#include "virtq/types.h"

/*
 * A virtqueue, split or packed, seen from the device. The order of calls is the order of the data path:
 *
 *   virtq_fill()      parse what the driver made available into the window (not yet taken)
 *   virtq_window()    look at a parsed chain
 *   virtq_take()      take the first n of the window: they are in flight, and in the ledger
 *   virtq_complete()  stage the used entry of a taken chain
 *   virtq_publish()   give all staged entries to the driver at once
 *   virtq_call_due()  whether the driver wants to be told
 *
 * What the driver wrote is copied once, checked in the copy, and never read again.
 * A virtq belongs to one thread at a time; nothing here blocks or allocates after virtq_start().
 */
struct virtq;

/**
 * virtq_start() - begin or go on with a ring
 * @map:    guest memory; borrowed until virtq_stop()
 * @queue:  the ring's slot in the ledger; borrowed
 * @inflight: the ring's in-flight region; borrowed; inflight_bytes(size, packed) at least
 *
 * State:   when the ledger knows start_id, the ring goes on where it was: chains that were taken and not
 *          published come first in the window again, oldest first. So it does when inflight_id is one that
 *          the ledger does not know, and the region is not new: who wrote it served this ring before.
 *          Otherwise it begins at base, and (split) the used index is read from the ring. A base that the ring
 *          contradicts is not believed where the ring shows a better one: virtq_place() says so.
 * Errors:  0 | VIRTQ_E_ADDRESS, _SIZE, _BASE, _BROKEN: the peer's | -ENOMEM.
 * Spec:    virtio 1.2, 2.7 and 2.8; vhost-user, "Inflight I/O tracking".
 */
int virtq_start(struct virtq **ret_vq, const struct virtq_setup *setup, struct map *map,
	struct ledger_queue *queue, void *inflight);

/** virtq_stop() - end of use; the position stays in the ledger; NULL is fine; returns NULL.
 * Chains in the window that were not taken are as if never seen. */
struct virtq *virtq_stop(struct virtq *vq);

/** virtq_base() - where the ring stands, encoded as in GET_VRING_BASE; see ledger_base() */
uint32_t virtq_base(const struct virtq *vq);
/** virtq_place() - how virtq_start() found out where it begins */
enum virtq_place virtq_place(const struct virtq *vq);

/** virtq_remap() - guest memory changed: resolve the ring addresses again, forget the window.
 * Errors as virtq_start(). The device is paused. */
int virtq_remap(struct virtq *vq);

#define VIRTQ_FILL_BROKEN INT_MIN /* no errno, since counts take the positive numbers of virtq_fill() */

/**
 * virtq_fill() - parse available chains until the window holds n, or there are no more
 *
 * Errors:  number of chains in the window (0 .. n) | VIRTQ_FILL_BROKEN, which is negative: the window is empty.
 * Cost:    one acquire load of the available index (split) for each call that needs more.
 */
int virtq_fill(struct virtq *vq, unsigned int n);

/** virtq_window() - the i-th chain of the window; valid until it is completed, or the device paused */
struct virtq_chain *virtq_window(struct virtq *vq, unsigned int i);

/** virtq_window_len() - chains parsed and not taken */
unsigned int virtq_window_len(const struct virtq *vq);

/** virtq_waits() - whether virtq_fill() left a chain for later, because the map may get its memory (MAP_E_LATER). Nothing
 * behind it is parsed, and virtq_kick_on() says no, until the map has changed and the ring is served again */
bool virtq_waits(const struct virtq *vq);

/** virtq_all_posted() - whether the window cannot grow before a chain is completed: every descriptor of the ring
 * is in it, or there is no storage for a longer chain */
bool virtq_all_posted(const struct virtq *vq);

/** virtq_take() - the first n chains of the window are in flight now */
void virtq_take(struct virtq *vq, unsigned int n);

/** virtq_complete() - stage the used entry of a taken chain; n_bytes were written into its writable part */
void virtq_complete(struct virtq *vq, const struct virtq_chain *chain, uint32_t n_bytes);

/** virtq_publish() - the driver sees all staged entries, in the order in which they were staged */
void virtq_publish(struct virtq *vq);

/** virtq_call_due() - whether the driver asked to be notified of what was published since it was last
 * asked; contains the full fence that the protocol needs. Updates the signalled position. */
bool virtq_call_due(struct virtq *vq);

/** virtq_kick_off() - the driver need not kick (a hint) */
void virtq_kick_off(struct virtq *vq);

/** virtq_kick_on() - ask for a kick at the next chain; true when chains came meanwhile: serve them first.
 * Chains in the window count as seen. */
bool virtq_kick_on(struct virtq *vq);

/** virtq_error() - the rule that the driver broke, after VIRTQ_E_BROKEN; a static text */
const char *virtq_error(const struct virtq *vq);

/** virtq_is_blank() - whether the ring in memory is as if no driver had ever written it; any thread, unpaused */
bool virtq_is_blank(const struct virtq *vq);

/** virtq_counters() - of this ring, in the ledger */
struct ledger_counters *virtq_counters(struct virtq *vq);
