/*
 * The witness is a child of the test program. On a one-byte command it moves 32 frames, and replies
 * with one byte and a line of text. With BULKHEAD_ROUNDS it moves frames all the time, and prints
 * in the end how many, in how many milliseconds, and how long 32 of them took at most. libcheck
 * forks for each test, so the witness's rings must live in neither the parent nor the tests.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "lib/patience.h"
#include "often.h"
#include "rig.h"

#define WITNESS_MS test_ms(20000)
#define REST_MS 10 /* what is tested needs a processor as well */

struct suite rig;
static int witness_fd = -1;
static pid_t witness_pid;

static void answer(int fd, int e, const char *why)
{
	char line[256] = { 0 };

	snprintf(line, sizeof(line), "%s%s", e ? "!" : ".", e ? why : "");
	if (send(fd, line, sizeof(line), MSG_NOSIGNAL) < 0)
		_exit(1);
}

static struct {
	uint64_t n_frames, since_ms, longest_ms;
} moved;

static int move_frames(struct net *n)
{
	uint64_t start = clock_ms();
	int e = net_pump(n, 0, 32, 200);
	uint64_t took = clock_ms() - start;

	if (!moved.n_frames)
		moved.since_ms = start;
	moved.n_frames += 32;
	moved.longest_ms = took > moved.longest_ms ? took : moved.longest_ms;
	return e;
}

/* Until the next command, or the end. */
static int move_meanwhile(struct net *n, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int e = 0;

	while (!e && getenv("BULKHEAD_ROUNDS") && poll(&p, 1, REST_MS) == 0)
		e = move_frames(n);
	return e;
}

static void tell_moved(void)
{
	if (!getenv("BULKHEAD_ROUNDS"))
		return;
	printf("neighbour: %llu frames in %llu ms, none lost, 32 took %llu ms at most\n",
		(unsigned long long)moved.n_frames,
		(unsigned long long)(clock_ms() - moved.since_ms),
		(unsigned long long)moved.longest_ms);
	fflush(stdout);
}

static void witness_main(int fd)
{
	static struct net n;
	struct net_profile p = { .features = VU_BIT(VU_F_EVENT_IDX), .lax = rig.peer };
	int e = net_open(&n, suite_socket(&rig, "witness"), &p);
	char command;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	do {
		if (!e)
			e = move_frames(&n);
		answer(fd, e, n.why);
		if (!e)
			e = move_meanwhile(&n, fd);
	} while (read(fd, &command, 1) == 1);
	if (!e)
		tell_moved();
	net_close(&n);
	_exit(0);
}

static int hear(char *ret_line)
{
	struct pollfd p = { .fd = witness_fd, .events = POLLIN };

	if (poll(&p, 1, WITNESS_MS) <= 0) {
		(void)snprintf(ret_line, 256, "!the witness is stuck");
		return -1;
	}
	if (recv(witness_fd, ret_line, 256, MSG_WAITALL) != 256) {
		(void)snprintf(ret_line, 256, "!the witness died");
		return -1;
	}
	return ret_line[0] == '.' ? 0 : -1;
}

static int start_witness(char *ret_line)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	fflush(NULL);
	witness_pid = fork();
	if (!witness_pid) {
		close(pair[0]);
		witness_main(pair[1]);
	}
	close(pair[1]);
	witness_fd = pair[0];
	return hear(ret_line);
}

static void stop_witness(void)
{
	close(witness_fd);
	waitpid(witness_pid, NULL, 0);
}

void rig_check_witness(void)
{
	char line[256] = { 0 };

	ck_assert_int_eq(write(witness_fd, "g", 1), 1);
	ck_assert_msg(!hear(line), "the other device: %s", line + 1);
}

const char *rig_socket(void)
{
	return suite_socket(&rig, "net0");
}

static void after_each(void)
{
	rig_ok(suite_same(&rig), rig.why);
	rig_check_witness();
}

TCase *rig_case(Suite *suite, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, NULL, after_each);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return tc;
}

TCase *rig_kills_case(Suite *suite)
{
	TCase *tc = tcase_create("kills");

	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return tc;
}

void rig_open(struct net *n, const struct net_profile *profile)
{
	struct net_profile p = *profile;

	p.lax = rig.peer;
	rig_ok(net_open(n, rig_socket(), &p), n->why);
}

