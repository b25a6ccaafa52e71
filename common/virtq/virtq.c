/*
 * What both ring layouts have in common: the window, the staging of used entries, the life of a
 * ring.
 *
 * The window holds the chains that were parsed and not yet taken. A device looks ahead in it (are
 * there enough buffers for a large frame?) without owning anything: when the window is dropped, the
 * device has never looked.
 *
 * The ledger must make sense to a reader after the worker died at any instruction. Taking first
 * enters chains into the in-flight region and then moves the available position. Publishing moves
 * the used position after the driver and the region have the chains. So a position never counts a
 * chain that neither ring nor region knows. When a step was half done, a successor sees that in the
 * region and in the ring (recover.c), and derives the positions anew.
 *
 * Completing only stages. The region and the ring change when the batch is published, so taking and
 * publishing are never half done at the same time.
 */
#include "virtq/virtq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "virtq/chain.h"
#include "virtq/packed.h"
#include "virtq/recover.h"
#include "virtq/slots.h"
#include "virtq/split.h"

/* --- Life --- */

static bool size_is_right(const struct virtq_setup *setup)
{
	if (setup->size == 0 || setup->size > VIRTQ_SIZE_MAX)
		return false;
	return setup->packed || is_power_of_2(setup->size);
}

static int map_ring(struct virtq *vq)
{
	vq->hint = (struct map_hint){ .map = vq->map };
	return vq->packed ? packed_map(vq) : split_map(vq);
}

/* Whether somebody may have written to the ring, and not marked it: since it was started, or since
 * a former start that nobody has stopped. */
static bool had_former(const struct virtq *vq)
{
	return vq->ledger->running || vq->ledger->start_id == vq->setup.start_id ||
		(vq->setup.inflight_id && vq->ledger->inflight_id != vq->setup.inflight_id);
}

static int begin_or_go_on(struct virtq *vq)
{
	struct ledger_queue *ledger = vq->ledger;
	bool same_region = ledger->inflight_id == vq->setup.inflight_id;
	int r;

	if (ledger->start_id && ledger->start_id == vq->setup.start_id && same_region) {
		if (ledger->size != vq->size || ledger->packed != vq->packed)
			return VIRTQ_E_BROKEN;
		return vq->packed ? packed_recover(vq) : split_recover(vq);
	}
	if (vq->setup.inflight_id && !same_region)
		r = vq->packed ? packed_adopt(vq) : split_adopt(vq);
	else
		r = vq->packed ? packed_begin(vq) : split_begin(vq);
	step();
	/* last: a successor that still finds the old id adopts a region that is in order */
	if (r == 0)
		ledger->inflight_id = vq->setup.inflight_id;
	return r;
}

static struct virtq *allocate(const struct virtq_setup *setup)
{
	struct virtq *vq = calloc(1, sizeof(*vq));
	int r;

	if (!vq)
		return NULL;
	vq->setup = *setup;
	vq->size = setup->size;
	vq->packed = setup->packed;
	vq->event_idx = setup->event_idx;
	vq->indirect = setup->indirect;
	vq->in_order = setup->in_order;
	r = slots_new(vq);
	if (r == 0 && vq->packed)
		r = packed_new(vq);
	return r == 0 ? vq : virtq_stop(vq);
}

static void forget_window(struct virtq *vq)
{
	for (uint32_t i = 0; i < vq->window_len; i++) {
		struct slot *slot = window_slot(vq, i);

		vq->busy[slot->chain.id] = 0;
		if (slot->again)
			vq->again_parsed--;
		else if (vq->packed)
			vq->ring.live_slots -= slot->chain.n_slots;
		slot_put(vq, slot);
	}
	vq->window_len = 0;
	vq->window_slots = 0;
	vq->parsed = vq->taken;
}

static int fill(struct virtq *vq, unsigned int n)
{
	return vq->packed ? packed_fill(vq, n) : split_fill(vq, n);
}

