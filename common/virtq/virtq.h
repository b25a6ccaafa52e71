#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/map.h"
#include "virtq/ledger.h"
#include "virtq/payload.h"
#include "virtq/types.h"

/*
 * A virtqueue, split or packed, seen from the device. The order of calls is the order of the data
 * path:
 *
 *   virtq_fill()      parse what the driver made available into the window (not yet taken)
 *   virtq_window()    look at a parsed chain
 *   virtq_ask()       have its memory brought to the CPU
 *   virtq_take()      take the first n of the window: they are in flight, and in the ledger
 *   virtq_complete()  stage the used entry of a taken chain
 *   virtq_finish()    both at once, when the device is done before it takes
 *   virtq_publish()   give all staged entries to the driver at once
 *   virtq_call_due()  whether the driver wants a notification
 *
 * What the driver wrote is copied once, checked in the copy, and never read again.
 *
 * Thread: a ring belongs to one thread at a time, unless a function says otherwise. Nothing blocks,
 * and nothing allocates after virtq_start().
 */

struct virtq;

/**
 * virtq_start() - begin a ring, or go on with it
 * @ret_vq:   [out] set only on 0; the caller's until virtq_stop()
 * @setup:    [in]  copied; what it points to is borrowed until virtq_stop()
 * @map:      [in]  guest memory; borrowed until virtq_stop()
 * @queue:    [in]  the ring's slot in the ledger; borrowed until virtq_stop()
 * @inflight: [in]  the ring's in-flight region of at least inflight_bytes(size, packed); borrowed
 *                  until virtq_stop()
 *
 * State:   When the ledger knows start_id, the ring goes on where it was: chains that were taken
 *          and not published come first in the window again, oldest first. The same happens when
 *          the ledger does not know inflight_id and the region is not new, because the region's
 *          last user served this ring before. Otherwise the ring begins at base. If the ring
 *          contradicts that base and shows a better one, it begins there, and virtq_place() tells.
 *          A ring that goes on is marked dirty as far as its former server may have written.
 * Errors:  0 | VIRTQ_E_ADDRESS, _SIZE, _BASE, _BROKEN: the peer's | VIRTQ_E_LATER | -ENOMEM.
 * Cost:    O(size), with allocations.
 * Spec:    virtio 1.2, 2.7 and 2.8; vhost-user, "Inflight I/O tracking".
 */
int virtq_start(struct virtq **ret_vq, const struct virtq_setup *setup, struct map *map,
	struct ledger_queue *queue, void *inflight);

/** virtq_stop() - end of use; the position stays in the ledger. Chains in the window that were not
 * taken are as if never seen; those that were are a successor's. NULL is fine; returns NULL */
struct virtq *virtq_stop(struct virtq *vq);

/** virtq_base() - where the ring stands, encoded as in GET_VRING_BASE; see ledger_base() */
uint32_t virtq_base(const struct virtq *vq);

/** virtq_place() - how virtq_start() found out where it begins */
enum virtq_place virtq_place(const struct virtq *vq);

/** virtq_set_log() - how writes to the ring itself are marked from now on, while the map has a log:
 * those to a split ring's used ring as if it lay at log_gpa, and only if `log` is set. All writes
 * to a packed ring are marked where they are. The device is paused. */
void virtq_set_log(struct virtq *vq, bool log, struct gpa log_gpa);

/** virtq_mark_window() - the first n_bytes of the window's writable memory were written, by a
 * device that will not complete them: it writes before it takes. Cost: a predicted branch without a
 * log */
void virtq_mark_window(struct virtq *vq, uint64_t n_bytes);

/** virtq_remap() - guest memory changed: look the ring's addresses up again, and forget the window.
 * The device is paused. Errors as virtq_start(); after one, only virtq_stop() may follow */
int virtq_remap(struct virtq *vq);

#define VIRTQ_FILL_BROKEN INT_MIN /* of virtq_fill(); no errno: positive numbers are counts there */

