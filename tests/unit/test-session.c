/*
 * A session between a VMM's end of a socket and a memory manager that answers when the test says
 * so: what is committed, what is answered and when, and what a session that takes over from a dead
 * one does.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/run.h"
#include "session.h"

static sd_event *event;
static struct session s;
static struct config_device device = { .name = (char *)"net0", .type = (char *)"net" };
static char path[64];
static int vmm = -1;
static struct blame_mark mark;
static Bh__Desired *committing; /* what is on its way to memory; NULL = nothing */
static unsigned int n_commits, n_deposits;
static bool waits; /* it is committed by one who waits for the worker's report */

static int commit(struct session *session, const Bh__Desired *next, bool applied)
{
	n_commits++;
	waits = applied;
	desired_free(committing);
	committing = desired_next(next);
	committing->generation = next->generation;
	return 0;
}

static size_t depositing; /* descriptors that are on their way; 0 = none */
static bool memory_away;  /* nothing is deposited, nothing redeemed */

static int deposit_error; /* of all that is deposited */

static int deposit(struct session *session, const int *fds, size_t n)
{
	if (!deposit_error)
		depositing = n;
	return deposit_error;
}

static int kept = -1; /* what every token stands for */
static bool redeeming;

static int redeem(struct session *session, uint64_t token)
{
	redeeming = true;
	return 0;
}

static void forget(struct session *session)
{
	depositing = 0;
	redeeming = false;
}

static const struct memory_ops ops = {
	.commit = commit, .deposit = deposit, .redeem = redeem, .forget = forget
};

/* --- The loop, memory, the worker --- */

/* The vault's answer to what it was asked; false: nothing was. */
static bool answer_vault(void)
{
	uint64_t tokens[FDS_MAX];
	size_t n = depositing;

	if (memory_away)
		return false;
	if (n) {
		depositing = 0;
		for (size_t i = 0; i < n; i++)
			tokens[i] = ++n_deposits;
		session_deposited(&s, 0, tokens);
		return true;
	}
	if (!redeeming)
		return false;
	redeeming = false;
	session_redeemed(&s, fcntl(kept, F_DUPFD_CLOEXEC, 0));
	return true;
}

/* Runs until nothing is left to do. */
static void turn(void)
{
	while (sd_event_run(event, 2000) > 0 || answer_vault())
		;
}

/* The time is over for which the message in work waits. */
static void time_passes(void)
{
	ck_assert_uint_ne(s.exchange.until_usec, 0);
	sd_event_source_set_time(s.limit, 0);
	turn();
}

/* Memory's answer to what is on its way. */
static void answer(int error, const char *refused)
{
	ck_assert_ptr_nonnull(committing);
	committing = desired_free(committing);
	session_committed(&s, error, refused);
	turn();
}

static void accept_commits(void)
{
	turn();
	while (committing)
		answer(0, "");
}

static Bh__Observed *observe(uint64_t applied)
{
	Bh__Observed *observed = calloc(1, sizeof(*observed));

	bh__observed__init(observed);
	observed->applied = applied;
	observed->features = BIT(32);
	observed->protocol_features = BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
		BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |
		BIT(VHOST_USER_PROTOCOL_F_STATUS) | BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
	observed->n_queues = 2;
	observed->queue_size_max = 256;
	observed->max_mem_slots = 8;
	observed->config.data = calloc(1, 8);
	observed->config.len = 8;
	return observed;
}

static void worker_applies(uint32_t position, const char *error)
{
	Bh__Observed *observed = observe(s.view.desired->generation);

	observed->rings = calloc(1, sizeof(*observed->rings));
	observed->rings[0] = calloc(1, sizeof(**observed->rings));
	observed->n_rings = 1;
	bh__ring_state__init(observed->rings[0]);
	observed->rings[0]->position = position;
	if (error)
		observed->apply_error = strdup(error);
	session_observed(&s, observed);
	turn();
}

/* --- The VMM --- */

static int connect_vmm(void)
{
	struct sockaddr_un addr;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_eq(address_fill(&addr, path), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void say(uint32_t request, bool need_reply, const void *payload, uint32_t n, int fd)
{
	struct header header = { request, HEADER_VERSION | (need_reply ? HEADER_NEED_REPLY : 0),
		n };
	struct iovec iov[] = { { &header, sizeof(header) }, { (void *)payload, n } };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		hdr.msg_control = control.buf;
		hdr.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&hdr) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&hdr)), &fd, sizeof(fd));
	}
	ck_assert_int_eq(sendmsg(vmm, &hdr, MSG_NOSIGNAL), sizeof(header) + n);
}

static void say_u64(uint32_t request, bool need_reply, uint64_t value)
{
	say(request, need_reply, &value, sizeof(value), -1);
	turn();
}

static void say_state(uint32_t request, bool need_reply, uint32_t index, uint32_t num)
{
	struct vring_state state = { index, num };

	say(request, need_reply, &state, sizeof(state), -1);
	turn();
}

static void say_kick(bool need_reply)
{
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);

	say(SET_VRING_KICK, need_reply, &(uint64_t){ 0 }, 8, fd);
	turn();
}

/* The whole reply's u64; fails when there is none. */
static uint64_t hear(uint32_t request)
{
	struct {
		struct header header;
		uint8_t payload[8];
	} reply;
	uint64_t value;

	ck_assert_int_eq(recv(vmm, &reply, sizeof(reply), 0), sizeof(reply));
	ck_assert_uint_eq(reply.header.request, request);
	ck_assert_uint_eq(reply.header.flags, 5);
	ck_assert_uint_eq(reply.header.size, 8);
	memcpy(&value, reply.payload, sizeof(value));
	return value;
}

