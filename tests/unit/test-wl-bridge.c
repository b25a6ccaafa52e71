/* The resource bridge against a stand-in for the GPU's process, good and bad. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "bridge.h"
#include "lib/patience.h"
#include "lib/run.h"

static sd_event *event;
static struct bridge *bridge;
static unsigned int n_answers;
static int listen_fd, gpu_fd, resource;
static char path[64];

static void on_answer(void *data)
{
	n_answers++;
}

static void listen_here(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	ck_assert_int_eq(bind(listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(listen_fd, 4), 0);
}

static void begin(bool listening)
{
	snprintf(path, sizeof(path), "/tmp/test-wl-bridge-%d", getpid());
	unlink(path);
	listen_fd = gpu_fd = -1;
	if (listening)
		listen_here();
	ck_assert_int_ge(sd_event_new(&event), 0);
	bridge = bridge_new(event, path, on_answer, NULL);
	ck_assert_ptr_nonnull(bridge);
	resource = memfd_create("resource", MFD_CLOEXEC);
}

static void end(void)
{
	bridge_free(bridge);
	sd_event_unref(event);
	fd_close(listen_fd);
	fd_close(gpu_fd);
	fd_close(resource);
	unlink(path);
}

static void run_until_answer(void)
{
	unsigned int before = n_answers;
	uint64_t limit = clock_us() + test_us(20000);

	while (n_answers == before && clock_us() < limit)
		ck_assert_int_ge(sd_event_run(event, 1000000), 0);
	ck_assert_uint_gt(n_answers, before);
}

/* What the GPU's process was asked. */
static const char *question(void)
{
	static char text[256];
	ssize_t n;

	if (gpu_fd < 0)
		gpu_fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	n = recv(gpu_fd, text, sizeof(text) - 1, 0);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	return text;
}

static void reply(const char *text, int n_fds)
{
	int fds[] = { resource, resource };
	union {
		char bytes[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), fds, (size_t)n_fds * sizeof(int));
	}
	ck_assert_int_eq(sendmsg(gpu_fd, &msg, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void check_is_resource(int fd)
{
	struct stat a, b;

	ck_assert_int_eq(fstat(fd, &a), 0);
	ck_assert_int_eq(fstat(resource, &b), 0);
	ck_assert_uint_eq(a.st_ino, b.st_ino);
	close(fd);
}

START_TEST(test_a_buffer_is_given_once)
{
	int fd = -1;

	begin(true);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 7, &fd), BRIDGE_E_WAIT);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 7, &fd), BRIDGE_E_WAIT);
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":7}}");
	reply("{\"Resource\":{\"Buffer\":{\"handle\":1,\"planes\":[{\"offset\":0,\"stride\":64}],"
	      "\"modifier\":0,\"guest_cpu_mappable\":true}}}",
		2);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 7, &fd), 0);
	check_is_resource(fd);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 7, &fd), BRIDGE_E_WAIT);
	end();
}
END_TEST

START_TEST(test_questions_are_answered_in_their_order)
{
	int fd = -1;

	begin(true);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_FENCE, UINT64_MAX, &fd), BRIDGE_E_WAIT);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 8, &fd), BRIDGE_E_WAIT);
	ck_assert_str_eq(question(), "{\"GetFence\":{\"seqno\":18446744073709551615}}");
	reply("{\"Resource\":{\"Fence\":{\"handle\":0}}}", 1);
	run_until_answer();
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":8}}");
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_FENCE, UINT64_MAX, &fd), 0);
	check_is_resource(fd);
	reply("\"Invalid\"", 0);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 8, &fd), BRIDGE_E_NONE);
	end();
}
END_TEST

START_TEST(test_no_bridge_has_nothing)
{
	int fd = -1;

	ck_assert_int_eq(bridge_ask(NULL, BRIDGE_BUFFER, 1, &fd), BRIDGE_E_NONE);
	bridge_forget(NULL);
}
END_TEST