/** virtq_fill() - parse available chains until the window holds n, or no more can be parsed
 * Returns: number of chains in the window (0 .. n) | VIRTQ_FILL_BROKEN: the window is empty.
 * Cost: O(chains); one acquire load of the available index (split) for each call that needs more */
int virtq_fill(struct virtq *vq, unsigned int n);

/** virtq_window() - the i-th chain of the window; i is below virtq_window_len(). Owner: the ring;
 * valid until the chain is completed, or the device is paused. A death from here on is put down to
 * this chain */
struct virtq_chain *virtq_window(struct virtq *vq, unsigned int i);

/** virtq_ask() - a hint: the first n_bytes of the window's i-th chain are used soon. The CPU asks
 * for their cache lines, for writing if the device may write them; i is below virtq_window_len() */
void virtq_ask(struct virtq *vq, unsigned int i, size_t n_bytes);

/** virtq_window_len() - chains parsed and not taken */
unsigned int virtq_window_len(const struct virtq *vq);

/** virtq_waits() - whether virtq_fill() left a chain for later, because the map may get its memory
 * (MAP_E_LATER). Nothing behind it is parsed, and virtq_kick_on() reports no work, until the map
 * has changed and virtq_remap() was called */
bool virtq_waits(const struct virtq *vq);

/** virtq_all_posted() - whether the window cannot grow before a chain is completed: it holds every
 * descriptor of the ring, or there is no storage for a longer chain */
bool virtq_all_posted(const struct virtq *vq);

/** virtq_take() - the first n chains of the window, at most all of it, are in flight now */
void virtq_take(struct virtq *vq, unsigned int n);

/** virtq_complete() - stage the used entry of a taken chain, which is not the caller's any more.
 * n_bytes reach from the beginning of its writable part to the last byte that was written; what is
 * more than there is, is cut. With setup.in_order it is the oldest of those that were taken */
void virtq_complete(struct virtq *vq, const struct virtq_chain *chain, uint32_t n_bytes);

/** virtq_finish() - virtq_take() and virtq_complete() at once, for a device that is done with the
 * first n chains already; n_bytes has the length for each; NULL: nothing was written */
void virtq_finish(struct virtq *vq, unsigned int n, const uint32_t *n_bytes);

/** virtq_publish() - the driver sees all staged entries, in the order in which they were staged */
void virtq_publish(struct virtq *vq);

/** virtq_call_due() - whether the driver wants a notification of what was published since the last
 * call of this function. virtq_call_wanted() - the same, but true changes nothing, so that it may
 * be asked again later, about all until then. Cost: a full fence, when anything was published */
bool virtq_call_due(struct virtq *vq);
bool virtq_call_wanted(struct virtq *vq);

/** virtq_kick_off() - the driver need not kick (a hint). virtq_kick_on() - ask for a kick at the
 * next chain; true: there is work already. Chains in the window count as seen. Cost: full fence */
void virtq_kick_off(struct virtq *vq);
bool virtq_kick_on(struct virtq *vq);

/** virtq_error() - the rule broken, after VIRTQ_E_BROKEN or VIRTQ_FILL_BROKEN; a static text */
const char *virtq_error(const struct virtq *vq);

/** virtq_is_blank() - whether the ring in memory is as if no driver had ever written it. Thread:
 * any; the ring need not be paused. Cost: O(size) in a packed ring */
bool virtq_is_blank(const struct virtq *vq);

/** virtq_counters() - the ring's counters, in the ledger; valid until virtq_stop() */
struct ledger_counters *virtq_counters(struct virtq *vq);

/** virtq_count_item() - something was moved as a whole. virtq_count_drop() - something was dropped,
 * and why. Thread: the one that serves the ring */
void virtq_count_item(struct virtq *vq);
void virtq_count_drop(struct virtq *vq, enum ledger_drop why);

/** virtq_again_len() - chains that a former worker had taken and not published, and that are not
 * taken yet: they come before all others in the window. Cost: their number. */
unsigned int virtq_again_len(struct virtq *vq);