static bool silent(void)
{
	char byte;

	return recv(vmm, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static void open_session(void)
{
	memset(&s, 0, sizeof(s));
	s.ops = &ops;
	s.mark = &mark;
	ck_assert_int_ge(session_open(&s, event, &device), 0);
}

static void set_up(void)
{
	Bh__Desired empty = BH__DESIRED__INIT;

	signal(SIGPIPE, SIG_IGN);
	unsetenv("NOTIFY_SOCKET");
	snprintf(path, sizeof(path), "/tmp/bulkhead-session-%d.sock", getpid());
	device.socket = path;
	ck_assert_int_ge(sd_event_new(&event), 0);
	open_session();
	session_loaded(&s, desired_next(&empty), observe(0));
	vmm = connect_vmm();
	accept_commits();
	say_u64(SET_PROTOCOL_FEATURES, false, s.view.observed->protocol_features);
	accept_commits();
	ck_assert(s.view.desired->connected);
}

static void tear_down(void)
{
	vmm = fd_close(vmm);
	session_close(&s);
	committing = desired_free(committing);
	memory_away = false;
	event = sd_event_unref(event);
	unlink(path);
}

/* --- Answers --- */

START_TEST(test_vmm_is_a_session_of_the_record)
{
	uint64_t session = s.view.desired->session;

	ck_assert_uint_eq(session, 1);
	say_u64(SET_STATUS, false, 7);
	accept_commits();
	vmm = fd_close(vmm);
	turn();
	ck_assert(committing && !committing->connected && committing->status == 0);
	accept_commits();
	ck_assert_int_lt(s.exchange.conn_fd, 0);
	vmm = connect_vmm();
	accept_commits();
	ck_assert_uint_eq(s.view.desired->session, session + 1);
}
END_TEST

START_TEST(test_acknowledged_when_applied)
{
	say_u64(SET_STATUS, true, 7);
	ck_assert(committing && committing->status == 7 && silent());
	answer(0, "");
	ck_assert(silent());
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_STATUS), 0);
	ck_assert(silent());
}
END_TEST

START_TEST(test_not_acknowledged_unless_asked_for)
{
	say_u64(SET_STATUS, false, 7);
	accept_commits();
	say(GET_STATUS, true, NULL, 0, -1);
	turn();
	ck_assert_uint_eq(hear(GET_STATUS), 7);
	ck_assert(silent());
}
END_TEST

START_TEST(test_refused_by_memory_fails_alone)
{
	say_u64(SET_STATUS, true, 7);
	answer(0, "a rule");
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	ck_assert_uint_eq(s.view.desired->status, 0);
	say_u64(SET_STATUS, true, 1000);
	ck_assert_ptr_null(committing);
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	say(99, true, "xyz", 3, -1);
	turn();
	ck_assert_uint_ne(hear(99), 0);
	say(GET_STATUS, false, NULL, 0, -1);
	turn();
	ck_assert_uint_eq(hear(GET_STATUS), 0);
}
END_TEST

/* covers: P3 */
START_TEST(test_memory_that_died_is_asked_again)
{
	unsigned int n;

	say_u64(SET_STATUS, false, 7);
	n = n_commits;
	answer(-ECONNRESET, "");
	for (int i = 0; i < 1000 && n_commits == n; i++)
		sd_event_run(event, 10000);
	ck_assert_uint_eq(n_commits, n + 1);
	ck_assert(committing && committing->status == 7);
	accept_commits();
	ck_assert_uint_eq(s.view.desired->status, 7);
}
END_TEST

START_TEST(test_descriptors_that_died_with_memory_are_deposited_again)
{
	unsigned int n = n_deposits;

	say_kick(true);
	ck_assert_uint_eq(n_deposits, n + 1);
	answer(0, "ring 0 names a descriptor that was not deposited");
	ck_assert_uint_eq(n_deposits, n + 2);
	ck_assert_uint_eq(committing->rings[0]->kick_token, n + 2);
	answer(0, "once more");
	answer(0, "and once more");
	answer(0, "that is enough");
	ck_assert(!committing && hear(SET_VRING_KICK) == 1);
	ck_assert_uint_eq(n_deposits, n + 4);
}
END_TEST

/* Nobody waits for it but the VMM, and it is nobody's fault. */
START_TEST(test_message_waits_for_a_memory_that_is_away)
{
	memory_away = true;
	say_kick(false);
	say_u64(SET_STATUS, false, 7);
	ck_assert(s.exchange.step == STEP_DEPOSIT && !committing && !blame_here.mark);
	ck_assert_uint_gt(wire_bytes(&s.exchange.msg), 0);
	memory_away = false;
	turn();
	ck_assert(committing && committing->rings[0]->kick_token && committing->status == 7);
	accept_commits();
	ck_assert_uint_eq(s.view.desired->status, 7);
}
END_TEST

START_TEST(test_vmm_that_goes_meanwhile_is_not_waited_for)
{
	memory_away = true;
	say_kick(true);
	vmm = fd_close(vmm);
	turn();
	ck_assert(depositing == 0 && committing && !committing->connected);
	memory_away = false;
	accept_commits();
	ck_assert_int_lt(s.exchange.conn_fd, 0);
}
END_TEST

START_TEST(test_no_blame_is_left_while_memory_is_asked)
{
	say_u64(SET_STATUS, true, 7);
	committing = desired_free(committing);
	session_committed(&s, -ETIMEDOUT, "");
	ck_assert_ptr_null(blame_here.mark);
	time_passes();
	answer(-ECONNRESET, "");
	ck_assert_ptr_null(blame_here.mark);
}
END_TEST

/* A memory that was away tells the worker late; only then the worker's time begins. */
START_TEST(test_worker_gets_its_time_after_memory_was_away)
{
	say_u64(SET_STATUS, true, 7);
	answer(0, "");
	ck_assert_int_eq(s.exchange.awaits, AWAITS_WORKER);
	time_passes();
	ck_assert(committing && silent());
	s.exchange.probe_usec -= 60000000;
	answer(0, "");
	ck_assert(s.exchange.awaits == AWAITS_WORKER && silent());
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_STATUS), 0);
}
END_TEST

