/*
 * The Wayland device, as a guest's driver and a compositor see it. The compositor is a stand-in
 * that says what reached it (tests/lib/recorder.h). The rig's other device is another guest's:
 * whatever this one does, frames still move there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/patience.h"
#include "transfer.h"
#include "wl-front.h"
#include "wl-rig.h"

#define CTX 1u
#define WAIT_MS test_ms(10000)
#define PAGE 4096u
#define N_PAGES(bytes) (((bytes) + PAGE - 1) / PAGE)
#define ENOUGH_BYTES (4u << 20)

static struct wl_front front;
static struct wl_link *guest = &front.link;
static struct recorder *compositor;
static bool is_asked; /* on a connection of the device's own, for wp_security_context_v1 */

static void start_compositor(void)
{
	compositor = wl_rig_compositor();
	is_asked = false;
}

static void setup(void)
{
	start_compositor();
	memset(&front, 0, sizeof(front));
	rig_ok(wl_front_open(&front, rig_socket()), front.why);
}

static void teardown(void)
{
	rig_ok(wl_front_check(&front), front.why);
	wl_front_close(&front);
	recorder_free(compositor);
}

/* wl_display.get_registry, and wl_display.sync with callback 3: it has no globals. */
#define QUESTION_BYTES 24
static const uint32_t no_answer[] = { 3, 12 << 16, 0 };

static struct recorder_peer *connect_ctx(uint32_t id)
{
	struct recorder_peer *peer;

	ck_assert_int_eq(wl_new_ctx(guest, id, NULL), 0);
	peer = recorder_accept(compositor, 10000);
	if (!is_asked) {
		ck_assert_ptr_nonnull(peer);
		ck_assert(recorder_wait(peer, QUESTION_BYTES, 10000));
		ck_assert(recorder_send(peer, no_answer, sizeof(no_answer), NULL, 0));
		is_asked = true;
		peer = recorder_accept(compositor, 10000);
	}
	ck_assert_ptr_nonnull(peer);
	return peer;
}

/* The next event, which must be of that type; its bytes. */
static size_t expect_event(uint32_t type, void *ret_event)
{
	int n = wl_wait_event(guest, ret_event, WAIT_MS);
	uint32_t got = 0;

	ck_assert_msg(n >= 12, "no event: %d %s", n, front.why);
	memcpy(&got, ret_event, sizeof(got));
	ck_assert_uint_eq(got, type);
	return (size_t)n;
}

static _Alignas(8) uint8_t event[WL_EVENT_BYTES];

static void expect_hup(uint32_t id)
{
	struct wl_msg msg = { 0 };

	ck_assert_uint_ge(expect_event(WL_HUP, event), 12);
	memcpy(&msg, event, 12);
	ck_assert_uint_eq(msg.id, id);
}

static struct wl_msg expect_new(void)
{
	struct wl_msg msg = { 0 };

	ck_assert_uint_ge(expect_event(WL_NEW, event), 32);
	memcpy(&msg, event, 32);
	ck_assert_uint_eq(msg.id & WL_HOST_ID, WL_HOST_ID);
	return msg;
}

/* ---- streams, and what goes with them ---- */

START_TEST(test_descriptors_reach_the_compositor)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made[20];
	uint32_t ids[20];

	for (uint32_t i = 0; i < 20; i++) {
		ids[i] = 100 + i;
		ck_assert_int_eq(wl_new(guest, ids[i], 1 + i * 1000, &made[i]), 0);
		ck_assert_uint_eq(made[i].size, N_PAGES(1 + i * 1000) * PAGE);
		memset(wl_memory(guest, &made[i]), (int)(i + 1), made[i].size);
	}
	ck_assert_int_eq(wl_send(guest, CTX, ids, 20, "hello", 5), 0);
	ck_assert(recorder_wait(peer, 5, 10000));
	ck_assert_uint_eq(recorder_n_fds(peer), 20);
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t at;
		uint8_t last;
		int fd = recorder_fd(peer, i, &at);

		ck_assert_uint_eq(at, 0);
		ck_assert_int_eq(lseek(fd, 0, SEEK_END), made[i].size);
		ck_assert_int_eq(pread(fd, &last, 1, made[i].size - 1), 1);
		ck_assert_uint_eq(last, i + 1);
	}
}
END_TEST

