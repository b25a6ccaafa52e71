/*
 * The out ring. A chain is taken only when its command was executed: one that waits stays at the
 * head of the window, and is offered again after a pause, or to a successor.
 *
 * A SEND whose queue is long is executed, but its answer is held, so that its sender waits while
 * others go on. Its chain is in flight then, and the only kind that is.
 */
#include "out.h"

#include <string.h>

#include "base/log.h"
#include "base/timer.h"
#include "commands.h"
#include "ends.h"
#include "request.h"

#define BATCH 32 /* chains per turn */
/* how long a VMM may take to map what the guest waits for; and how long, once it took longer */
#define PATIENCE_USEC 5000000
#define LITTLE_PATIENCE_USEC 20000

static struct wl_note *note_of(struct wl *wl)
{
	return &wl->saved->notes[VIRTWL_VQ_OUT];
}

/* --- Notes --- */

/* A death before the step is stored finds no note. */
static void open_note(struct wl *wl, struct virtq *vq, const struct wl_note *note)
{
	struct wl_note *to = note_of(wl);
	uint8_t step = note->step;

	*to = *note;
	to->step = WL_STEP_NONE;
	to->base = virtq_base(vq);
	atomic_signal_fence(memory_order_seq_cst);
	to->step = step;
}

static void close_note(struct wl *wl)
{
	atomic_signal_fence(memory_order_seq_cst);
	note_of(wl)->step = WL_STEP_NONE;
}

static void publish(struct virtq *vq, struct virtq_chain *chain, const struct wl_note *note)
{
	size_t n = virtq_write(chain, 0, note->answer,
		MIN((size_t)note->n_answer, sizeof(note->answer)));

	virtq_complete(vq, chain, (uint32_t)n);
	virtq_publish(vq);
}

/* --- Chains that are held --- */

static void hold(struct wl *wl, struct virtq *vq, struct virtq_chain *chain, unsigned int slot)
{
	wl->saved->held[chain->id] = (uint16_t)(1 + slot);
	wl->held[chain->id] = chain;
	virtq_take(vq, 1);
}

static void release(struct wl *wl, struct virtq *vq, uint16_t head)
{
	struct virtq_chain *chain = wl->held[head];
	struct wl_note note;

	command_refuse(&note, VIRTIO_WL_RESP_OK);
	note.step = WL_STEP_RELEASE;
	note.head = head;
	open_note(wl, vq, &note);
	publish(vq, chain, &note);
	wl->held[head] = NULL;
	wl->saved->held[head] = 0;
	close_note(wl);
}

static bool has_room(struct wl *wl, unsigned int slot)
{
	struct vfd *vfd = vfd_at(&wl->vfds, slot);

	return !vfd || vfd->state == VFD_CLOSED || ends_has_room(wl, vfd);
}

static void release_held(struct wl *wl, struct virtq *vq, bool all)
{
	for (uint16_t head = 0; head < WL_RING_SIZE_MAX; head++)
		if (wl->held[head] && (all || has_room(wl, wl->saved->held[head] - 1u)))
			release(wl, vq, head);
}

/* --- A chain --- */

/* What the note says of the next chain, which it is about. */
static void finish(struct wl *wl, struct virtq *vq, struct virtq_chain *chain)
{
	const struct wl_note *note = note_of(wl);

	command_follow(wl, note);
	if (note->step == WL_STEP_HOLD) {
		hold(wl, vq, chain, note->slot);
	} else {
		virtq_take(vq, 1);
		publish(vq, chain, note);
	}
	close_note(wl);
}

static void discard(struct virtq *vq, struct virtq_chain *chain)
{
	virtq_counters(vq)->errors++;
	virtq_take(vq, 1);
	virtq_complete(vq, chain, 0);
	virtq_publish(vq);
}

/* Requests and answers may lie in the same memory: nothing is read once an answer is written. */
static bool execute(struct wl *wl, const struct virtq_chain *chain, struct wl_note *note)
{
	uint8_t head[REQUEST_HEAD_MAX];
	size_t n = virtq_read(chain, 0, head, sizeof(head));
	struct request request;
	uint32_t refusal = request_parse(&request, head, n, chain->out_bytes,
		has_bit(wl->device->features, VIRTIO_WL_F_SEND_FENCES));

	if (refusal == 0)
		return command_execute(wl, &request, chain, note);
	command_refuse(note, refusal);
	return true;
}