START_TEST(test_worker_that_does_nothing_is_not_waited_for_for_ever)
{
	say_u64(SET_STATUS, true, 7);
	answer(0, "");
	time_passes();
	answer(0, "");
	ck_assert(s.exchange.awaits == AWAITS_WORKER && silent());
	time_passes();
	ck_assert_uint_eq(hear(SET_STATUS), 1);
}
END_TEST

START_TEST(test_what_the_worker_cannot_do_is_undone)
{
	say_u64(SET_STATUS, true, 7);
	answer(0, "");
	worker_applies(0, "no");
	ck_assert(committing && committing->status == 0);
	ck_assert(silent());
	answer(0, "");
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	ck_assert_uint_eq(s.view.desired->status, 0);
}
END_TEST

START_TEST(test_ring_stops_where_the_worker_says)
{
	say_kick(false);
	accept_commits();
	say_state(GET_VRING_BASE, false, 0, 0);
	ck_assert(committing && !committing->rings[0]->started);
	answer(0, "");
	ck_assert(silent());
	worker_applies(0x1234, NULL);
	ck_assert_uint_eq(hear(GET_VRING_BASE), UINT64_C(0x1234) << 32);
	say_state(GET_VRING_BASE, false, 0, 0);
	ck_assert_ptr_null(committing);
	ck_assert_uint_eq(hear(GET_VRING_BASE), UINT64_C(0x1234) << 32);
	say_kick(false);
	ck_assert_uint_eq(committing->rings[0]->position, 0x1234);
}
END_TEST

/* --- Batches --- */

static void say_status(bool need_reply, uint64_t status)
{
	say(SET_STATUS, need_reply, &status, sizeof(status), -1);
}

static void say_ring(uint32_t request, uint32_t index, uint32_t num)
{
	struct vring_state state = { index, num };

	say(request, false, &state, sizeof(state), -1);
}

static void say_notifier(uint32_t request, bool need_reply, uint32_t index)
{
	_cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);

	say(request, need_reply, &(uint64_t){ index }, 8, fd);
}

/* Set up as QEMU does it, before anybody here has looked. */
static void say_ring_setup(uint32_t index)
{
	struct vring_addr addr = { .index = index };

	say_ring(SET_VRING_NUM, index, 256);
	say_ring(SET_VRING_BASE, index, 0);
	say(SET_VRING_ADDR, false, &addr, sizeof(addr), -1);
	say_notifier(SET_VRING_KICK, true, index);
}

START_TEST(test_burst_is_one_commit)
{
	unsigned int commits = n_commits, deposits = n_deposits;

	say_status(false, 7);
	say_notifier(SET_VRING_CALL, false, 0);
	say_ring(SET_VRING_ENABLE, 0, 1);
	say_ring_setup(0);
	turn();
	ck_assert_uint_eq(n_commits, commits + 1);
	ck_assert_uint_eq(committing->status, 7);
	ck_assert_uint_eq(committing->n_rings, 1);
	ck_assert_uint_eq(committing->rings[0]->size, 256);
	ck_assert(committing->rings[0]->enabled && committing->rings[0]->started);
	ck_assert_uint_eq(committing->rings[0]->call_token, deposits + 1);
	ck_assert_uint_eq(committing->rings[0]->kick_token, deposits + 2);
	answer(0, "");
	ck_assert(silent() && !committing);
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_VRING_KICK), 0);
	ck_assert_uint_eq(n_commits, commits + 1);
	ck_assert(silent());
}
END_TEST

/* Nothing that is there to be done is left, and no time has passed: this machine may be slow. */
static void turn_at_once(void)
{
	while (sd_event_run(event, 0) > 0 || answer_vault())
		if (s.exchange.awaits == AWAITS_MORE)
			sd_event_source_set_time(s.limit, UINT64_MAX);
}

/* A VMM that says one thing after the other is not held up by a commit for each. */
START_TEST(test_what_only_prepares_waits_for_the_next_message)
{
	unsigned int commits = n_commits;
	struct vring_addr addr = { 0 };

	say_ring(SET_VRING_NUM, 0, 256);
	turn_at_once();
	ck_assert(s.exchange.step == STEP_LINGER && !committing);
	say_ring(SET_VRING_BASE, 0, 7);
	turn_at_once();
	ck_assert(s.exchange.step == STEP_LINGER && s.exchange.batch.n == 1);
	say(SET_VRING_ADDR, false, &addr, sizeof(addr), -1);
	turn_at_once();
	say_notifier(SET_VRING_KICK, true, 0);
	turn_at_once();
	ck_assert_uint_eq(n_commits, commits + 1);
	ck_assert(committing->rings[0]->size == 256 && committing->rings[0]->started);
	ck_assert(waits);
	answer(0, "");
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_VRING_KICK), 0);
	ck_assert_uint_eq(n_commits, commits + 1);
}
END_TEST

/* The time is set off, since this machine's may be slow. */
START_TEST(test_what_only_prepares_does_not_wait_for_long)
{
	say_ring(SET_VRING_NUM, 0, 256);
	turn_at_once();
	ck_assert(s.exchange.step == STEP_LINGER);
	time_passes();
	ck_assert(committing && committing->rings[0]->size == 256 && !waits);
	accept_commits();
}
END_TEST

START_TEST(test_what_takes_effect_does_not_wait)
{
	say_notifier(SET_VRING_KICK, false, 0);
	turn_at_once();
	ck_assert(committing && committing->rings[0]->started && !waits);
	accept_commits();
	say_status(false, 15);
	turn_at_once();
	ck_assert(committing && committing->status == 15);
	accept_commits();
	say_ring(SET_VRING_ENABLE, 0, 1);
	turn_at_once();
	ck_assert(committing && committing->rings[0]->enabled);
	accept_commits();
}
END_TEST

START_TEST(test_vmm_that_goes_is_not_waited_for)
{
	say_ring(SET_VRING_NUM, 0, 256);
	turn_at_once();
	ck_assert(s.exchange.step == STEP_LINGER);
	vmm = fd_close(vmm);
	accept_commits();
	ck_assert(!s.view.desired->connected && s.view.desired->n_rings == 0);
}
END_TEST

