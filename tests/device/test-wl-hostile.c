/*
 * A guest that sends commands to the Wayland device which no driver would: rows of commands with
 * the answer of each. Beside them an innocent context of the same guest goes on, and the rig's
 * other device.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wl-front.h"
#include "wl-rig.h"

#define CTX 1u
#define PAGE 4096u
#define STEPS_MAX 6
#define ITEMS_MAX 8

static struct wl_front front;
static struct recorder *compositor;
static uint64_t n_sent;

/* Its globals are asked for on the device's first connection; then contexts are connected. */
static const uint32_t no_globals[] = { 3, 12 << 16, 0 };

static struct recorder_peer *innocent(void)
{
	struct recorder_peer *peer;

	ck_assert_int_eq(wl_new_ctx(&front.link, CTX, NULL), 0);
	peer = recorder_accept(compositor, 10000);
	ck_assert_ptr_nonnull(peer);
	ck_assert(recorder_send(peer, no_globals, sizeof(no_globals), NULL, 0));
	peer = recorder_accept(compositor, 10000);
	ck_assert_ptr_nonnull(peer);
	return peer;
}

static void setup(void)
{
	compositor = wl_rig_compositor();
	memset(&front, 0, sizeof(front));
	n_sent = 0;
	rig_ok(wl_front_open(&front, rig_socket()), front.why);
}

static void teardown(void)
{
	rig_ok(wl_front_check(&front), front.why);
	wl_front_close(&front);
	recorder_free(compositor);
}

static void check_innocent(struct recorder_peer *peer)
{
	ck_assert_int_eq(wl_send(&front.link, CTX, NULL, 0, "well", 4), 0);
	n_sent += 4;
	ck_assert(recorder_wait(peer, n_sent, 10000));
	ck_assert_uint_eq(recorder_n_bytes(peer), n_sent);
}

/* ---- rows ---- */

/** struct step - a command. Of a SEND, flags are the number of entries, items the words of these,
 * and size the bytes of data. */
struct step {
	uint32_t type, id, flags, size, answer;
	uint32_t items[ITEMS_MAX];
	size_t n_items;
	const char *name;
};

#define OK WL_OK
#define MADE WL_VFD_NEW
#define NEW(id, size, answer)                                                                      \
	{                                                                                          \
		WL_NEW, id, 0, size, answer, { 0 }, 0, NULL                                        \
	}
#define CLOSE(id, answer)                                                                          \
	{                                                                                          \
		WL_CLOSE, id, 0, 0, answer, { 0 }, 0, NULL                                         \
	}
#define CONTEXT(id, answer)                                                                        \
	{                                                                                          \
		WL_NEW_CTX, id, 0, 0, answer, { 0 }, 0, NULL                                       \
	}
#define NAMED(id, name, answer)                                                                    \
	{                                                                                          \
		WL_NEW_CTX_NAMED, id, 0, 0, answer, { 0 }, 0, name                                 \
	}
#define PIPE(id, flags, answer)                                                                    \
	{                                                                                          \
		WL_NEW_PIPE, id, flags, 0, answer, { 0 }, 0, NULL                                  \
	}
#define SYNC(id, flags, answer)                                                                    \
	{                                                                                          \
		WL_DMABUF_SYNC, id, flags, 0, answer, { 0 }, 0, NULL                               \
	}
#define SEND(id, n_bytes, answer)                                                                  \
	{                                                                                          \
		WL_SEND, id, 0, n_bytes, answer, { 0 }, 0, NULL                                    \
	}
#define SEND1(id, item, n_bytes, answer)                                                           \
	{                                                                                          \
		WL_SEND, id, 1, n_bytes, answer, { item }, 1, NULL                                 \
	}
#define SEND2(id, a, b, n_bytes, answer)                                                           \
	{                                                                                          \
		WL_SEND, id, 2, n_bytes, answer, { a, b }, 2, NULL                                 \
	}