/* _i: bit 0 packed, bit 1 event index, bit 2 indirect descriptors. The rings go round, and begin
 * anew. */
/* uses: wl:RING_PACKED wl:EVENT_IDX wl:INDIRECT_DESC wl:TRANS_FLAGS wl:USE_SHMEM */
START_TEST(test_rings_of_each_layout)
{
	struct recorder_peer *peer;
	struct wl_msg made;

	start_compositor();
	memset(&front, 0, sizeof(front));
	front.features = (_i & 1 ? VU_BIT(VU_F_PACKED) : 0) |
		(_i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0) | (_i & 4 ? VU_BIT(VU_F_INDIRECT) : 0);
	rig_ok(wl_front_open(&front, rig_socket()), front.why);
	for (int boot = 0; boot < 2; boot++) {
		peer = connect_ctx(CTX);
		for (uint32_t i = 0; i < 600; i++)
			ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "twelve bytes", 12), 0);
		ck_assert(recorder_wait(peer, 600 * 12, 10000));
		ck_assert_int_eq(wl_new(guest, 100, PAGE, &made), 0);
		*(uint8_t *)wl_memory(guest, &made) = 1;
		rig_ok(suite_kill(&rig, "wl"), rig.why);
		ck_assert_int_eq(wl_send(guest, CTX, (uint32_t[]){ 100 }, 1, "b", 1), 0);
		ck_assert(recorder_wait(peer, 600 * 12 + 1, 10000));
		rig_ok(wl_front_check(&front), front.why);
		rig_ok(wl_front_reboot(&front), front.why);
		is_asked = false;
	}
	teardown();
	suite_remember(&rig);
}
END_TEST

#define LOG_BYTES 0x10000u

/* uses: wl:LOG_ALL protocol:LOG_SHMFD */
START_TEST(test_answers_are_logged)
{
	struct vu_log log = { LOG_BYTES, 0 };
	int fd = memfd_create("log", MFD_CLOEXEC);
	uint8_t *bits;
	struct wl_msg made;

	ck_assert_int_eq(ftruncate(fd, LOG_BYTES), 0);
	bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(bits, MAP_FAILED);
	rig_ok(vu_set_log_base(&front.c, &log, &fd, 1), front.c.why);
	rig_ok(vu_set_features(&front.c, front.c.acked | VU_BIT(VU_F_LOG_ALL)), front.c.why);
	ck_assert_int_eq(wl_new(guest, 100, PAGE, &made), 0);
	ck_assert_msg(bits[front.replies[0] / PAGE / 8] >> front.replies[0] / PAGE % 8 & 1,
		"the page of the answer is not marked");
	rig_ok(vu_set_features(&front.c, front.c.acked & ~VU_BIT(VU_F_LOG_ALL)), front.c.why);
	munmap(bits, LOG_BYTES);
	close(fd);
}
END_TEST

/* Both sides of the memory are the same pages, and stay so. */
START_TEST(test_memory_is_shared)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made;
	uint32_t id = 7;
	uint64_t at;
	int fd;

	ck_assert_int_eq(wl_new(guest, id, PAGE, &made), 0);
	ck_assert_int_eq(wl_send(guest, CTX, &id, 1, "x", 1), 0);
	ck_assert(recorder_wait(peer, 1, 10000));
	fd = recorder_fd(peer, 0, &at);
	for (uint8_t i = 1; i < 20; i++) {
		uint8_t seen = 0;

		*(volatile uint8_t *)wl_memory(guest, &made) = i;
		ck_assert_int_eq(pread(fd, &seen, 1, 0), 1);
		ck_assert_uint_eq(seen, i);
	}
}
END_TEST