/* A commit is not put off for as long as a VMM keeps talking. */
START_TEST(test_batch_is_bounded)
{
	unsigned int commits = n_commits;

	for (uint64_t i = 1; i <= 100; i++)
		say_status(false, i);
	turn();
	ck_assert_uint_eq(n_commits, commits + 1);
	ck_assert_uint_eq(committing->status, BATCH_MAX + 1);
	accept_commits();
	ck_assert_uint_eq(s.view.desired->status, 100);
	ck_assert_uint_eq(n_commits, commits + 1 + 100 / (BATCH_MAX + 1));
}
END_TEST

START_TEST(test_question_is_answered_behind_its_batch)
{
	say_status(false, 7);
	say_status(false, 8);
	say(GET_STATUS, false, NULL, 0, -1);
	turn();
	ck_assert(committing && committing->status == 8 && silent());
	answer(0, "");
	ck_assert_uint_eq(hear(GET_STATUS), 8);
	ck_assert(silent() && !committing);
}
END_TEST

START_TEST(test_refused_in_the_middle_fails_alone)
{
	unsigned int commits = n_commits;

	say_status(false, 7);
	say_status(false, 1000);
	say(99, false, "xyz", 3, -1);
	say_ring(SET_VRING_NUM, 7, 256);
	say_ring(SET_VRING_ENABLE, 0, 1);
	say_status(true, 1000);
	turn();
	ck_assert_uint_eq(n_commits, commits + 1);
	ck_assert(committing->status == 7 && committing->rings[0]->enabled && silent());
	answer(0, "");
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	ck_assert(silent() && !committing);
	ck_assert_uint_eq(s.view.desired->status, 7);
}
END_TEST

/* Memory does not say which of them it is. */
START_TEST(test_batch_that_memory_refuses_is_taken_apart)
{
	say_status(false, 7);
	say_ring(SET_VRING_ENABLE, 0, 1);
	say_status(true, 9);
	say_status(false, 10);
	say_status(false, 11);
	turn();
	ck_assert_uint_eq(committing->status, 9);
	answer(0, "a rule");
	ck_assert(committing && committing->status == 7 && committing->n_rings == 0);
	answer(0, "");
	ck_assert(committing && committing->rings[0]->enabled && committing->status == 7);
	answer(0, "the rule");
	ck_assert(committing && committing->status == 9 && committing->n_rings == 0);
	answer(0, "");
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_STATUS), 0);
	/* those behind it are a batch again */
	ck_assert(committing && committing->status == 11 && silent());
	accept_commits();
}
END_TEST

/* A region that memory would refuse might be gone with the next message. */
START_TEST(test_what_memory_judges_ends_a_batch)
{
	struct memory_single single = { .region = { .gpa = 0, .size = 4096, .uva = 0x10000 } };
	_cleanup_close_ int fd = memfd_create("region", MFD_CLOEXEC);

	say_status(false, 7);
	say(ADD_MEM_REG, false, &single, sizeof(single), fd);
	say_status(false, 8);
	say(REM_MEM_REG, false, &single, sizeof(single), -1);
	turn();
	ck_assert(committing && committing->n_regions == 1 && committing->status == 7);
	answer(0, "");
	ck_assert(committing && committing->n_regions == 0 && committing->status == 8);
	accept_commits();
}
END_TEST

START_TEST(test_message_that_is_not_all_there_is_not_waited_for)
{
	struct header header = { SET_STATUS, HEADER_VERSION, 8 };

	say_status(false, 7);
	ck_assert_int_eq(send(vmm, &header, _i, MSG_NOSIGNAL), _i);
	turn();
	ck_assert(committing && committing->status == 7);
	accept_commits();
	ck_assert_int_eq(send(vmm, (char *)&header + _i, sizeof(header) - (size_t)_i, 0),
		sizeof(header) - (size_t)_i);
	ck_assert_int_eq(send(vmm, &(uint64_t){ 9 }, 8, 0), 8);
	accept_commits();
	ck_assert_uint_eq(s.view.desired->status, 9);
}
END_TEST

START_TEST(test_what_is_no_message_comes_after_the_batch)
{
	struct header bad = { 1, 2, 0 };
	char byte;

	say_status(false, 7);
	ck_assert_int_eq(send(vmm, &bad, sizeof(bad), 0), sizeof(bad));
	turn();
	ck_assert(committing && committing->status == 7);
	say_status(false, 8);
	answer(0, "");
	ck_assert(recv(vmm, &byte, 1, 0) == 0 || errno == ECONNRESET);
	ck_assert(committing && !committing->connected);
}
END_TEST

/* Nothing that may hold up this process waits for memory in its hands. */
START_TEST(test_foreign_descriptor_is_in_no_batch)
{
	_cleanup_close_ int foreign = open("/dev/null", O_RDWR | O_CLOEXEC);

	say_status(false, 7);
	say(SET_VRING_KICK, false, &(uint64_t){ 0 }, 8, foreign);
	say_ring(SET_VRING_ENABLE, 1, 1);
	say_notifier(SET_VRING_KICK, false, 1);
	turn();
	ck_assert(committing && committing->status == 7 && committing->n_rings == 0);
	ck_assert_int_eq(s.exchange.then, STEP_DONE);
	answer(0, "");
	ck_assert(committing && committing->n_rings == 1 && committing->rings[0]->index == 1);
	ck_assert(committing->rings[0]->started);
	accept_commits();
}
END_TEST

START_TEST(test_reset_in_the_middle_is_not_lost)
{
	uint64_t epoch;

	say_u64(SET_STATUS, false, 7);
	accept_commits();
	epoch = s.view.desired->reset_epoch;
	say_status(false, 0);
	say_status(false, 0);
	say_status(false, 1);
	turn();
	ck_assert_uint_eq(committing->status, 1);
	ck_assert_uint_eq(committing->reset_epoch, epoch + 1);
	accept_commits();
}
END_TEST

