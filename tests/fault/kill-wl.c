/*
 * The kill matrix of the Wayland device: each process, and all of them at once, is killed before
 * and after every system call that it makes while a guest's client and a compositor exchange
 * messages with descriptors, and pipes carry data, or while its successor takes over. The guest
 * notices nothing: its stand-in and the recording compositor compare each byte and each descriptor.
 *
 * 	kill-wl [CELL [POINT]]
 *
 * CELL is 0 to 3: memory, frontend, wl, all; 4 to 7: their successors.
 *
 * An ordinary run tries points spread evenly over each cell, other ones each time, and the same
 * ones again with the BULKHEAD_SEED that it printed; BULKHEAD_FULL=1 tries all.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/patience.h"
#include "lib/recorder.h"
#include "lib/rig.h"
#include "lib/run.h"
#include "lib/suite.h"
#include "lib/wl-front.h"
#include "victims.h"

#define SAMPLE 8
#define WAIT_MS 20000
#define N_MESSAGES 3   /* each way, in one piece of work */
#define MAX_BYTES 9000 /* of a message */
#define PIPE_BYTES 6000u
#define CONTEXT 1u
#define PIPES_CONTEXT 2u /* over which ends of pipes are sent */
#define FIRST_PIPE 10u
#define FIRST_FILE 100u /* VFDs with memory; each says its number */

/* the last one has no part in this, and dies with all of them */
static const char *const roles[] = { "memory", "frontend", "wl", "snapshot" };

#define N_ROLES (sizeof(roles) / sizeof(roles[0]))
#define N_VICTIMS N_ROLES
#define ALL (N_ROLES - 1)

static struct suite suite;
static int cell = -1;       /* the only one to try; -1: all */
static uint32_t only_point; /* likewise; 0: all */
static struct recorder *compositor;
static char socket_path[64];
static struct wl_front front;
static struct recorder_peer *client, *pipes;
static struct script out, in; /* of the guest's next message; what it has verified */
static struct script written; /* the compositor's next message */
static int files[SCRIPT_FILES];
static uint64_t n_ends; /* of pipes, that were sent */

static const struct victims victims = {
	.suite = &suite, .roles = roles, .n_roles = N_ROLES, .wait_ms = WAIT_MS
};

/* --- The guest --- */

/** struct announced - VFDs that the device has announced, and no RECV has listed yet */
static struct announced {
	struct wl_msg vfds[WL_MAX_VFDS];
	size_t n;
} announced;

/* The number that the memory of an announced VFD says. */
static int take_file(uint32_t id)
{
	for (size_t i = 0; i < announced.n; i++) {
		const uint64_t *memory = wl_memory(&front.link, &announced.vfds[i]);
		uint64_t number;

		if (announced.vfds[i].id != id)
			continue;
		ck_assert_msg(memory, "VFD %u has no memory", id);
		number = *memory;
		announced.vfds[i] = announced.vfds[--announced.n];
		ck_assert_uint_lt(number, SCRIPT_FILES);
		return files[number];
	}
	ck_abort_msg("VFD %u was not announced", id);
}

static void take_recv(const struct wl_data *recv, int n_bytes)
{
	int fds[WL_MAX_VFDS];
	const uint8_t *data;
	size_t n;

	data = wl_recv_data(recv, (size_t)n_bytes, &n);
	ck_assert_ptr_nonnull(data);
	ck_assert_uint_eq(recv->id, CONTEXT);
	for (uint32_t i = 0; i < recv->n_vfds; i++)
		fds[i] = take_file(recv->ids[i]);
	ck_assert_msg(script_verify(&in, data, n, fds, recv->n_vfds), "to the guest: %s", in.why);
	for (uint32_t i = 0; i < recv->n_vfds; i++)
		rig_ok(wl_close(&front.link, recv->ids[i]), front.why);
}

/* Until all that the compositor has written has arrived. */
static void receive(void)
{
	static _Alignas(8) uint8_t event[WL_EVENT_BYTES];

	while (in.at + in.offset < written.at) {
		const struct wl_msg *msg = (const struct wl_msg *)event;
		int n = wl_wait_event(&front.link, event, test_ms(WAIT_MS));

		ck_assert_msg(n > 0, "an event: %d: %s", n, front.why);
		if (msg->type == WL_RECV) {
			take_recv((const struct wl_data *)event, n);
			continue;
		}
		ck_assert_uint_eq(msg->type, WL_NEW);
		ck_assert_uint_lt(announced.n, WL_MAX_VFDS);
		announced.vfds[announced.n++] = *msg;
	}
}