/* Returns false if the chain has to wait. */
static bool serve_chain(struct wl *wl, struct virtq *vq, struct virtq_chain *chain)
{
	struct wl_note note;

	if (chain->id < WL_RING_SIZE_MAX && wl->saved->held[chain->id]) {
		hold(wl, vq, chain, wl->saved->held[chain->id] - 1u);
	} else if (note_of(wl)->step) {
		finish(wl, vq, chain);
	} else if (chain->bad || chain->in_bytes == 0 || chain->id >= WL_RING_SIZE_MAX) {
		discard(vq, chain);
	} else {
		if (!execute(wl, chain, &note))
			return false;
		note.head = chain->id;
		open_note(wl, vq, &note);
		finish(wl, vq, chain);
	}
	return true;
}

/* --- Patience --- */

static int on_impatience(sd_event_source *source, uint64_t usec, void *data)
{
	struct wl *wl = data;

	if (!wl->waits)
		return 0;
	if (wl->patience_usec != LITTLE_PATIENCE_USEC)
		log_limited(LOG_WARNING, NULL, 0,
			"the VMM does not answer whether it has mapped a buffer; the guest gets none");
	wl->patience_usec = LITTLE_PATIENCE_USEC;
	wl->impatient = true;
	wl_wake(wl, VIRTWL_VQ_OUT);
	return 0;
}

/* A command waits, or does not any more. */
static void note_waiting(struct wl *wl, bool waits)
{
	if (waits && !wl->waits) {
		if (!wl->patience_usec)
			wl->patience_usec = PATIENCE_USEC;
		if (!wl->patience)
			(void)sd_event_add_time_relative(wl->device->event, &wl->patience,
				CLOCK_MONOTONIC, 0, 0, on_impatience, wl);
		timer_after(wl->patience, wl->patience_usec);
	}
	if (!waits) {
		timer_stop(wl->patience);
		wl->impatient = false;
	}
	wl->waits = waits;
}

void out_answered(struct wl *wl)
{
	wl->patience_usec = PATIENCE_USEC;
	wl_wake(wl, VIRTWL_VQ_OUT);
}

/* --- The ring --- */

/* Returns how many chains were served, of at most n; negative: the ring is broken. *ret_waits: the
 * next one has to wait. */
static int serve_chains(struct wl *wl, struct device_queue *queue, unsigned int n, bool *ret_waits)
{
	int ready = virtq_fill(queue->vq, n);

	*ret_waits = false;
	for (int i = 0; i < ready; i++) {
		*ret_waits = !serve_chain(wl, queue->vq, virtq_window(queue->vq, 0));
		if (*ret_waits)
			return i;
		note_waiting(wl, false);
	}
	return ready;
}

enum device_wait out_serve(struct device_queue *queue)
{
	struct wl *wl = queue->device->data;
	unsigned int n_max = MIN((unsigned int)BATCH, device_queue_may_take(queue));
	bool waits;
	int n = serve_chains(wl, queue, n_max, &waits);

	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	release_held(wl, queue->vq, false);
	device_queue_call(queue);
	note_waiting(wl, waits);
	if (waits)
		return DEVICE_OTHER;
	return n == BATCH ? DEVICE_MORE : DEVICE_KICK;
}

void out_drain(struct device_queue *queue)
{
	struct wl *wl = queue->device->data;
	unsigned int n_max = device_queue_may_take(queue);
	bool waits = false;

	if (n_max && serve_chains(wl, queue, n_max, &waits) < 0)
		device_queue_broken(queue, virtq_error(queue->vq));
	release_held(wl, queue->vq, true);
	device_queue_call(queue);
	note_waiting(wl, false); /* it begins to wait anew when the ring goes on */
	device_drained(queue);
}

/* Whether a former instance did what its note says, but for the end of the note. */
static bool is_done(const struct wl *wl, const struct wl_note *note, const struct virtq *vq)
{
	if (note->step == WL_STEP_HOLD && note->head < WL_RING_SIZE_MAX &&
		wl->saved->held[note->head])
		return true;
	return note->base != virtq_base(vq);
}

void out_started(struct wl *wl, struct virtq *vq)
{
	struct wl_note *note = note_of(wl);
	bool done;

	memset(wl->held, 0, sizeof(wl->held));
	if (!note->step)
		return;
	done = is_done(wl, note, vq);
	if (note->step == WL_STEP_RELEASE && done && note->head < WL_RING_SIZE_MAX)
		wl->saved->held[note->head] = 0;
	if (done || note->step == WL_STEP_RELEASE)
		close_note(wl);
}

void out_stopped(struct wl *wl)
{
	memset(wl->held, 0, sizeof(wl->held));
	memset(wl->saved->held, 0, sizeof(wl->saved->held));
	note_waiting(wl, false);
}