#define FOREIGN(id, kind, of, n_bytes, answer)                                                     \
	{                                                                                          \
		WL_SEND_FOREIGN_ID, id, 1, n_bytes, answer, { kind, 0, of, 0 }, 4, NULL            \
	}

static const struct {
	const char *what;
	struct step steps[STEPS_MAX];
} rows[] = {
	{ "closed twice", { NEW(20, PAGE, MADE), CLOSE(20, OK), CLOSE(20, WL_INVALID_ID) } },
	{ "an id is free again", { NEW(20, PAGE, MADE), CLOSE(20, OK), NEW(20, PAGE, MADE) } },
	{ "an id of another kind",
		{ PIPE(20, WL_READ, MADE), NEW(20, PAGE, WL_INVALID_ID),
			CONTEXT(20, WL_INVALID_ID) } },
	{ "all of 32 bits", { NEW(20, UINT32_MAX, WL_OUT_OF_MEMORY), NEW(20, PAGE, MADE) } },
	{ "a SEND to memory", { NEW(20, PAGE, MADE), SEND(20, 4, WL_INVALID_TYPE) } },
	{ "a SEND to a closed context",
		{ CONTEXT(20, MADE), CLOSE(20, OK), SEND(20, 4, WL_INVALID_ID) } },
	{ "a SEND to the end that is read",
		{ PIPE(20, WL_READ, MADE), SEND(20, 4, WL_INVALID_TYPE) } },
	{ "a VFD that was closed",
		{ NEW(20, PAGE, MADE), CLOSE(20, OK), SEND1(CTX, 20, 4, WL_INVALID_ID) } },
	{ "the second of two is unknown",
		{ NEW(20, PAGE, MADE), SEND2(CTX, 20, 21, 4, WL_INVALID_ID) } },
	{ "a VFD without a byte", { NEW(20, PAGE, MADE), SEND1(CTX, 20, 0, WL_INVALID_CMD) } },
	{ "a VFD through a pipe",
		{ PIPE(20, WL_WRITE, MADE), NEW(21, PAGE, MADE),
			SEND1(20, 21, 4, WL_INVALID_TYPE) } },
	{ "a pipe is sent twice",
		{ PIPE(20, WL_WRITE, MADE), SEND1(CTX, 20, 4, OK),
			SEND1(CTX, 20, 4, WL_INVALID_TYPE) } },
	{ "a pipe twice in a message", { PIPE(20, WL_WRITE, MADE), SEND2(CTX, 20, 20, 4, OK) } },
	{ "a context through itself", { SEND1(CTX, CTX, 4, OK) } },
	{ "a VFD that is closed once it is sent",
		{ NEW(20, PAGE, MADE), SEND1(CTX, 20, 4, OK), CLOSE(20, OK), NEW(20, PAGE, MADE),
			SEND1(CTX, 20, 4, OK) } },
	{ "nothing is sent", { SEND(CTX, 0, OK) } },
	{ "a resource without a bridge", { FOREIGN(CTX, 1, 5, 4, WL_INVALID_ID) } },
	{ "a fence without a bridge", { FOREIGN(CTX, 2, 5, 4, WL_INVALID_ID) } },
	{ "the signalled fence without a bridge", { FOREIGN(CTX, 3, 0, 4, WL_INVALID_ID) } },
	{ "an entry of no kind", { FOREIGN(CTX, 4, 5, 4, WL_INVALID_ID) } },
	{ "an entry of the guest's own",
		{ NEW(20, PAGE, MADE), FOREIGN(CTX, 0, 20, 4, OK),
			FOREIGN(CTX, 0, 21, 4, WL_INVALID_ID) } },
	{ "entries that are not there",
		{ { WL_SEND_FOREIGN_ID, CTX, 2, 0, WL_ERR, { 0 }, 7, NULL } } },
	{ "a sync of nothing", { SYNC(20, 1, WL_INVALID_ID) } },
	{ "a sync with unknown flags", { NEW(20, PAGE, MADE), SYNC(20, 8, WL_INVALID_FLAGS) } },
	{ "a sync of other memory", { NEW(20, PAGE, MADE), SYNC(20, 1, WL_ERR) } },
	{ "a sync of a context", { SYNC(CTX, 1, WL_ERR) } },
	{ "a compositor nobody knows", { NAMED(20, "nobody", WL_INVALID_ID), CONTEXT(20, MADE) } },
	{ "a name that is no text", { NAMED(20, "\xff\xfe", WL_INVALID_ID) } },
};