static int make_file(const char *text, size_t n_bytes, bool sealed)
{
	int fd = memfd_create("from-compositor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	ck_assert_int_eq(ftruncate(fd, (off_t)n_bytes), 0);
	if (sealed)
		ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
			0);
	return fd;
}

static void check_recv(uint32_t id, const uint32_t *ids, uint32_t n_ids, const char *text)
{
	size_t n = expect_event(WL_RECV, event), n_data = 0;
	const struct wl_data *recv = (const void *)event;
	const void *data = wl_recv_data(recv, n, &n_data);

	ck_assert_ptr_nonnull(data);
	ck_assert_uint_eq(recv->id, id);
	ck_assert_uint_eq(recv->n_vfds, n_ids);
	for (uint32_t i = 0; i < n_ids; i++)
		ck_assert_uint_eq(recv->ids[i], ids[i]);
	ck_assert_uint_eq(n_data, strlen(text));
	ck_assert_mem_eq(data, text, n_data);
}

/* QEMU refuses a file that is sealed, read only, or no multiple of a page: a keymap is all that. */
START_TEST(test_files_reach_the_guest)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	int fds[28];
	uint32_t ids[28];

	for (int i = 0; i < 28; i++) {
		char text[16];

		snprintf(text, sizeof(text), "file %d", i);
		fds[i] = make_file(text, i % 2 ? PAGE : 23851, i % 3 == 0);
	}
	ck_assert(recorder_send(peer, "keymap", 6, fds, 28));
	for (int i = 0; i < 28; i++) {
		struct wl_msg made = expect_new();
		char text[16];

		snprintf(text, sizeof(text), "file %d", i);
		ck_assert_uint_eq(made.size, N_PAGES(i % 2 ? PAGE : 23851u) * PAGE);
		ck_assert_ptr_nonnull(wl_memory(guest, &made));
		ck_assert_str_eq(wl_memory(guest, &made), text);
		ids[i] = made.id;
		close(fds[i]);
	}
	check_recv(CTX, ids, 28, "keymap");
	for (int i = 0; i < 28; i++)
		ck_assert_int_eq(wl_close(guest, ids[i]), 0);
}
END_TEST

/* As the clipboard: the compositor hands over the end that the guest writes to. */
START_TEST(test_pipe_from_the_compositor)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made;
	char text[16] = { 0 };
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert(recorder_send(peer, "paste", 5, &ends[1], 1));
	close(ends[1]);
	made = expect_new();
	ck_assert_uint_eq(made.flags, WL_WRITE);
	ck_assert_uint_eq(made.pfn, WL_NO_PFN);
	check_recv(CTX, &made.id, 1, "paste");
	ck_assert_int_eq(wl_send(guest, made.id, NULL, 0, "clip", 4), 0);
	ck_assert_int_eq(wl_close(guest, made.id), 0);
	ck_assert_int_eq(read(ends[0], text, sizeof(text)), 4);
	ck_assert_str_eq(text, "clip");
	ck_assert_int_eq(read(ends[0], text, sizeof(text)), 0);
	close(ends[0]);
}
END_TEST

/* And the other way: the guest makes a pipe to read from. */
START_TEST(test_pipe_from_the_guest)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	uint32_t id = 9;
	uint64_t at;
	int fd;

	ck_assert_int_eq(wl_new_pipe(guest, id, WL_READ), 0);
	ck_assert_int_eq(wl_send(guest, CTX, &id, 1, "p", 1), 0);
	ck_assert(recorder_wait(peer, 1, 10000));
	fd = dup(recorder_fd(peer, 0, &at));
	ck_assert_int_eq(write(fd, "data", 4), 4);
	check_recv(id, NULL, 0, "data");
	close(fd);
	recorder_free(compositor);
	compositor = NULL;
	expect_event(WL_HUP, event);
	expect_event(WL_HUP, event);
}
END_TEST

/* ---- kills in the middle of both streams ---- */

/* What the guest has received of the compositor's script, verified. */
struct reading {
	struct script script;
	uint64_t n_bytes;
};