static void send_message(void)
{
	static uint8_t bytes[MAX_BYTES];
	uint32_t ids[SCRIPT_FDS_MAX];

	script_fill(&out, 0, bytes, out.n_bytes);
	for (uint32_t i = 0; i < out.n_fds; i++)
		ids[i] = FIRST_FILE + (uint32_t)((out.file + i) % SCRIPT_FILES);
	rig_ok(wl_send(&front.link, CONTEXT, ids, out.n_fds, bytes, out.n_bytes), front.why);
	script_next(&out);
}

static void write_message(void)
{
	static uint8_t bytes[MAX_BYTES];
	int fds[SCRIPT_FDS_MAX];

	script_fill(&written, 0, bytes, written.n_bytes);
	for (uint32_t i = 0; i < written.n_fds; i++)
		fds[i] = files[(written.file + i) % SCRIPT_FILES];
	ck_assert(recorder_send(client, bytes, written.n_bytes, fds, written.n_fds));
	script_next(&written);
}

/* --- Pipes --- */

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 >> 3);
}

/* The other end of a new pipe, with the compositor; the caller's. */
static int send_end(uint32_t id, uint32_t flags)
{
	rig_ok(wl_new_pipe(&front.link, id, flags), front.why);
	rig_ok(wl_send(&front.link, PIPES_CONTEXT, &id, 1, "p", 1), front.why);
	n_ends++;
	ck_assert(recorder_wait(pipes, n_ends, WAIT_MS));
	ck_assert_uint_eq(recorder_n_fds(pipes), n_ends);
	return recorder_take_fd(pipes, n_ends - 1);
}

static void write_pipe(void)
{
	static uint8_t bytes[PIPE_BYTES], got[2 * PIPE_BYTES];
	_cleanup_close_ int end = send_end(FIRST_PIPE, WL_WRITE);
	struct pollfd ready = { .fd = end, .events = POLLIN };
	size_t n = 0;

	for (size_t i = 0; i < PIPE_BYTES; i++)
		bytes[i] = byte_at(i);
	rig_ok(wl_send(&front.link, FIRST_PIPE, NULL, 0, bytes, PIPE_BYTES), front.why);
	rig_ok(wl_close(&front.link, FIRST_PIPE), front.why);
	for (ssize_t r = 1; r > 0 && n<sizeof(got); n += r> 0 ? (size_t)r : 0) {
		ck_assert_int_eq(poll(&ready, 1, test_ms(WAIT_MS)), 1);
		r = read(ready.fd, got + n, sizeof(got) - n);
	}
	ck_assert_uint_eq(n, PIPE_BYTES);
	ck_assert_mem_eq(got, bytes, PIPE_BYTES);
}

static void take_pipe_data(const struct wl_data *recv, int n_bytes, size_t *at)
{
	const uint8_t *data;
	size_t n;

	data = wl_recv_data(recv, (size_t)n_bytes, &n);
	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(data[i] == byte_at((*at)++), "byte %zu of a pipe", *at - 1);
}

static void read_pipe(void)
{
	static _Alignas(8) uint8_t event[WL_EVENT_BYTES];
	static uint8_t bytes[PIPE_BYTES];
	_cleanup_close_ int end = send_end(FIRST_PIPE + 1, WL_READ);
	size_t at = 0;

	for (size_t i = 0; i < PIPE_BYTES; i++)
		bytes[i] = byte_at(i);
	ck_assert_int_eq(write(end, bytes, PIPE_BYTES), PIPE_BYTES);
	while (at < PIPE_BYTES) {
		const struct wl_msg *msg = (const struct wl_msg *)event;
		int n = wl_wait_event(&front.link, event, test_ms(WAIT_MS));

		ck_assert_msg(n > 0, "an event: %d: %s, at byte %zu", n, front.why, at);
		ck_assert_uint_eq(msg->type, WL_RECV);
		ck_assert_uint_eq(msg->id, FIRST_PIPE + 1);
		take_pipe_data((const struct wl_data *)event, n, &at);
	}
	ck_assert_uint_eq(at, PIPE_BYTES);
	rig_ok(wl_close(&front.link, FIRST_PIPE + 1), front.why);
}

/* --- The work --- */

