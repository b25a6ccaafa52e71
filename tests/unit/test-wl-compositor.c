/* The compositors' sockets, against a stand-in that knows wp_security_context_v1, or does not, or
 * misbehaves. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "compositor.h"
#include "lib/patience.h"
#include "lib/run.h"
#include "security-context.h"

#define MANAGER "wp_security_context_manager_v1"

static sd_event *event;
static struct compositors *compositors;
static unsigned int n_ready;
static char folder[] = "/tmp/test-wl-compositor-XXXXXX", path[80];
static int listen_fd, control_fd;

static void on_ready(void *data)
{
	n_ready++;
}

static void listen_here(int backlog)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	unlink(path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	ck_assert_int_eq(bind(listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(listen_fd, backlog), 0);
}

static void begin(int backlog)
{
	struct compositors_setting setting = {
		.folder = folder, .guest = "vm1", .device = "wl0", .on_ready = on_ready
	};

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/wayland-1", folder);
	listen_fd = control_fd = -1;
	if (backlog >= 0)
		listen_here(backlog);
	ck_assert_int_ge(sd_event_new(&event), 0);
	setting.event = event;
	compositors = compositors_new(&setting);
	ck_assert_ptr_nonnull(compositors);
	ck_assert_int_eq(compositors_add(compositors, "", path), 0);
}

static void end(void)
{
	compositors_free(compositors);
	sd_event_unref(event);
	fd_close(listen_fd);
	fd_close(control_fd);
	unlink(path);
	ck_assert_int_eq(rmdir(folder), 0); /* nothing is left there */
}

static int connect_unnamed(int *ret_fd)
{
	return compositors_connect(compositors, "", 0, ret_fd);
}

/* As the device does: again, whenever it may be worth it. */
static int connect_at_last(int *ret_fd)
{
	uint64_t limit = clock_us() + test_us(30000);
	int r;

	while ((r = connect_unnamed(ret_fd)) == COMPOSITOR_E_WAIT && clock_us() < limit) {
		unsigned int before = n_ready;

		while (n_ready == before && clock_us() < limit)
			ck_assert_int_ge(sd_event_run(event, 100000), 0);
	}
	return r;
}

/* --- The compositor's side --- */