static void take_recv(struct reading *r, const struct wl_data *recv, size_t n)
{
	size_t n_data = 0;
	const uint8_t *data = wl_recv_data(recv, n, &n_data);

	ck_assert_ptr_nonnull(data);
	ck_assert_msg(script_verify(&r->script, data, n_data, NULL, 0), "%s", r->script.why);
	r->n_bytes += n_data;
}

static void take_all(struct reading *r)
{
	int n;

	while ((n = guest->ops->event(guest, event)) >= 0) {
		uint32_t type;

		memcpy(&type, event, sizeof(type));
		ck_assert_uint_eq(type, WL_RECV);
		take_recv(r, (const struct wl_data *)event, (size_t)n);
	}
	ck_assert_msg(n == -EAGAIN, "%d %s", n, front.why);
}

static void send_script(struct script *s)
{
	static uint8_t buf[WL_SEND_BYTES];

	script_fill(s, 0, buf, s->n_bytes);
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, buf, s->n_bytes), 0);
	script_next(s);
}

static void say_script(struct recorder_peer *peer, struct script *s)
{
	static uint8_t buf[WL_SEND_BYTES];

	script_fill(s, 0, buf, s->n_bytes);
	ck_assert(recorder_send(peer, buf, s->n_bytes, NULL, 0));
	script_next(s);
}

/* NULL: this device's worker */
static const char *const victims[] = { NULL, "frontend", NULL, "memory", NULL, "snapshot" };

/* One that is not back yet since the last time is as good as dead. */
static void kill_one(int i)
{
	const char *victim = victims[(size_t)i % (sizeof(victims) / sizeof(victims[0]))];
	int r = victim ? suite_kill(&rig, victim) : suite_kill_worker(&rig, "net0");

	if (r != -ESRCH)
		rig_ok(r, rig.why);
}

/* Not a byte is lost or doubled, whichever process is killed. */
START_TEST(test_streams_survive_kills)
{
	struct script_setting out = { .seed = test_seed(), .bytes_only = true };
	struct script_setting in = {
		.seed = test_seed() + 1, .bytes_only = true, .max_bytes = 9000
	};
	struct recorder_peer *peer = connect_ctx(CTX);
	struct reading reading = { 0 };
	struct script sending, saying;
	int n_kills = getenv("BULKHEAD_FULL") ? 200 : 15;

	recorder_follow(peer, &out);
	script_begin(&sending, &out);
	script_begin(&saying, &in);
	script_begin(&reading.script, &in);
	for (int i = 0; i < n_kills; i++) {
		for (int k = 0; k < 40; k++) {
			if (k == (i * 7) % 40)
				kill_one(i);
			send_script(&sending);
			say_script(peer, &saying);
			take_all(&reading);
		}
	}
	ck_assert_msg(recorder_wait(peer, sending.at, 20000), "%s", recorder_complaint(peer));
	ck_assert_msg(!recorder_complaint(peer), "%s", recorder_complaint(peer));
	while (reading.n_bytes < saying.at) {
		size_t n = expect_event(WL_RECV, event);

		take_recv(&reading, (const struct wl_data *)event, n);
	}
	rig_ok(suite_wait_ready(&rig), rig.why);
	suite_remember(&rig);
}
END_TEST

/* ---- lives ---- */

START_TEST(test_reboot_closes_everything)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made;

	for (uint32_t id = 50; id < 80; id++)
		ck_assert_int_eq(wl_new(guest, id, 3 * PAGE, &made), 0);
	rig_ok(wl_front_reboot(&front), front.why);
	ck_assert(recorder_wait_hangup(peer, 10000));
	peer = connect_ctx(CTX);
	for (uint32_t id = 50; id < 80; id++) {
		ck_assert_int_eq(wl_new(guest, id, 3 * PAGE, &made), 0);
		memset(wl_memory(guest, &made), 1, made.size);
	}
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "again", 5), 0);
	ck_assert(recorder_wait(peer, 5, 10000));
	ck_assert_uint_eq(front.window.n_maps, 30);
}
END_TEST