static void mark_chains(struct virtq *vq)
{
	for (uint32_t i = 0; i < vq->window_len; i++) {
		struct slot *slot = window_slot(vq, i);

		chain_mark_dirty(vq, slot, slot->chain.in_bytes);
	}
}

/* What a dead predecessor has written, and died before it marked it: chains that it had taken, or
 * only looked at, as far as it had storage for them; and anything in the ring. */
static void mark_former(struct virtq *vq)
{
	BLAME_SCOPE(vq->setup.blame, vq->setup.index, LEDGER_BLAME_NO_HEAD);

	if (vq->packed)
		packed_mark_ring(vq);
	else
		split_mark_ring(vq);
	(void)fill(vq, vq->size); /* a broken ring is found broken again */
	mark_chains(vq);
	forget_window(vq);
	vq->waits = false;
}

int virtq_start(struct virtq **ret_vq, const struct virtq_setup *setup, struct map *map,
	struct ledger_queue *ledger, void *inflight)
{
	struct virtq *vq;
	bool former;
	int r;

	if (!size_is_right(setup))
		return VIRTQ_E_SIZE;
	vq = allocate(setup);
	if (!vq)
		return -ENOMEM;
	vq->map = map;
	vq->ledger = ledger;
	if (vq->packed)
		vq->ring.region = inflight;
	else
		vq->split.region = inflight;
	former = had_former(vq);
	r = map_ring(vq);
	if (r == 0)
		r = begin_or_go_on(vq);
	if (r != 0) {
		virtq_stop(vq);
		return r;
	}
	if (!vq->packed)
		vq->split.avail_seen = vq->taken;
	if (former && map->log)
		mark_former(vq);
	if (setup->blame && setup->blame->deaths && setup->blame->what == setup->index)
		vq->suspects = vq->size;
	*ret_vq = vq;
	return 0;
}

struct virtq *virtq_stop(struct virtq *vq)
{
	if (!vq)
		return NULL;
	slots_free(vq);
	if (vq->packed)
		packed_free(vq);
	free(vq);
	return NULL;
}

void virtq_set_log(struct virtq *vq, bool log, struct gpa log_gpa)
{
	vq->setup.log = log;
	vq->setup.log_gpa = log_gpa;
}

uint32_t virtq_base(const struct virtq *vq)
{
	return ledger_base(vq->ledger);
}

enum virtq_place virtq_place(const struct virtq *vq)
{
	return vq->place;
}

int virtq_remap(struct virtq *vq)
{
	forget_window(vq);
	vq->waits = false;
	return map_ring(vq);
}

/* --- The window --- */

#define LINE_BYTES 64
#define ASK_LINES_MAX 4 /* of a span: the CPU notices by itself that the rest is next */

/* A line that another CPU wrote last comes once, and for writing, if it is asked for so. Compilers
 * take the instruction for an extension, which all x86-64 CPUs accept. */
static inline void ask_for_line(const uint8_t *line, bool write)
{
#ifdef __x86_64__
	if (write) {
		__asm__ volatile("prefetchw %0" : : "m"(*line));
		return;
	}
#endif
	__builtin_prefetch(line, 0);
}

static inline void ask_for_lines(const struct iovec *span, size_t n_bytes, bool write)
{
	const uint8_t *line = span->iov_base;
	const uint8_t *end =
		line + MIN(MIN(span->iov_len, n_bytes), (size_t)LINE_BYTES * ASK_LINES_MAX);

	for (line -= (uintptr_t)line % LINE_BYTES; line < end; line += LINE_BYTES)
		ask_for_line(line, write);
}