START_TEST(test_what_is_undone_is_the_last_message_alone)
{
	say_status(false, 7);
	say_ring(SET_VRING_ENABLE, 0, 1);
	say_status(true, 9);
	turn();
	answer(0, "");
	worker_applies(0, "no");
	ck_assert(committing && committing->status == 7 && committing->rings[0]->enabled);
	answer(0, "");
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	ck_assert_uint_eq(s.view.desired->status, 7);
}
END_TEST

/* Its acknowledgement promises no less. */
START_TEST(test_what_changes_nothing_is_not_committed)
{
	unsigned int commits;

	say_u64(SET_STATUS, false, 7);
	accept_commits();
	commits = n_commits;
	say_u64(SET_STATUS, true, 7);
	ck_assert(n_commits == commits && silent());
	worker_applies(0, "no");
	ck_assert_uint_ne(hear(SET_STATUS), 0);
	/* what the worker could not do it is told again */
	say_u64(SET_STATUS, true, 7);
	ck_assert_uint_eq(n_commits, commits + 1);
	answer(0, "");
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_STATUS), 0);
}
END_TEST

START_TEST(test_vmm_that_goes_takes_its_batch_along)
{
	memory_away = true;
	say_status(false, 7);
	say_notifier(SET_VRING_CALL, false, 0);
	say_status(true, 9);
	turn();
	ck_assert(s.exchange.step == STEP_DEPOSIT && !committing);
	vmm = fd_close(vmm);
	turn();
	ck_assert(committing && !committing->connected && committing->status == 0);
	memory_away = false;
	accept_commits();
	vmm = connect_vmm();
	accept_commits();
	say_state(SET_VRING_ENABLE, false, 0, 1);
	accept_commits();
	ck_assert(s.view.desired->rings[0]->enabled && s.view.desired->status == 0);
}
END_TEST

/* What the batch has deposited for nothing may have taken its place. */
START_TEST(test_descriptor_for_which_there_is_no_room_is_tried_by_itself)
{
	int pair[2];
	char byte;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	say_status(false, 7);
	say(SET_VRING_CALL, false, &(uint64_t){ 0 }, 8, pair[1]);
	close(pair[1]);
	say_status(false, 8);
	deposit_error = -EDQUOT;
	turn();
	ck_assert(committing && committing->status == 7 && committing->n_rings == 0);
	/* nobody has ended it */
	ck_assert(recv(pair[0], &byte, 1, 0) < 0 && errno == EAGAIN);
	deposit_error = _i ? -EDQUOT : 0;
	accept_commits();
	ck_assert_uint_eq(s.view.desired->status, 8);
	ck_assert_uint_eq(s.view.desired->n_rings, !_i);
	deposit_error = 0;
	close(pair[0]);
}
END_TEST

START_TEST(test_messages_wait_for_their_turn)
{
	say_u64(SET_STATUS, false, 7);
	say_u64(SET_STATUS, false, 8);
	say(GET_STATUS, false, NULL, 0, -1);
	turn();
	ck_assert_uint_eq(committing->status, 7);
	answer(0, "");
	ck_assert_uint_eq(committing->status, 8);
	ck_assert(silent());
	answer(0, "");
	ck_assert_uint_eq(hear(GET_STATUS), 8);
}
END_TEST

START_TEST(test_many_messages_are_all_answered)
{
	for (int i = 0; i < 100; i++)
		say(GET_STATUS, false, NULL, 0, -1);
	turn();
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(hear(GET_STATUS), 0);
}
END_TEST

START_TEST(test_what_is_no_message_ends_the_connection)
{
	struct header bad = { 1, 2, 0 };
	char byte;

	ck_assert_int_eq(send(vmm, &bad, sizeof(bad), 0), sizeof(bad));
	turn();
	ck_assert(recv(vmm, &byte, 1, 0) == 0 || errno == ECONNRESET);
	ck_assert(committing && !committing->connected);
}
END_TEST

/* covers: M27 */
START_TEST(test_vmm_that_goes_while_memory_works)
{
	say_u64(SET_STATUS, true, 7);
	vmm = fd_close(vmm);
	turn();
	answer(0, "");
	ck_assert(committing && !committing->connected);
	accept_commits();
	ck_assert_int_lt(s.exchange.conn_fd, 0);
}
END_TEST

/* covers: M27 */
START_TEST(test_second_vmm_is_sent_away)
{
	_cleanup_close_ int second = connect_vmm();
	char byte;

	turn();
	ck_assert_int_eq(recv(second, &byte, 1, 0), 0);
	say(GET_STATUS, false, NULL, 0, -1);
	turn();
	ck_assert_uint_eq(hear(GET_STATUS), 0);
}
END_TEST

START_TEST(test_config_change_is_told_while_a_ring_is_started)
{
	struct header told;
	Bh__Observed *observed;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	say(SET_BACKEND_REQ_FD, false, NULL, 0, pair[1]);
	turn();
	close(pair[1]);
	for (uint64_t seq = 1; seq < 3; seq++) {
		observed = observe(0);
		observed->config_seq = seq;
		session_observed(&s, observed);
		if (seq == 1) {
			ck_assert_int_eq(recv(pair[0], &told, sizeof(told), 0), -1);
			say_kick(false);
			accept_commits();
			continue;
		}
		ck_assert_int_eq(recv(pair[0], &told, sizeof(told), 0), sizeof(told));
		ck_assert_uint_eq(told.request, BACKEND_CONFIG_CHANGE_MSG);
		ck_assert_uint_eq(told.flags, 9);
	}
	close(pair[0]);
}
END_TEST

/* The worker has applied all, and its configuration has changed so often. */
static Bh__Observed *observe_seq(uint64_t seq)
{
	Bh__Observed *observed = observe(s.view.desired->generation);

	observed->config_seq = seq;
	return observed;
}

/* Over a channel of its own: what the VMM is told with the i-th change, or that it is told
 * nothing. */