void rig_open_stopped(struct net *n, const struct net_profile *profile)
{
	struct net_profile p = *profile;

	p.lax = rig.peer;
	rig_ok(net_init(n, &p), n->why);
	rig_ok(vu_connect(&n->c, rig_socket()), n->c.why);
	rig_ok(net_negotiate(n), n->why);
	rig_ok(net_make_rings(n), n->why);
	rig_ok(net_set_memory(n), n->why);
}

void rig_start_rings(struct net *n)
{
	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(net_start_ring(n, i), n->why);
	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(net_enable(n, i, true), n->why);
	for (uint16_t i = 0; i < n->p.n_pairs; i++)
		rig_ok(net_fill(n, i), n->why);
}

void rig_stop_rings(struct net *n)
{
	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(net_stop_ring(n, i), n->why);
}

void rig_restart_rings(struct net *n)
{
	rig_stop_rings(n);
	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(net_start_ring(n, i), n->why);
}

void rig_end(struct net *n)
{
	rig_stop_rings(n);
	rig_ok(net_check(n), n->why);
	net_close(n);
}

void rig_finish(struct net *n)
{
	rig_ok(net_pump(n, 0, 300, 200), n->why);
	rig_restart_rings(n);
	rig_ok(net_pump(n, 0, 300, 200), n->why);
	rig_end(n);
}

void rig_check_net0(void)
{
	static struct net n;
	struct net_profile p = { 0 };

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 32, 300), n.why);
	net_close(&n);
}

void rig_hello(struct vu_client *c, uint64_t want)
{
	*c = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(c, rig_socket()), c->why);
	rig_ok(vu_hello(c, want | VU_BIT(VU_PF_REPLY_ACK)), c->why);
	ck_assert(c->acked_protocol & VU_BIT(VU_PF_REPLY_ACK));
}

/* Acknowledged when the worker has applied it: a worker connects to the bus only after it serves,
 * and from then on the number of descriptors stays as it is. */
static int meet_net0(const struct suite_device *net0)
{
	struct vu_client c = VU_CLIENT_NULL;
	int e;

	if (net0->client)
		return 0;
	e = vu_connect(&c, rig_socket());
	c.ack = true;
	e = e ?: vu_hello(&c, VU_BIT(VU_PF_REPLY_ACK));
	e = e ?: vu_set(&c, VU_SET_OWNER, NULL, 0, -1);
	if (e)
		fprintf(stderr, "net0: %s\n", c.why);
	vu_close(&c);
	return e;
}

int rig_main(const char *name, const struct suite_device *net0, void (*add)(Suite *suite))
{
	struct suite_device devices[2] = { *net0, { .name = "witness", .backend = "echo" } };
	char line[256] = { 0 };
	bool tap = getenv("CK_TAP_LOG_FILE_NAME");
	int n_failed = 1;
	int e;

	devices[0].name = "net0";
	e = suite_start(&rig, devices, 2);
	if (e) {
		fprintf(stderr, "%s: %s\n", name, rig.why);
		if (e == -ENOENT && tap)
			printf("1..0 # SKIP no product\n");
		return e != -ENOENT ? 1 : tap ? 0 : 77;
	}
	if (suite_wait_ready(&rig)) {
		fprintf(stderr, "%s: %s\n", name, rig.why);
	} else if (start_witness(line)) {
		fprintf(stderr, "%s: the witness: %s\n", name, line + 1);
	} else if (meet_net0(net0) == 0) {
		suite_remember(&rig);
		n_failed = often_run(&rig, name, add);
		/* the lines report failed cases; an exit status would hide them */
		n_failed = tap ? 0 : n_failed;
	}
	e = n_failed ? 0 : suite_no_leak(&rig);
	if (witness_pid > 0)
		stop_witness();
	e = suite_stop(&rig) ?: e;
	if (e)
		fprintf(stderr, "%s: at the end: %s\n", name, rig.why);
	return n_failed || e ? 1 : 0;
}

void rig_pass_fd(int into, int fd)
{
	struct vu_client carrier = { .fd = into };

	rig_ok(vu_send_raw(&carrier, "x", 1, &fd, 1), carrier.why);
}

int rig_take_fd(int from)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	int fd;

	ck_assert_int_eq(recvmsg(from, &hdr, MSG_CMSG_CLOEXEC), 1);
	ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&hdr));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&hdr)), sizeof(fd));
	return fd;
}