static uint32_t ask(const struct step *step)
{
	uint32_t bytes[64] = { step->type, 0, step->id, step->flags };
	bool sends = step->type == WL_SEND || step->type == WL_SEND_FOREIGN_ID;
	size_t n = sends ? 16 + 4 * step->n_items + step->size : 64;
	struct wl_msg answer;
	int r;

	if (sends)
		memcpy(&bytes[4], step->items, 4 * step->n_items);
	else
		bytes[6] = step->size;
	if (step->name)
		strncpy((char *)&bytes[7], step->name, 32);
	r = wl_request(&front.link, bytes, n, &answer);
	ck_assert_msg(r >= 0, "%d %s", r, front.why);
	return answer.type;
}

/* uses: wl:SEND_FENCES wl:TRANS_FLAGS */
START_TEST(test_row)
{
	struct recorder_peer *peer = innocent();

	for (size_t i = 0; i < STEPS_MAX && rows[_i].steps[i].type; i++) {
		const struct step *step = &rows[_i].steps[i];
		uint32_t answer = ask(step);

		ck_assert_msg(answer == step->answer, "%s: step %zu: %#x instead of %#x",
			rows[_i].what, i, answer, step->answer);
		if (answer == WL_OK && step->type != WL_CLOSE && step->id == CTX)
			n_sent += step->size;
	}
	check_innocent(peer);
}
END_TEST

/* What a queue names stays until it is sent, whatever becomes of its VFD. */
START_TEST(test_closed_while_it_waits_to_be_sent)
{
	struct recorder_peer *peer = innocent();
	static uint8_t data[WL_SEND_BYTES];
	struct wl_msg made;

	recorder_stall(peer, true);
	for (int i = 0; i < 12; i++) { /* more than a socket takes */
		ck_assert_int_eq(wl_send(&front.link, CTX, NULL, 0, data, sizeof(data)), 0);
		n_sent += sizeof(data);
	}
	for (uint32_t id = 20; id < 24; id++) {
		ck_assert_int_eq(wl_new(&front.link, id, PAGE, &made), 0);
		memset(wl_memory(&front.link, &made), (int)id, PAGE);
		ck_assert_int_eq(wl_send(&front.link, CTX, &id, 1, "x", 1), 0);
		n_sent++;
		ck_assert_int_eq(wl_close(&front.link, id), 0);
	}
	recorder_stall(peer, false);
	check_innocent(peer);
	ck_assert_uint_eq(recorder_n_fds(peer), 4);
	for (uint32_t i = 0; i < 4; i++) {
		uint8_t byte = 0;
		uint64_t at;

		ck_assert_int_eq(pread(recorder_fd(peer, i, &at), &byte, 1, PAGE - 1), 1);
		ck_assert_uint_eq(byte, 20 + i);
	}
}
END_TEST

/* ---- buffers ---- */

/* Posts a CLOSE of an unknown VFD with so many bytes for the answer; returns how many it has. */
static uint32_t close_with_room(uint32_t n_room)
{
	const uint32_t request[] = { WL_CLOSE, 0, 99 };
	uint64_t gpa = guest_alloc(&front.g, PAGE, 16);
	struct ring_seg segs[] = { { gpa, sizeof(request), false }, { gpa + 64, n_room, true } };
	struct ring *out = &front.rings[1];
	struct ring_used used;

	memcpy(guest_at(&front.g, gpa, sizeof(request)), request, sizeof(request));
	ck_assert_int_eq(ring_post(out, segs, n_room ? 2 : 1, NULL), 0);
	ring_kick(out);
	ck_assert_msg(ring_poll(out, 10000) == 0, "it does not come back: %s", out->fault);
	ck_assert_int_eq(ring_reap(out, &used), 1);
	return used.len;
}