START_TEST(test_pauses_keep_everything)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made;

	ck_assert_int_eq(wl_new(guest, 50, PAGE, &made), 0);
	for (uint32_t i = 0; i < 10; i++) {
		uint32_t id = 50;

		rig_ok(wl_front_pause(&front), front.why);
		ck_assert(recorder_send(peer, "paused", 6, NULL, 0));
		rig_ok(wl_front_resume(&front), front.why);
		check_recv(CTX, NULL, 0, "paused");
		ck_assert_int_eq(wl_send(guest, CTX, &id, 1, "resumed", 7), 0);
		ck_assert(recorder_wait(peer, 7 * (i + 1), 10000));
	}
	ck_assert_uint_eq(recorder_n_fds(peer), 10);
	ck_assert_uint_eq(front.window.n_mapped, 1);
}
END_TEST

/* A socket cannot leave its host: the load says so, and changes nothing. */
START_TEST(test_state_with_open_windows_is_refused)
{
	static uint8_t state[VU_STATE_MAX];
	struct recorder_peer *peer = connect_ctx(CTX);
	size_t n_state;

	rig_ok(wl_front_pause(&front), front.why);
	rig_ok(vu_save_state(&front.c, state, &n_state), front.c.why);
	ck_assert_int_eq(vu_load_state(&front.c, state, n_state), VU_E_REFUSED);
	ck_assert(suite_logged(&rig, "n_vfds is 1; sockets, pipes and files cannot leave"));
	rig_ok(wl_front_resume(&front), front.why);
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "still there", 11), 0);
	ck_assert(recorder_wait(peer, 11, 10000));

	ck_assert_int_eq(wl_close(guest, CTX), 0);
	rig_ok(wl_front_pause(&front), front.why);
	rig_ok(vu_save_state(&front.c, state, &n_state), front.c.why);
	rig_ok(vu_load_state(&front.c, state, n_state), front.c.why);
	rig_ok(wl_front_resume(&front), front.why);
	(void)connect_ctx(CTX);
}
END_TEST

START_TEST(test_compositor_goes_and_comes)
{
	recorder_hang_up(connect_ctx(CTX));
	expect_hup(CTX);
	ck_assert_int_eq(wl_close(guest, CTX), 0);
	recorder_free(compositor);
	ck_assert_int_ne(wl_new_ctx(guest, CTX, NULL), 0);
	start_compositor();
	connect_ctx(CTX);
}
END_TEST

START_TEST(test_close_hangs_up)
{
	struct recorder_peer *peer = connect_ctx(CTX);

	ck_assert_int_eq(wl_close(guest, CTX), 0);
	ck_assert(recorder_wait_hangup(peer, 10000));
	ck_assert_int_eq(wl_close(guest, CTX), WL_INVALID_ID);
}
END_TEST

/* ---- who does not read stalls itself alone ---- */

/* As much as the device takes of one context while nothing reads; the requests that wait. */
static int fill_context(uint32_t id, int *ret_slots)
{
	static _Alignas(8) uint8_t buf[WL_SLOT_BYTES];
	static uint8_t data[WL_SEND_BYTES];
	size_t n = wl_put_send(buf, id, NULL, 0, data, sizeof(data)), total = 0;
	struct wl_msg answer;

	for (;;) {
		int slot = guest->ops->post(guest, buf, n), r;

		ck_assert_int_ge(slot, 0);
		for (int i = 0; i < 50; i++) {
			r = guest->ops->answer(guest, slot, &answer, sizeof(answer));
			if (r != -EAGAIN)
				break;
			guest->ops->wait(guest, 10);
		}
		if (r == -EAGAIN) {
			*ret_slots = slot;
			return (int)total;
		}
		ck_assert_uint_eq(answer.type, WL_OK);
		total += sizeof(data);
		ck_assert_uint_le(total, 64u << 20);
	}
}