/* The GPU's process starts later. */
START_TEST(test_a_bridge_that_comes_late_is_found)
{
	int fd = -1;

	begin(false);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 1, &fd), BRIDGE_E_WAIT);
	sd_event_run(event, 60000);
	sd_event_run(event, 60000);
	listen_here();
	while (poll(&(struct pollfd){ listen_fd, POLLIN, 0 }, 1, 0) == 0)
		sd_event_run(event, 100000);
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":1}}");
	reply("{\"Resource\":{\"Buffer\":{\"handle\":0}}}", 1);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 1, &fd), 0);
	check_is_resource(fd);
	end();
}
END_TEST

/* It takes five seconds to give up. */
START_TEST(test_a_bridge_that_is_mute_is_given_up)
{
	int fd = -1;

	begin(_i == 0);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 1, &fd), BRIDGE_E_WAIT);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 1, &fd), BRIDGE_E_NONE);
	end();
}
END_TEST

static const struct {
	const char *text;
	int n_fds;
} malformed[] = {
	{ "{", 0 },
	{ "null", 1 },
	{ "\"Valid\"", 0 },
	{ "{\"Resource\":{\"Fence\":{\"handle\":0}}}", 1 }, /* to another question */
	{ "{\"Resource\":{\"Buffer\":{\"handle\":1}}}", 1 },
	{ "{\"Resource\":{\"Buffer\":{\"handle\":-1}}}", 1 },
	{ "{\"Resource\":{\"Buffer\":{\"handle\":0}}}", 0 },
	{ "{\"Resource\":{\"Buffer\":{\"handle\":\"0\"}}}", 1 },
	{ "{\"Resource\":{\"Buffer\":[0]}}", 1 },
	{ "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0 },
};

START_TEST(test_a_malformed_answer_is_none)
{
	int fd = -1;

	begin(true);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 3, &fd), BRIDGE_E_WAIT);
	question();
	reply(malformed[_i].text, malformed[_i].n_fds);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 3, &fd), BRIDGE_E_NONE);
	gpu_fd = fd_close(gpu_fd);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 4, &fd), BRIDGE_E_WAIT); /* anew */
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":4}}");
	end();
}
END_TEST

START_TEST(test_an_unasked_answer_ends_the_connection)
{
	int fd = -1;

	begin(true);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 3, &fd), BRIDGE_E_WAIT);
	question();
	bridge_forget(bridge);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 5, &fd), BRIDGE_E_WAIT);
	gpu_fd = fd_close(gpu_fd);
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":5}}"); /* on another one */
	reply("\"Invalid\"", 0);
	run_until_answer();
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 5, &fd), BRIDGE_E_NONE);
	reply("\"Invalid\"", 0);
	run_until_answer();
	gpu_fd = fd_close(gpu_fd);
	ck_assert_int_eq(bridge_ask(bridge, BRIDGE_BUFFER, 6, &fd), BRIDGE_E_WAIT);
	ck_assert_str_eq(question(), "{\"GetBuffer\":{\"id\":6}}");
	end();
}
END_TEST

START_TEST(test_questions_are_limited)
{
	int fd = -1, r = BRIDGE_E_WAIT;
	uint64_t id = 0;

	begin(true);
	for (; r == BRIDGE_E_WAIT && id < 1000; id++)
		r = bridge_ask(bridge, BRIDGE_BUFFER, id, &fd);
	ck_assert_int_eq(r, BRIDGE_E_NONE);
	ck_assert_uint_gt(id, 100);
	end();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("bridge");

	tcase_set_timeout(tcase, test_ms(60000) / 1000.0);
	tcase_add_test(tcase, test_a_buffer_is_given_once);
	tcase_add_test(tcase, test_questions_are_answered_in_their_order);
	tcase_add_test(tcase, test_no_bridge_has_nothing);
	tcase_add_test(tcase, test_a_bridge_that_comes_late_is_found);
	tcase_add_loop_test(tcase, test_a_bridge_that_is_mute_is_given_up, 0,
		getenv("BULKHEAD_FULL") ? 2 : 1);
	tcase_add_loop_test(tcase, test_a_malformed_answer_is_none, 0, ARRAY_SIZE(malformed));
	tcase_add_test(tcase, test_an_unasked_answer_ends_the_connection);
	tcase_add_test(tcase, test_questions_are_limited);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	return run_main("wl-bridge", add);
}