START_TEST(test_answer_is_cut_to_its_room)
{
	struct recorder_peer *peer = innocent();

	ck_assert_uint_eq(close_with_room(0), 0);
	for (uint32_t n = 1; n <= 8; n++)
		ck_assert_uint_eq(close_with_room(n), n);
	ck_assert_uint_le(close_with_room(200), 64);
	check_innocent(peer);
}
END_TEST

/* All but the last one are too small for any event with data. */
START_TEST(test_small_buffers_lose_no_event)
{
	struct recorder_peer *peer = innocent();
	struct ring *in = &front.rings[0];
	struct ring_used used = { 0 };
	uint64_t gpa = guest_alloc(&front.g, 4 * PAGE, PAGE);
	uint32_t n_before = (uint32_t)(in->n_posted - in->n_used);

	for (uint32_t i = 0; i < 100; i++)
		ck_assert_int_eq(ring_post(in,
					 &(struct ring_seg){ gpa + 16 * (uint64_t)i, 8, true }, 1,
					 NULL),
			0);
	ck_assert_int_eq(ring_post(in, &(struct ring_seg){ gpa + 2 * PAGE, PAGE, true }, 1, NULL),
		0);
	ring_kick(in);
	for (uint32_t i = 0; i < n_before + 1; i++) {
		ck_assert(recorder_send(peer, "event", 5, NULL, 0));
		do {
			ck_assert_msg(ring_poll(in, 10000) == 0, "event %u: %s", i, in->fault);
			ck_assert_int_eq(ring_reap(in, &used), 1);
		} while (used.len == 0);
		ck_assert_uint_eq(used.len, 16 + 5);
	}
	check_innocent(peer);
}
END_TEST

/* ---- a VMM that does not answer ---- */

/* The answer of the next command that comes back, while nobody serves the back-end's channel. */
static uint32_t answer_unserved(void)
{
	struct ring *out = &front.rings[1];
	struct ring_used used;
	uint32_t type = 0;
	size_t slot;

	ck_assert_msg(ring_poll(out, 30000) == 0, "no answer: %s", out->fault);
	ck_assert_int_eq(ring_reap(out, &used), 1);
	slot = (uintptr_t)used.cookie - 1;
	memcpy(&type, guest_at(&front.g, front.replies[slot], sizeof(type)), sizeof(type));
	front.answers[slot] = -1;
	return type;
}

/* It takes seconds until the device gives up. */
START_TEST(test_map_without_answer_is_given_up)
{
	const struct wl_msg new = { .type = WL_NEW, .id = 20, .size = PAGE };
	const struct wl_msg close = { .type = WL_CLOSE, .id = 99 };
	struct recorder_peer *peer;
	struct wl_msg made;

	if (!getenv("BULKHEAD_FULL"))
		return;
	peer = innocent();
	for (int i = 0; i < 2; i++) {
		ck_assert_int_ge(front.link.ops->post(&front.link, &new, sizeof(new)), 0);
		ck_assert_int_ge(front.link.ops->post(&front.link, &close, sizeof(close)), 0);
		ck_assert_uint_eq(answer_unserved(), WL_OUT_OF_MEMORY);
		ck_assert_uint_eq(answer_unserved(), WL_INVALID_ID);
	}
	ck_assert_int_eq(wl_new(&front.link, 20, PAGE, &made), 0);
	memset(wl_memory(&front.link, &made), 1, PAGE);
	check_innocent(peer);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "wl-hostile");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, test_row, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tc, test_closed_while_it_waits_to_be_sent);
	tcase_add_test(tc, test_answer_is_cut_to_its_room);
	tcase_add_test(tc, test_small_buffers_lose_no_event);
	tcase_add_test(tc, test_map_without_answer_is_given_up);
	tcase_set_timeout(tc, 60);
}

int main(void)
{
	return wl_rig_main("wl-hostile", add);
}