START_TEST(test_stalled_compositor)
{
	struct recorder_peer *stalled = connect_ctx(CTX), *other = connect_ctx(2);
	struct wl_msg answer;
	int slot, n, r;

	recorder_stall(stalled, true);
	n = fill_context(CTX, &slot);
	ck_assert_int_eq(wl_send(guest, 2, NULL, 0, "goes on", 7), 0);
	ck_assert(recorder_wait(other, 7, 10000));
	rig_ok(wl_front_pause(&front), front.why);
	rig_ok(wl_front_resume(&front), front.why);
	ck_assert_int_eq(wl_send(guest, 2, NULL, 0, "still", 5), 0);
	ck_assert(recorder_wait(other, 12, 10000));
	recorder_stall(stalled, false);
	ck_assert(recorder_wait(stalled, (uint64_t)n + WL_SEND_BYTES, 10000));
	while ((r = guest->ops->answer(guest, slot, &answer, sizeof(answer))) == -EAGAIN)
		guest->ops->wait(guest, 10);
	ck_assert_int_ge(r, 4);
	ck_assert_uint_eq(answer.type, WL_OK);
}
END_TEST

/* Whether all buffers for events are used, and the guest has seen none of them. */
static bool is_ring_full(void)
{
	const struct ring *r = &front.rings[0];
	uint16_t used = __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE);

	return (uint16_t)(used - r->next_used) == WL_FRONT_EVENTS;
}

/* A guest that does not read, and a compositor that does not stop. How much a socket holds depends
 * on the messages' sizes, so that the compositor only sends while there is room: one that waits
 * for this guest would wait for ever. */
START_TEST(test_endless_compositor)
{
	struct script_setting setting = { .seed = 5, .bytes_only = true };
	struct recorder_peer *peer = connect_ctx(CTX), *other = connect_ctx(2);
	struct reading reading = { 0 };
	struct script saying;
	struct wl_msg made;

	script_begin(&saying, &setting);
	script_begin(&reading.script, &setting);
	while (!is_ring_full())
		if (recorder_has_room(peer, 1))
			say_script(peer, &saying);
	ck_assert_int_eq(wl_new(guest, 60, PAGE, &made), 0);
	ck_assert_int_eq(wl_send(guest, 2, NULL, 0, "goes on", 7), 0);
	ck_assert(recorder_wait(other, 7, 10000));
	while (saying.at < ENOUGH_BYTES || reading.n_bytes < saying.at) {
		if (saying.at < ENOUGH_BYTES && recorder_has_room(peer, 1))
			say_script(peer, &saying);
		take_all(&reading);
	}
}
END_TEST

static uint32_t close_all(const struct wl_data *recv)
{
	for (uint32_t i = 0; i < recv->n_vfds; i++)
		ck_assert_int_eq(wl_close(guest, recv->ids[i]), 0);
	return recv->n_vfds;
}

/* More descriptors than the guest may have at once: each arrives when there is room for it. */
START_TEST(test_compositor_floods_with_descriptors)
{
	struct recorder_peer *peer = connect_ctx(CTX), *other = connect_ctx(2);
	int fds[28], n_messages = 3 * WL_RIG_VFDS / 28;
	uint32_t n_fds = 0, n_data = 0, type;

	for (int i = 0; i < 28; i++)
		fds[i] = make_file("flood", PAGE, false);
	for (int i = 0; i < n_messages; i++)
		ck_assert(recorder_send(peer, "f", 1, fds, 28));
	for (int i = 0; i < 28; i++)
		close(fds[i]);
	ck_assert_int_eq(wl_send(guest, 2, NULL, 0, "goes on", 7), 0);
	ck_assert(recorder_wait(other, 7, 10000));
	while (n_data < (uint32_t)n_messages) {
		int n = wl_wait_event(guest, event, WAIT_MS);
		struct wl_data *recv = (void *)event;
		size_t n_more = 0;

		ck_assert_msg(n > 0, "%d after %u descriptors, %u bytes", n, n_fds, n_data);
		memcpy(&type, event, sizeof(type));
		if (type != WL_RECV)
			continue;
		ck_assert_ptr_nonnull(wl_recv_data(recv, (size_t)n, &n_more));
		n_data += (uint32_t)n_more;
		n_fds += close_all(recv);
	}
	ck_assert_uint_eq(n_fds, (uint32_t)n_messages * 28);
}
END_TEST