static void work(void)
{
	const char *complaint;

	for (int i = 0; i < N_MESSAGES; i++) {
		send_message();
		write_message();
		receive();
	}
	write_pipe();
	read_pipe();
	(void)recorder_wait(client, out.at, WAIT_MS);
	complaint = recorder_complaint(client);
	ck_assert_msg(!complaint, "to the host: %s", complaint);
	ck_assert_uint_eq(recorder_n_bytes(client), out.at);
	rig_ok(wl_front_check(&front), front.why);
}

/* Memory that the guest allocates; it writes there which one it is. */
static void make_files(void)
{
	for (uint32_t i = 0; i < SCRIPT_FILES; i++) {
		struct wl_msg answer;

		files[i] = script_file(i);
		rig_ok(wl_new(&front.link, FIRST_FILE + i, 4096, &answer), front.why);
		*(uint64_t *)wl_memory(&front.link, &answer) = i;
	}
}

/* The first connection asks what the compositor can do: nothing. */
static void answer_first(void)
{
	const uint32_t done[] = { 3, 12 << 16, 0 };
	struct recorder_peer *asker = recorder_accept(compositor, WAIT_MS);

	ck_assert_ptr_nonnull(asker);
	ck_assert(recorder_wait(asker, 24, WAIT_MS));
	ck_assert(recorder_send(asker, done, sizeof(done), NULL, 0));
}

static void begin_guest(void)
{
	struct script_setting setting = { .seed = test_seed(), .max_bytes = MAX_BYTES };

	compositor = recorder_new(socket_path, 16);
	rig_ok(wl_front_open(&front, suite_socket(&suite, "wl0")), front.why);
	front.link.timeout_ms = test_ms(WAIT_MS);
	rig_ok(wl_new_ctx(&front.link, CONTEXT, NULL), front.why);
	answer_first();
	client = recorder_accept(compositor, WAIT_MS);
	rig_ok(wl_new_ctx(&front.link, PIPES_CONTEXT, NULL), front.why);
	pipes = recorder_accept(compositor, WAIT_MS);
	ck_assert(client && pipes);
	recorder_follow(client, &setting);
	script_begin(&out, &setting);
	setting.seed++;
	setting.early = true;
	script_begin(&written, &setting);
	script_begin(&in, &setting);
	make_files();
}

/* --- A point --- */

/* So that a test that fails says where. */
static void name_point(size_t victim, bool restart, uint32_t point)
{
	if (getenv("BULKHEAD_SHOW_POINTS"))
		fprintf(stderr, "# kill %s%s at %u\n", victim != ALL ? roles[victim] : "all",
			restart ? ", again" : "", point);
}

/* _i: the victim, and N_VICTIMS: its successor */
START_TEST(test_kill)
{
	size_t victim = (size_t)_i % N_VICTIMS;
	bool restart = (size_t)_i >= N_VICTIMS;
	uint32_t n_steps, every = 1, first = 1;

	begin_guest();
	work();
	n_steps = victims_try(&victims, victim, restart, STEPPER_NEVER, work).n_steps;
	if (!getenv("BULKHEAD_FULL") && n_steps > SAMPLE) {
		every = n_steps / SAMPLE;
		first += test_seed() % every;
	}
	if (only_point)
		first = every = n_steps = only_point;
	for (uint32_t point = first; point <= n_steps; point += every) {
		name_point(victim, restart, point);
		(void)victims_try(&victims, victim, restart, point, work);
	}
	wl_front_close(&front);
	recorder_free(compositor);
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("kill-wl");

	tcase_set_timeout(tc, 36000);
	tcase_add_loop_test(tc, test_kill, cell < 0 ? 0 : cell,
		cell < 0 ? 2 * (int)N_VICTIMS : cell + 1);
	suite_add_tcase(s, tc);
}

int main(int argc, char *argv[])
{
	struct suite_device device = { .name = "wl0", .type = "wl", .wayland = socket_path };
	int r, failed;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		cell = atoi(argv[1]);
	if (argc > 2)
		only_point = (uint32_t)atoi(argv[2]);
	snprintf(socket_path, sizeof(socket_path), "/tmp/kill-wl-%d", getpid());
	r = suite_start(&suite, &device, 1);
	if (!r)
		r = suite_wait_ready(&suite);
	if (r) {
		printf("1..0 # SKIP %s\n", suite.why);
		return r == -ENOENT ? 77 : 1;
	}
	suite.deadly = true;
	failed = run_suite("kill-wl", add);
	r = suite_stop(&suite);
	if (r)
		fprintf(stderr, "%s\n", suite.why);
	unlink(socket_path);
	return failed || r;
}