static void change_config(uint64_t seq)
{
	session_observed(&s, observe_seq(seq));
	turn();
}

static int open_channel(void)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
		0);
	say_kick(false);
	accept_commits();
	say(SET_BACKEND_REQ_FD, false, NULL, 0, pair[1]);
	turn();
	close(pair[1]);
	return pair[0];
}

static size_t hear_requests(int fd)
{
	struct header told;
	size_t n = 0;

	for (; recv(fd, &told, sizeof(told), 0) == sizeof(told); n++)
		ck_assert(told.request == BACKEND_CONFIG_CHANGE_MSG && told.flags == 9 &&
			told.size == 0);
	return n;
}

static void answer_request(int fd, uint32_t request, uint32_t flags, uint64_t value, size_t n_bytes)
{
	struct {
		struct header header;
		uint64_t value;
	} __attribute__((packed)) reply = { { request, flags, sizeof(value) }, value };

	ck_assert_int_eq(send(fd, &reply, n_bytes, MSG_NOSIGNAL), (ssize_t)n_bytes);
	turn();
}

static void check_counts(uint64_t asked, uint64_t answered, uint64_t refused)
{
	struct channel_counts counts = channel_counts(&s.exchange.channel);

	ck_assert_uint_eq(counts.asked, asked);
	ck_assert_uint_eq(counts.answered, answered);
	ck_assert_uint_eq(counts.refused, refused);
}

START_TEST(test_answers_to_our_requests_are_counted)
{
	_cleanup_close_ int fd = open_channel();

	change_config(1);
	change_config(1);
	ck_assert_uint_eq(hear_requests(fd), 1);
	check_counts(1, 0, 0);
	change_config(2);
	check_counts(2, 0, 0);
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 0, 20);
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 1, 20);
	check_counts(2, 2, 1);
	/* one too many is no harm */
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 1, 20);
	check_counts(2, 2, 1);
	change_config(3);
	ck_assert_uint_eq(hear_requests(fd), 2);
	check_counts(3, 2, 1);
}
END_TEST

START_TEST(test_answer_comes_in_two_pieces)
{
	_cleanup_close_ int fd = open_channel();

	change_config(1);
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 0, 8);
	check_counts(1, 0, 0);
	ck_assert_int_eq(send(fd, (uint32_t[]){ 8, 0, 0 }, 12, MSG_NOSIGNAL), 12);
	turn();
	check_counts(1, 1, 0);
}
END_TEST

/* covers: M25 */
START_TEST(test_channel_that_says_what_is_no_answer_is_not_listened_to)
{
	static const uint32_t wrong[][2] = { { 1, 5 }, { BACKEND_CONFIG_CHANGE_MSG, 1 },
		{ UINT32_MAX, UINT32_MAX } };
	_cleanup_close_ int fd = open_channel();
	struct header told;

	change_config(1);
	answer_request(fd, wrong[_i][0], wrong[_i][1], 0, 20);
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 0, 20);
	check_counts(1, 0, 0);
	ck_assert_uint_eq(hear_requests(fd), 1);
	/* it is told all the same, and asked for nothing */
	change_config(2);
	ck_assert_int_eq(recv(fd, &told, sizeof(told), 0), sizeof(told));
	ck_assert_uint_eq(told.flags, 1);
	check_counts(1, 0, 0);
}
END_TEST

START_TEST(test_change_that_found_no_room_is_told_later)
{
	_cleanup_close_ int fd = open_channel();
	size_t n = 0;

	/* until it is full */
	while (channel_counts(&s.exchange.channel).asked == n)
		change_config(++n);
	ck_assert_uint_eq(channel_counts(&s.exchange.channel).asked, n - 1);
	ck_assert_uint_eq(hear_requests(fd), n - 1);
	turn();
	ck_assert_uint_eq(hear_requests(fd), 1);
	check_counts(n, 0, 0);
}
END_TEST

/* A suspended device does not say what it could not say before. */
START_TEST(test_change_that_found_no_room_is_held_back)
{
	_cleanup_close_ int fd = open_channel();
	size_t n = 0;

	while (channel_counts(&s.exchange.channel).asked == n)
		change_config(++n);
	say_state(GET_VRING_BASE, false, 0, 0);
	accept_commits();
	session_observed(&s, observe_seq(n));
	turn();
	ck_assert_uint_eq(hear_requests(fd), n - 1);
	turn();
	ck_assert_uint_eq(hear_requests(fd), 0);
	say_kick(false);
	accept_commits();
	ck_assert_uint_eq(hear_requests(fd), 1);
	check_counts(n, 0, 0);
}
END_TEST

/* The file store is not there in this test: what it would hand over is handed over by hand. */
START_TEST(test_what_was_told_outlives_the_frontend)
{
	_cleanup_close_ int fd = open_channel();
	struct channel *channel = &s.exchange.channel, next;

	change_config(1);
	answer_request(fd, BACKEND_CONFIG_CHANGE_MSG, 5, 1, 20);
	ck_assert_uint_eq(hear_requests(fd), 1);
	/* the journal is what both have in common */
	next = *channel;
	next.telling = next.need_reply = false;
	next.config_seq = 0;
	channel_tell_config(&next, 1, true);
	ck_assert_uint_eq(hear_requests(fd), 0);
	channel_tell_config(&next, 2, true);
	ck_assert_uint_eq(hear_requests(fd), 1);
	check_counts(2, 1, 1);
}
END_TEST

/* The VMM's end of a channel, and what it hands over. */
static void make_channel(int kind, int *ret_theirs, int *ret_ours)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int pair[2], small = 1;

	if (kind < 2) { /* never read, or read by nobody any more */
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		ck_assert_int_eq(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
			0);
		*ret_ours = pair[1];
		*ret_theirs = kind == 0 ? pair[0] : fd_close(pair[0]);
		return;
	}
	*ret_theirs = -1;
	*ret_ours = kind == 2 ? dup(vmm) : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (kind == 3) {
		ck_assert_int_eq(bind(*ret_ours, (struct sockaddr *)&addr, sizeof(addr.sun_family)),
			0);
		ck_assert_int_eq(listen(*ret_ours, 1), 0);
	}
}