/* ---- hostile guests ---- */

static uint32_t ask(uint32_t type, uint32_t id, uint32_t flags, uint32_t size)
{
	struct wl_msg answer, msg = { .type = type, .id = id, .flags = flags, .size = size };
	int r = wl_request(guest, &msg, sizeof(msg), &answer);

	ck_assert_msg(r >= 0, "%d %s", r, front.why);
	return answer.type;
}

static const struct {
	const char *what;
	uint32_t type, id, flags, size, answer;
} wrong[] = {
	{ "NEW: an id of the host's", WL_NEW, WL_HOST_ID, 0, PAGE, WL_INVALID_ID },
	{ "NEW: bit 31", WL_NEW, 0x80000001u, 0, PAGE, WL_INVALID_ID },
	{ "NEW: an id in use", WL_NEW, CTX, 0, PAGE, WL_INVALID_ID },
	{ "NEW: flags", WL_NEW, 20, WL_WRITE, PAGE, WL_INVALID_FLAGS },
	{ "NEW: no size", WL_NEW, 20, 0, 0, WL_ERR },
	{ "CLOSE: unknown", WL_CLOSE, 20, 0, 0, WL_INVALID_ID },
	{ "NEW_CTX: in use", WL_NEW_CTX, CTX, 0, 0, WL_INVALID_ID },
	{ "NEW_CTX: an id of the host's", WL_NEW_CTX, WL_HOST_ID + 5, 0, 0, WL_INVALID_ID },
	{ "NEW_PIPE: no direction", WL_NEW_PIPE, 20, 0, 0, WL_INVALID_FLAGS },
	{ "NEW_PIPE: both", WL_NEW_PIPE, 20, WL_READ | WL_WRITE, 0, WL_INVALID_FLAGS },
	{ "NEW_PIPE: another flag", WL_NEW_PIPE, 20, 4, 0, WL_INVALID_FLAGS },
	{ "SEND: unknown", WL_SEND, 20, 0, 0, WL_INVALID_ID },
	{ "SEND: 29 VFDs", WL_SEND, CTX, 29, 0, WL_INVALID_CMD },
	{ "SEND: 2^32 - 1 VFDs", WL_SEND, CTX, UINT32_MAX, 0, WL_INVALID_CMD },
	{ "SEND_FOREIGN_ID: 29 of them", WL_SEND_FOREIGN_ID, CTX, 29, 0, WL_INVALID_CMD },
	{ "NEW_DMABUF: no render node", WL_NEW_DMABUF, 20, 0, 0, WL_INVALID_CMD },
	{ "an event", WL_RECV, CTX, 0, 0, WL_INVALID_CMD },
	{ "an answer", WL_OK, CTX, 0, 0, WL_INVALID_CMD },
	{ "nothing", 0, CTX, 0, 0, WL_INVALID_CMD },
};

START_TEST(test_wrong_command)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	uint32_t answer = ask(wrong[_i].type, wrong[_i].id, wrong[_i].flags, wrong[_i].size);

	ck_assert_msg(answer == wrong[_i].answer, "%s: %#x instead of %#x", wrong[_i].what, answer,
		wrong[_i].answer);
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "well", 4), 0);
	ck_assert(recorder_wait(peer, 4, 10000));
	ck_assert_uint_eq(recorder_n_bytes(peer), 4);
}
END_TEST

START_TEST(test_short_commands)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	static const uint32_t types[] = { WL_NEW, WL_CLOSE, WL_SEND, WL_NEW_CTX, WL_NEW_PIPE,
		WL_NEW_DMABUF, WL_DMABUF_SYNC, WL_SEND_FOREIGN_ID, WL_NEW_CTX_NAMED };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		for (size_t n = 1; n < 12; n++) {
			struct wl_msg answer, msg = { .type = types[i], .id = 20 };
			int r = wl_request(guest, &msg, n, &answer);

			ck_assert_msg(r >= WL_ERR, "%#x in %zu bytes: %d", types[i], n, r);
		}
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "well", 4), 0);
	ck_assert(recorder_wait(peer, 4, 10000));
}
END_TEST