static size_t read_words(uint32_t *words, size_t max, int *fds, size_t *n_fds)
{
	union {
		char bytes[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { words, max * sizeof(*words) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(control_fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	ck_assert_int_gt(n, 0);
	*n_fds = cmsg ? (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (cmsg)
		memcpy(fds, CMSG_DATA(cmsg), *n_fds * sizeof(int));
	return (size_t)n / sizeof(*words);
}

static const uint32_t first_requests[] = {
	1, 12 << 16 | 1, 2, /* get_registry */
	1, 12 << 16 | 0, 3, /* sync */
};

static void accept_control(void)
{
	uint32_t words[64];
	size_t n_fds, n;
	int fds[8];

	control_fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(control_fd, 0);
	n = read_words(words, ARRAY_SIZE(words), fds, &n_fds);
	ck_assert_uint_eq(n * sizeof(*words), sizeof(first_requests));
	ck_assert_mem_eq(words, first_requests, sizeof(first_requests));
}

static void send_global(uint32_t name, const char *interface, uint32_t version)
{
	uint32_t n = (uint32_t)strlen(interface) + 1, padded = (uint32_t)align_up(n, 4);
	uint32_t words[32] = { 2, (20 + padded) << 16, name, n };

	memcpy(words + 4, interface, n);
	words[4 + padded / 4] = version;
	ck_assert_int_eq(send(control_fd, words, 20 + padded, 0), 20 + padded);
}

static void send_done(uint32_t callback)
{
	uint32_t words[] = { callback, 12 << 16, 0 };

	ck_assert_int_eq(send(control_fd, words, sizeof(words), 0), sizeof(words));
}

static void send_globals(bool with_manager)
{
	send_global(1, "wl_compositor", 5);
	if (with_manager)
		send_global(17, MANAGER, 1);
	send_global(18, "wp_security_context_manager_v12", 1); /* another one */
	send_done(3);
}

/* A string argument at that word; returns the word behind it. */
static size_t check_string(const uint32_t *words, size_t at, const char *text)
{
	ck_assert_uint_eq(words[at], strlen(text) + 1);
	ck_assert_str_eq((const char *)(words + at + 1), text);
	return at + 1 + align_up(strlen(text) + 1, 4) / 4;
}

/* bind, create_listener, set_..., commit, sync; returns the two descriptors */
static void check_proposal(int fds[2])
{
	uint32_t words[256];
	size_t n_fds, n = read_words(words, ARRAY_SIZE(words), fds, &n_fds), at;

	ck_assert_uint_eq(n_fds, 2);
	ck_assert_uint_eq(words[0], 2);
	ck_assert_uint_eq(words[2], 17);
	at = check_string(words, 3, MANAGER);
	ck_assert_uint_eq(words[at], 1);
	ck_assert_uint_eq(words[at + 1], 4);
	at += 2;
	ck_assert_uint_eq(words[1], at * 4 << 16);
	ck_assert_mem_eq(words + at, ((uint32_t[]){ 4, 12 << 16 | 1, 5 }), 12);
	at += 3;
	ck_assert_uint_eq(words[at + 1] & 0xffff, 1);
	at = check_string(words, at + 2, "bulkhead");
	ck_assert_uint_eq(words[at + 1] & 0xffff, 2);
	at = check_string(words, at + 2, "vm1");
	ck_assert_uint_eq(words[at + 1] & 0xffff, 3);
	at = check_string(words, at + 2, "vm1/wl0");
	ck_assert_mem_eq(words + at, ((uint32_t[]){ 5, 8 << 16 | 4 }), 8);
	ck_assert_mem_eq(words + at + 2, ((uint32_t[]){ 1, 12 << 16, 6 }), 12);
	ck_assert_uint_eq(n, at + 5);
}

/* Until the worker has done what it can do now. */
static void run_worker(void)
{
	while (sd_event_run(event, 20000) > 0)
		;
}

static void await_request(void)
{
	struct pollfd ready = { .fd = control_fd, .events = POLLIN };
	uint64_t limit = clock_us() + test_us(10000);

	while (poll(&ready, 1, 0) == 0 && clock_us() < limit)
		run_worker();
	ck_assert_int_eq(poll(&ready, 1, 0), 1);
}

static void agree(int fds[2])
{
	int fd;

	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	send_globals(true);
	await_request();
	check_proposal(fds);
	send_done(6);
}

START_TEST(test_a_guest_is_tagged)
{
	int fds[2], fd = -1, accepted;
	struct pollfd closing;

	begin(8);
	agree(fds);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(connect_at_last(&fd), 0);
		accepted = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
		ck_assert_int_ge(accepted, 0);
		ck_assert_int_eq(send(fd, "x", 1, 0), 1);
		close(accepted);
		close(fd);
	}
	closing = (struct pollfd){ .fd = fds[1] };
	ck_assert_int_eq(poll(&closing, 1, 0), 0);
	compositors = compositors_free(compositors);
	ck_assert_int_eq(poll(&closing, 1, 0), 1); /* the compositor is to accept no more */
	close(fds[0]);
	close(fds[1]);
	end();
}
END_TEST

START_TEST(test_without_the_protocol_contexts_are_plain)
{
	int fd = -1, accepted;

	begin(8);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	send_globals(false);
	ck_assert_int_eq(connect_at_last(&fd), 0);
	accepted = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_eq(send(fd, "x", 1, 0), 1);
	close(accepted);
	close(fd);
	end();
}
END_TEST

START_TEST(test_a_compositor_that_is_gone_is_found_when_it_is_back)
{
	int fds[2], fd = -1;

	begin(-1);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_GONE);
	listen_here(8);
	agree(fds);
	ck_assert_int_eq(connect_at_last(&fd), 0);
	close(fd);
	close(fds[0]);
	close(fds[1]);
	listen_fd = fd_close(listen_fd);
	control_fd = fd_close(control_fd);
	ck_assert_int_eq(connect_at_last(&fd), COMPOSITOR_E_GONE);
	run_worker();
	listen_here(8);
	agree(fds);
	ck_assert_int_eq(connect_at_last(&fd), 0);
	close(fd);
	close(fds[0]);
	close(fds[1]);
	end();
}
END_TEST

static const struct {
	uint32_t words[6];
	size_t n_bytes;
} malformed[] = {
	{ { 0 }, 0 },                /* hangs up */
	{ { 3, 0 }, 8 },             /* shorter than its head */
	{ { 3, 13 << 16 }, 12 },     /* no whole words */
	{ { 3, 0xfffcu << 16 }, 8 }, /* longer than any message */
	{ { 1, 12 << 16, 0 }, 12 },  /* an error */
	{ { 6, 12 << 16 }, 12 },     /* what was not asked is done */
};

START_TEST(test_a_compositor_that_misbehaves_is_gone)
{
	int fd = -1;

	begin(8);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	if (malformed[_i].n_bytes > 0)
		ck_assert_int_eq(send(control_fd, malformed[_i].words, malformed[_i].n_bytes, 0),
			(ssize_t)malformed[_i].n_bytes);
	else
		control_fd = fd_close(control_fd);
	ck_assert_int_eq(connect_at_last(&fd), COMPOSITOR_E_GONE);
	end();
}
END_TEST

/* Events with any object, number, length and contents, in pieces of any size. */
static size_t make_garbage(uint8_t *bytes)
{
	uint32_t words[16], n = 2 + (uint32_t)random() % 12;

	for (uint32_t i = 0; i < n; i++)
		words[i] = random() % 3 ? (uint32_t)random() % 40 : (uint32_t)random();
	words[0] = 1 + (uint32_t)random() % 6;
	words[1] =
		(random() % 20 ? n * 4 : (uint32_t)random() % 70000) << 16 | (uint32_t)random() % 3;
	memcpy(bytes, words, n * 4);
	return n * 4;
}

START_TEST(test_garbage_is_survived)
{
	const struct security_context_setting setting = { "/tmp", "vm1", "wl0" };

	srandom(test_seed());
	for (int i = 0; i < 2000; i++) {
		struct security_context *context;
		uint8_t bytes[64];
		int pair[2], r = 0;

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		context = security_context_new(&setting, pair[0]);
		ck_assert_ptr_nonnull(context);
		for (int k = 0; k < 8 && r != SECURITY_CONTEXT_E_FAILED; k++) {
			size_t n = make_garbage(bytes),
			       first = (size_t)random() % MAX(n, (size_t)1);

			ck_assert_int_eq(send(pair[1], bytes, first, 0), (ssize_t)first);
			(void)security_context_read(context);
			(void)send(pair[1], bytes + first, n - first, MSG_NOSIGNAL);
			r = security_context_read(context);
		}
		security_context_free(context);
		close(pair[1]);
	}
}
END_TEST

START_TEST(test_a_refused_sandbox_is_no_connection)
{
	uint32_t error[] = { 1, 24 << 16, 4, 2, 1, 0 };
	int fds[2], fd = -1;

	begin(8);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	send_globals(true);
	await_request();
	check_proposal(fds);
	ck_assert_int_eq(send(control_fd, error, sizeof(error), 0), sizeof(error));
	ck_assert_int_eq(connect_at_last(&fd), COMPOSITOR_E_GONE);
	end();
}
END_TEST

/* Each would be another socket of ours. */
START_TEST(test_an_answer_counts_once)
{
	int fds[2], fd = -1;

	begin(8);
	agree(fds);
	ck_assert_int_eq(connect_at_last(&fd), 0);
	send_done(_i ? 3 : 6);
	run_worker();
	control_fd = fd_close(control_fd);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT); /* it is asked anew */
	end();
}
END_TEST

/* Globals without an end: each turn of the loop is bounded, and others are served. */
START_TEST(test_endless_events_are_read_a_part_at_a_time)
{
	static uint32_t flood[1 << 14];
	uint64_t turns = 0, limit = clock_us() + test_us(20000);
	size_t sent = 0;
	int fd = -1;

	begin(8);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	for (size_t i = 0; i < ARRAY_SIZE(flood); i += 4)
		memcpy(flood + i, ((uint32_t[]){ 2, 16 << 16 | 1, 9, 9 }), 16);
	while (sent < 100 * sizeof(flood) && clock_us() < limit) {
		ssize_t n = send(control_fd, (uint8_t *)flood + sent % 16, 16384, MSG_DONTWAIT);

		sent += n > 0 ? (size_t)n : 0;
		sd_event_run(event, 0);
		turns++;
	}
	ck_assert_uint_gt(turns, 50);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	end();
}
END_TEST

/* Nobody accepts: it takes five seconds until the guest is told. */
START_TEST(test_a_full_backlog_is_waited_for)
{
	int fd = -1, accepted = -1;

	begin(0);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	accept_control();
	send_globals(false);
	ck_assert_int_eq(connect_at_last(&fd), 0); /* takes the only place */
	close(fd);
	ck_assert_int_eq(connect_unnamed(&fd), COMPOSITOR_E_WAIT);
	if (_i) {
		ck_assert_int_eq(connect_at_last(&fd), COMPOSITOR_E_GONE);
	} else {
		accepted = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		ck_assert_int_eq(connect_at_last(&fd), 0);
		close(fd);
	}
	fd_close(accepted);
	end();
}
END_TEST

START_TEST(test_names_are_compared_whole)
{
	char long_path[200], name[COMPOSITOR_NAME_MAX + 2];
	int fd = -1;

	begin(8);
	memset(name, 'n', sizeof(name));
	name[COMPOSITOR_NAME_MAX] = '\0';
	ck_assert_int_eq(compositors_add(compositors, name, "/nowhere"), 0);
	ck_assert_int_eq(compositors_connect(compositors, name, COMPOSITOR_NAME_MAX, &fd),
		COMPOSITOR_E_GONE);
	ck_assert_int_eq(compositors_connect(compositors, name, COMPOSITOR_NAME_MAX - 1, &fd),
		COMPOSITOR_E_UNKNOWN);
	ck_assert_int_eq(compositors_add(compositors, name, path), 0); /* the last one counts */
	ck_assert_int_eq(compositors_connect(compositors, name, COMPOSITOR_NAME_MAX, &fd),
		COMPOSITOR_E_WAIT);
	name[COMPOSITOR_NAME_MAX] = 'n';
	name[COMPOSITOR_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(compositors_add(compositors, name, "/nowhere"), -EINVAL);
	memset(long_path, 'p', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = '\0';
	ck_assert_int_eq(compositors_add(compositors, "long", long_path), -ENAMETOOLONG);
	end();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("compositor");

	tcase_set_timeout(tcase, test_ms(60000) / 1000.0);
	tcase_add_test(tcase, test_a_guest_is_tagged);
	tcase_add_test(tcase, test_without_the_protocol_contexts_are_plain);
	tcase_add_test(tcase, test_a_compositor_that_is_gone_is_found_when_it_is_back);
	tcase_add_loop_test(tcase, test_a_compositor_that_misbehaves_is_gone, 0,
		ARRAY_SIZE(malformed));
	tcase_add_test(tcase, test_garbage_is_survived);
	tcase_add_test(tcase, test_a_refused_sandbox_is_no_connection);
	tcase_add_loop_test(tcase, test_an_answer_counts_once, 0, 2);
	tcase_add_test(tcase, test_endless_events_are_read_a_part_at_a_time);
	tcase_add_loop_test(tcase, test_a_full_backlog_is_waited_for, 0,
		getenv("BULKHEAD_FULL") ? 2 : 1);
	tcase_add_test(tcase, test_names_are_compared_whole);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_main("wl-compositor", add);
}