#define N_CHANNELS 5 /* the last one is connected to nobody */

/* covers: M25 */
START_TEST(test_channel_that_leads_nowhere_holds_up_nobody)
{
	_cleanup_close_ int theirs = -1;
	int given;

	make_channel(_i, &theirs, &given);
	say(SET_BACKEND_REQ_FD, false, NULL, 0, given);
	turn();
	close(given);
	say_kick(false);
	accept_commits();
	for (uint64_t seq = 1; seq < 2000; seq++) {
		Bh__Observed *observed = observe(0);

		observed->config_seq = seq;
		session_observed(&s, observed);
	}
	turn();
	say(GET_STATUS, false, NULL, 0, -1);
	turn();
	ck_assert_uint_eq(hear(GET_STATUS), 0);
	ck_assert(silent());
}
END_TEST

START_TEST(test_memory_that_forgot_ends_the_session)
{
	char byte;

	session_memory_back(&s, s.view.desired->generation, s.view.desired->generation);
	/* asked before the last commit, and answered before it, but heard after it */
	session_memory_back(&s, s.view.desired->generation - 1, s.view.desired->generation - 1);
	turn();
	ck_assert_ptr_null(committing);
	session_memory_back(&s, s.view.desired->generation - 1, s.view.desired->generation);
	turn();
	ck_assert(committing && !committing->connected);
	ck_assert_int_eq(recv(vmm, &byte, 1, 0), 0);
}
END_TEST

/* A session that has what the service manager would hand over: the connection and the pipe. */
static void die_and_return(Bh__Desired *record)
{
	int conn = dup(s.exchange.conn_fd);
	struct stage stage = { dup(s.exchange.replay.stage.read_fd),
		dup(s.exchange.replay.stage.write_fd) };

	session_close(&s);
	committing = desired_free(committing);
	open_session();
	replay_close(&s.exchange.replay);
	s.exchange.replay.stage = stage;
	s.exchange.conn_fd = conn;
	session_loaded(&s, record, observe(record->generation));
	turn();
}

/* The loop does not watch the connection of die_and_return(): any event makes the session look at
 * it. */
static void look(void)
{
	session_observed(&s, observe(s.view.desired->generation));
	turn();
}

/* Memory may be asked, and die, before the record names the transfer that it has begun. */
START_TEST(test_transfer_that_memory_forgot_is_lost)
{
	struct view *view = &s.view;

	ck_assert_uint_eq(view_awaits_transfer(view, 0), 0);
	ck_assert_uint_eq(view_awaits_transfer(view, 7), 7);
	view_hear_transfer(view, NULL, 7);
	view->desired->transfer = 7;
	ck_assert_int_eq(view_transfer(view), VIEW_TRANSFER_LOST);
	ck_assert_uint_eq(view_awaits_transfer(view, 7), 0);

	view->desired->transfer = 8;
	view_hear_transfer(view, NULL, 0);
	ck_assert_int_eq(view_transfer(view), VIEW_TRANSFER_PENDING);
	ck_assert_uint_eq(view_awaits_transfer(view, 0), 8);
}
END_TEST

/* covers: P6 */
START_TEST(test_message_in_work_is_handled_again)
{
	Bh__Desired *record;

	say_u64(SET_STATUS, true, 7);
	ck_assert_ptr_nonnull(committing);
	/* _i: it was committed before the death, or not */
	record = desired_next(s.view.desired);
	record->status = _i ? 7 : 0;
	die_and_return(record);
	ck_assert(_i || (committing && committing->status == 7));
	accept_commits();
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_STATUS), 0);
	ck_assert_uint_eq(s.view.desired->status, 7);
	ck_assert(silent());
}
END_TEST

/* covers: P6 */
START_TEST(test_batch_in_work_is_handled_again)
{
	Bh__Desired *record;

	say_status(false, 7);
	say_notifier(SET_VRING_CALL, false, 0);
	say_ring_setup(0);
	turn();
	ck_assert(committing && committing->status == 7 && committing->rings[0]->started);
	/* _i: it was committed before the death, or not */
	record = desired_next(_i ? committing : s.view.desired);
	record->generation--;
	die_and_return(record);
	accept_commits();
	worker_applies(0, NULL);
	ck_assert_uint_eq(hear(SET_VRING_KICK), 0);
	ck_assert(silent());
	ck_assert_uint_eq(s.view.desired->status, 7);
	ck_assert_uint_eq(s.view.desired->rings[0]->size, 256);
	ck_assert(s.view.desired->rings[0]->started && s.view.desired->rings[0]->call_token);
}
END_TEST

/* covers: P6 */
START_TEST(test_reply_that_was_laid_ready_goes_out_once)
{
	uint64_t value = 3;

	ck_assert_int_eq(replay_stage(&s.exchange.replay, GET_STATUS, &value, sizeof(value)), 0);
	die_and_return(desired_next(s.view.desired));
	ck_assert_uint_eq(hear(GET_STATUS), 3);
	ck_assert(silent());
	say(GET_STATUS, false, NULL, 0, -1);
	look();
	ck_assert_uint_eq(hear(GET_STATUS), 0);
}
END_TEST

/* A reply of GET_INFLIGHT_FD; the descriptor that came with it */
static int hear_inflight(void)
{
	struct {
		struct header header;
		struct inflight_area area;
	} __attribute__((packed)) reply;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { &reply, sizeof(reply) };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	int fd;

	ck_assert_int_eq(recvmsg(vmm, &hdr, MSG_CMSG_CLOEXEC), sizeof(reply));
	ck_assert_uint_eq(reply.header.request, GET_INFLIGHT_FD);
	ck_assert_uint_eq(reply.header.flags, 5);
	ck_assert_uint_eq(reply.area.mmap_size, 4096);
	ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&hdr));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&hdr)), sizeof(fd));
	return fd;
}