START_TEST(test_until_refused)
{
	struct wl_msg made;
	uint32_t id = 1, n;
	int r;

	connect_ctx(id);
	do {
		r = wl_new(guest, ++id, PAGE, &made);
	} while (!r);
	ck_assert_int_eq(r, WL_OUT_OF_MEMORY);
	n = id - 1;
	ck_assert_uint_eq(n, WL_RIG_VFDS);
	ck_assert_int_eq(wl_new_pipe(guest, id, WL_READ), WL_OUT_OF_MEMORY);
	ck_assert_int_eq(wl_new_ctx(guest, id, NULL), WL_OUT_OF_MEMORY);
	ck_assert_int_eq(wl_close(guest, id - 1), 0);
	ck_assert_int_eq(wl_new(guest, id, PAGE, &made), 0);
	memset(wl_memory(guest, &made), 1, PAGE);
}
END_TEST

START_TEST(test_until_memory_is_refused)
{
	struct wl_msg made;
	uint32_t id = 1;
	int r;

	do {
		r = wl_new(guest, id++, 256u << 20, &made);
	} while (!r);
	ck_assert_int_eq(r, WL_OUT_OF_MEMORY);
	ck_assert_uint_le(id, 17);
	ck_assert_int_eq(wl_new(guest, id, UINT32_MAX, &made), WL_OUT_OF_MEMORY);
	ck_assert_int_eq(wl_close(guest, 1), 0);
	ck_assert_int_eq(wl_new(guest, id, 256u << 20, &made), 0);
}
END_TEST

/* A VMM that maps nothing: the guest is told, and all else works. */
START_TEST(test_refused_maps)
{
	struct recorder_peer *peer = connect_ctx(CTX);
	struct wl_msg made;

	front.refuse = true;
	ck_assert_int_ge(wl_new(guest, 20, PAGE, &made), WL_ERR);
	ck_assert_int_eq(wl_send(guest, CTX, NULL, 0, "well", 4), 0);
	ck_assert(recorder_wait(peer, 4, 10000));
	front.refuse = false;
	ck_assert_int_eq(wl_new(guest, 20, PAGE, &made), 0);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "wl");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_descriptors_reach_the_compositor);
	tcase_add_test(tc, test_answers_are_logged);
	tcase_add_test(tc, test_memory_is_shared);
	tcase_add_test(tc, test_files_reach_the_guest);
	tcase_add_test(tc, test_pipe_from_the_compositor);
	tcase_add_test(tc, test_pipe_from_the_guest);
	tcase_add_test(tc, test_reboot_closes_everything);
	tcase_add_test(tc, test_pauses_keep_everything);
	tcase_add_test(tc, test_state_with_open_windows_is_refused);
	tcase_add_test(tc, test_compositor_goes_and_comes);
	tcase_add_test(tc, test_close_hangs_up);
	tcase_add_test(tc, test_stalled_compositor);
	tcase_add_test(tc, test_endless_compositor);
	tcase_add_test(tc, test_compositor_floods_with_descriptors);
	tcase_add_loop_test(tc, test_wrong_command, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, test_short_commands);
	tcase_add_test(tc, test_until_refused);
	tcase_add_test(tc, test_until_memory_is_refused);
	tcase_add_test(tc, test_refused_maps);
	tcase_add_test(tc, test_streams_survive_kills);
	tcase_set_timeout(tc, getenv("BULKHEAD_FULL") ? 300 : 60);
	tc = rig_case(suite, "wl rings");
	tcase_add_loop_test(tc, test_rings_of_each_layout, 0, 8);
}

int main(void)
{
	return wl_rig_main("wl", add);
}