int virtq_fill(struct virtq *vq, unsigned int n)
{
	int r;

	if (unlikely(vq->error)) {
		blame_unset();
		return VIRTQ_FILL_BROKEN;
	}
	if (unlikely(map_poisoned(vq->map))) {
		forget_window(vq);
		(void)ring_broken(vq,
			"guest memory went away under it: the VMM has cut its file short");
		return VIRTQ_FILL_BROKEN;
	}
	blame_head(vq, LEDGER_BLAME_NO_HEAD);
	if (vq->window_len < n && !vq->starved) {
		vq->waits = false;
		r = fill(vq, n);
		if (unlikely(r != 0)) {
			forget_window(vq);
			blame_unset();
			return VIRTQ_FILL_BROKEN;
		}
	}
	return (int)MIN(vq->window_len, n);
}

struct virtq_chain *virtq_window(struct virtq *vq, unsigned int i)
{
	struct virtq_chain *chain = &window_slot(vq, i)->chain;

	blame_head(vq, chain->id);
	return chain;
}

unsigned int virtq_window_len(const struct virtq *vq)
{
	return vq->window_len;
}

bool virtq_waits(const struct virtq *vq)
{
	return vq->waits;
}

unsigned int virtq_again_len(struct virtq *vq)
{
	unsigned int n = vq->n_again - vq->again_parsed;

	for (uint32_t i = 0; i < vq->window_len && window_slot(vq, i)->again; i++)
		n++;
	return n;
}

bool virtq_all_posted(const struct virtq *vq)
{
	return vq->window_slots >= vq->size || vq->starved;
}

void virtq_mark_window(struct virtq *vq, uint64_t n_bytes)
{
	if (likely(!vq->map->log))
		return;
	for (uint32_t i = 0; i < vq->window_len && n_bytes; i++) {
		struct slot *slot = window_slot(vq, i);
		uint64_t n = MIN(n_bytes, slot->chain.in_bytes);

		chain_mark_dirty(vq, slot, n);
		n_bytes -= n;
	}
}

void virtq_ask(struct virtq *vq, unsigned int i, size_t n_bytes)
{
	const struct virtq_chain *chain = &window_slot(vq, i)->chain;

	if (unlikely(chain->n_out + chain->n_in == 0))
		return;
	if (chain->n_in)
		ask_for_lines(chain->iov + chain->n_out, n_bytes, true);
	else
		ask_for_lines(chain->iov, n_bytes, false);
}

/* --- Take, complete, publish --- */

void virtq_take(struct virtq *vq, unsigned int n)
{
	check(n <= vq->window_len);
	if (n == 0)
		return;
	if (vq->packed)
		packed_take(vq, n);
	else
		split_take(vq, n);
	vq->window_head += n;
	vq->window_len -= n;
	vq->n_taken += n;
}

/* Into what the device wrote nothing, the driver need not be told how much. Where a chain has room
 * for the device, its length is told: by the specification a chain without an entry of its own is
 * written to its end, and drivers in the field look for an entry for each buffer that they
 * receive. */
static inline bool is_spoken_for(const struct virtq *vq, const struct virtq_chain *chain)
{
	return vq->in_order && chain->in_bytes == 0 && !chain->bad;
}

static inline void stage(struct virtq *vq, struct slot *slot, uint32_t n_bytes)
{
	const struct virtq_chain *chain = &slot->chain;

	vq->staged[vq->n_staged++] = (struct staged){ .id = chain->id,
		.len = MIN(n_bytes, chain->in_bytes),
		.n_slots = chain->n_slots,
		.entry = slot->entry,
		.last = slot->last,
		.spoken_for = is_spoken_for(vq, chain) };
	vq->n_taken--;
	if (unlikely(vq->map->log))
		chain_mark_dirty(vq, slot, MIN(n_bytes, chain->in_bytes));
	slot_put(vq, slot);
}

/* What was taken stays in the window's array until others come in its place. */
static bool is_oldest(const struct virtq *vq, const struct slot *slot)
{
	uint32_t oldest = (vq->window_head - vq->n_taken) & vq->size_max_mask;

	return &vq->slots[vq->window[oldest]] == slot;
}