static Bh__Desired *record_with_region(void)
{
	Bh__Desired *record = desired_next(s.view.desired);
	Bh__Inflight *inflight = desired_new_inflight(record);

	inflight->token = 1;
	inflight->mmap_size = 4096;
	inflight->n_queues = inflight->queue_size = 2;
	return record;
}

static void stage_inflight(void)
{
	struct inflight_area area = { .mmap_size = 4096, .n_queues = 2, .queue_size = 2 };

	ck_assert_int_eq(replay_stage(&s.exchange.replay, GET_INFLIGHT_FD, &area, sizeof(area)), 0);
}

enum { NOT_SENT, SENT, RECEIVED, MAPPED };

/* _i: how far it was when we died; what the VMM has in any form is not sent again */
START_TEST(test_reply_with_a_descriptor_goes_out_once)
{
	void *mapping = NULL;
	int fd = -1;

	kept = memfd_create("inflight", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(kept, 4096), 0);
	if (_i != NOT_SENT) {
		stage_inflight();
		ck_assert_int_eq(replay_send_fd(&s.exchange.replay, s.exchange.conn_fd, kept), 0);
	}
	if (_i >= RECEIVED)
		fd = hear_inflight();
	if (_i == MAPPED) {
		mapping = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		fd = fd_close(fd);
	}
	stage_inflight(); /* as it still lies there */
	die_and_return(record_with_region());
	if (_i <= SENT)
		fd = hear_inflight();
	ck_assert(silent());
	say(GET_STATUS, false, NULL, 0, -1);
	look();
	ck_assert_uint_eq(hear(GET_STATUS), 0);
	if (mapping)
		munmap(mapping, 4096);
	fd_close(fd);
	kept = fd_close(kept);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("session");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_vmm_is_a_session_of_the_record);
	tcase_add_test(tc, test_acknowledged_when_applied);
	tcase_add_test(tc, test_not_acknowledged_unless_asked_for);
	tcase_add_test(tc, test_refused_by_memory_fails_alone);
	tcase_add_test(tc, test_memory_that_died_is_asked_again);
	tcase_add_test(tc, test_descriptors_that_died_with_memory_are_deposited_again);
	tcase_add_test(tc, test_message_waits_for_a_memory_that_is_away);
	tcase_add_test(tc, test_vmm_that_goes_meanwhile_is_not_waited_for);
	tcase_add_test(tc, test_no_blame_is_left_while_memory_is_asked);
	tcase_add_test(tc, test_worker_gets_its_time_after_memory_was_away);
	tcase_add_test(tc, test_worker_that_does_nothing_is_not_waited_for_for_ever);
	tcase_add_test(tc, test_what_the_worker_cannot_do_is_undone);
	tcase_add_test(tc, test_ring_stops_where_the_worker_says);
	tcase_add_test(tc, test_burst_is_one_commit);
	tcase_add_test(tc, test_what_only_prepares_waits_for_the_next_message);
	tcase_add_test(tc, test_what_only_prepares_does_not_wait_for_long);
	tcase_add_test(tc, test_what_takes_effect_does_not_wait);
	tcase_add_test(tc, test_vmm_that_goes_is_not_waited_for);
	tcase_add_test(tc, test_batch_is_bounded);
	tcase_add_test(tc, test_question_is_answered_behind_its_batch);
	tcase_add_test(tc, test_refused_in_the_middle_fails_alone);
	tcase_add_test(tc, test_batch_that_memory_refuses_is_taken_apart);
	tcase_add_test(tc, test_what_memory_judges_ends_a_batch);
	tcase_add_loop_test(tc, test_message_that_is_not_all_there_is_not_waited_for, 1,
		sizeof(struct header) + 1);
	tcase_add_test(tc, test_what_is_no_message_comes_after_the_batch);
	tcase_add_test(tc, test_foreign_descriptor_is_in_no_batch);
	tcase_add_test(tc, test_reset_in_the_middle_is_not_lost);
	tcase_add_test(tc, test_what_is_undone_is_the_last_message_alone);
	tcase_add_test(tc, test_what_changes_nothing_is_not_committed);
	tcase_add_test(tc, test_vmm_that_goes_takes_its_batch_along);
	tcase_add_loop_test(tc, test_descriptor_for_which_there_is_no_room_is_tried_by_itself, 0,
		2);
	tcase_add_test(tc, test_messages_wait_for_their_turn);
	tcase_add_test(tc, test_many_messages_are_all_answered);
	tcase_add_test(tc, test_what_is_no_message_ends_the_connection);
	tcase_add_test(tc, test_vmm_that_goes_while_memory_works);
	tcase_add_test(tc, test_second_vmm_is_sent_away);
	tcase_add_test(tc, test_config_change_is_told_while_a_ring_is_started);
	tcase_add_test(tc, test_answers_to_our_requests_are_counted);
	tcase_add_test(tc, test_answer_comes_in_two_pieces);
	tcase_add_loop_test(tc, test_channel_that_says_what_is_no_answer_is_not_listened_to, 0, 3);
	tcase_add_test(tc, test_change_that_found_no_room_is_told_later);
	tcase_add_test(tc, test_change_that_found_no_room_is_held_back);
	tcase_add_test(tc, test_what_was_told_outlives_the_frontend);
	tcase_add_loop_test(tc, test_channel_that_leads_nowhere_holds_up_nobody, 0, N_CHANNELS);
	tcase_add_test(tc, test_memory_that_forgot_ends_the_session);
	tcase_add_test(tc, test_transfer_that_memory_forgot_is_lost);
	tcase_add_loop_test(tc, test_message_in_work_is_handled_again, 0, 2);
	tcase_add_loop_test(tc, test_batch_in_work_is_handled_again, 0, 2);
	tcase_add_test(tc, test_reply_that_was_laid_ready_goes_out_once);
	tcase_add_loop_test(tc, test_reply_with_a_descriptor_goes_out_once, NOT_SENT, MAPPED + 1);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("session", add_tests);
}
