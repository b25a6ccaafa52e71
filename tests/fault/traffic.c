/*
 * A run ends with a frame that comes back after all others were given back by the device: the rings
 * are in order, so what has not come by then is lost. That last frame is sent anew, under another
 * number, when it is itself lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traffic.h"

#define MARK_MS 1000
#define MARKS_MAX 8
#define FRAMES_MAX 65536

struct run {
	struct traffic *t;
	struct net *n;
	uint32_t first, n_bytes;
	uint32_t n_seen, repeated;
	uint8_t seen[FRAMES_MAX];
};

static uint32_t number_of(const uint8_t *frame)
{
	return (uint32_t)frame[14] << 24 | (uint32_t)frame[15] << 16 | (uint32_t)frame[16] << 8 |
		frame[17];
}

static int damaged(struct run *run, const uint8_t *frame, uint32_t got)
{
	snprintf(run->n->why, sizeof(run->n->why),
		"frame %u of %u bytes, %u wanted, is none that was sent", number_of(frame), got,
		run->n_bytes);
	return -EBADMSG;
}

static int take(struct run *run, int timeout_ms, uint32_t *ret_number)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t got, seq;
	int e = net_recv(run->n, 0, frame, &got, timeout_ms);

	if (e)
		return e;
	seq = number_of(frame);
	if (got != run->n_bytes || seq >= run->t->next || !net_frame_is_echo(frame, got, seq))
		return damaged(run, frame, got);
	*ret_number = seq;
	run->t->n_back++;
	if (seq < run->first || run->seen[seq - run->first]) {
		run->repeated++;
	} else {
		run->seen[seq - run->first] = 1;
		run->n_seen++;
	}
	return 0;
}

static int take_all(struct run *run)
{
	uint32_t seq;
	int e = 0;

	while (!e && ring_has_used(&run->n->rings[0]))
		e = take(run, 0, &seq);
	return e;
}

static int send_one(struct run *run)
{
	uint8_t frame[NET_FRAME_MAX];

	net_frame_make(frame, run->n_bytes, run->t->next++);
	run->t->n_sent++;
	return net_send(run->n, 0, frame, run->n_bytes);
}

/* what is under way fits into the receive ring, so a frame cannot be lost for want of room */
static int send_all(struct run *run, uint32_t n_frames)
{
	int e = 0;

	for (uint32_t i = 0; !e && i < n_frames; i++) {
		e = send_one(run);
		if (!e)
			e = take_all(run);
		if (!e && ring_in_flight(&run->n->rings[1]) >= TRAFFIC_WINDOW)
			e = net_drain_tx(run->n, 0, 10000);
	}
	if (!e)
		e = net_drain_tx(run->n, 0, 10000);
	return e ? e : take_all(run);
}

static int mark(struct run *run)
{
	for (int i = 0; i < MARKS_MAX; i++) {
		uint32_t want = run->t->next, seq;
		int e = send_one(run);

		while (!e) {
			e = take(run, MARK_MS, &seq);
			if (!e && seq == want)
				return 0;
		}
		if (e != -ETIMEDOUT)
			return e;
		run->n->why[0] = 0;
	}
	snprintf(run->n->why, sizeof(run->n->why), "no frame comes back any more");
	return -ETIMEDOUT;
}

static void count(struct run *run)
{
	struct traffic *t = run->t;
	uint32_t lost = t->next - run->first - run->n_seen;

	t->n_lost += lost;
	t->n_repeated += run->repeated;
	t->worst_lost = lost > t->worst_lost ? lost : t->worst_lost;
	t->worst_repeated = run->repeated > t->worst_repeated ? run->repeated : t->worst_repeated;
}

int traffic_run(struct traffic *t, struct net *n, uint32_t n_frames, uint32_t n_bytes)
{
	struct run *run = calloc(1, sizeof(*run));
	int e;

	if (!run || n_frames + MARKS_MAX > FRAMES_MAX)
		return -ENOMEM;
	*run = (struct run){ .t = t, .n = n, .first = t->next, .n_bytes = n_bytes };
	e = send_all(run, n_frames);
	if (!e)
		e = mark(run);
	if (!e)
		e = net_drain_tx(n, 0, 10000);
	if (!e)
		e = net_check(n);
	count(run);
	free(run);
	return e;
}