void virtq_complete(struct virtq *vq, const struct virtq_chain *chain, uint32_t n_bytes)
{
	struct slot *slot = &vq->slots[(const struct slot *)(const void *)chain - vq->slots];

	check(slot->state == SLOT_TAKEN);
	check(!vq->in_order || is_oldest(vq, slot));
	stage(vq, slot, n_bytes);
}

void virtq_finish(struct virtq *vq, unsigned int n, const uint32_t *n_bytes)
{
	uint32_t first = vq->window_head;

	virtq_take(vq, n);
	check(!vq->in_order || vq->n_taken == n);
	for (unsigned int i = 0; i < n; i++)
		stage(vq, &vq->slots[vq->window[(first + i) & vq->size_max_mask]],
			n_bytes ? n_bytes[i] : 0);
}

/* A chain of this ring killed a former worker. It is acquitted when it was published, or when all
 * chains that were there at that time were. */
static void acquit(struct virtq *vq)
{
	struct blame_mark *mark = vq->setup.blame;
	bool passed = vq->n_staged >= vq->suspects;

	for (uint32_t i = 0; i < vq->n_staged; i++)
		passed |= vq->staged[i].id == mark->which;
	if (!passed) {
		vq->suspects -= vq->n_staged;
	} else if (blame_may_acquit(mark)) {
		vq->suspects = 0;
		blame_acquit(mark, vq->setup.index, mark->which);
	} else {
		vq->suspects = 1; /* until the next ones are published, or the time is over */
	}
}

void virtq_publish(struct virtq *vq)
{
	if (vq->n_staged == 0)
		return;
	if (vq->packed)
		packed_publish(vq);
	else
		split_publish(vq);
	vq->ledger->counters.chains += vq->n_staged;
	if (unlikely(vq->suspects))
		acquit(vq);
	vq->n_staged = 0;
}

/* --- Notifications, and the rest --- */

/* The next event index is compared with what is published from now on, whether this calls or
 * not. */
static void settle_call(struct virtq *vq)
{
	vq->since_call = 0;
	vq->call_known = true;
}

bool virtq_call_wanted(struct virtq *vq)
{
	bool due;

	if (vq->since_call == 0)
		return false;
	due = vq->packed ? packed_call_due(vq) : split_call_due(vq);
	if (!due)
		settle_call(vq);
	return due;
}

bool virtq_call_due(struct virtq *vq)
{
	if (!virtq_call_wanted(vq))
		return false;
	settle_call(vq);
	return true;
}

void virtq_kick_off(struct virtq *vq)
{
	if (vq->packed)
		packed_kick_off(vq);
	else
		split_kick_off(vq);
}

bool virtq_kick_on(struct virtq *vq)
{
	bool more = vq->packed ? packed_kick_on(vq) : split_kick_on(vq);

	blame_unset();
	if (unlikely(vq->error)) /* the ring is not served any more */
		return false;
	if (unlikely(map_poisoned(vq->map)))
		return true;
	return (more || vq->again_parsed < vq->n_again) && !vq->waits;
}

const char *virtq_error(const struct virtq *vq)
{
	return vq->error ? vq->error : "the ring is in order";
}

bool virtq_is_blank(const struct virtq *vq)
{
	const uint64_t *words = vq->packed ? vq->ring.desc : vq->split.desc;
	size_t n_words = vq->packed ? 2 * (size_t)vq->size : 2;

	if (!vq->packed && guest_load(&vq->split.avail[1]) != 0)
		return false;
	for (size_t i = 0; i < n_words; i++)
		if (guest_load(&words[i]) != 0)
			return false;
	return true;
}

struct ledger_counters *virtq_counters(struct virtq *vq)
{
	return &vq->ledger->counters;
}

void virtq_count_item(struct virtq *vq)
{
	vq->ledger->detail.items++;
}

void virtq_count_drop(struct virtq *vq, enum ledger_drop why)
{
	vq->ledger->counters.dropped++;
	vq->ledger->detail.drops[why]++;
}
