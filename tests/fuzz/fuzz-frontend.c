/*
 * Whatever a VMM may send: the input is a list of records, each a byte of what to do and then the
 * bytes of a message (with or without descriptors; alone, or with the next one behind it already),
 * or an answer of the memory manager or the worker. Nothing may crash, no descriptor may be left.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "intake.h"
#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static sd_event *event;
static struct session s;
static struct blame_mark mark;
static struct config_device device = {
	.name = (char *)"net0", .type = (char *)"net", .client = true, .socket = (char *)"/nowhere"
};
static bool committing;
static size_t depositing;
static bool redeeming;
static uint64_t n_deposits;

static int commit(struct session *session, const Bh__Desired *next)
{
	committing = true;
	return 0;
}

static int deposit(struct session *session, const int *fds, size_t n)
{
	depositing = n;
	return 0;
}

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

static Bh__Observed *observe(uint64_t applied, uint8_t dice)
{
	Bh__Observed *observed = calloc(1, sizeof(*observed));

	check(observed);
	bh__observed__init(observed);
	observed->applied = applied;
	observed->features = UINT64_MAX & ~BIT(26);
	observed->protocol_features = UINT64_MAX;
	observed->n_queues = 5;
	observed->queue_num = 4;
	observed->queue_size_max = 1024;
	observed->max_mem_slots = 4;
	observed->config_seq = dice & 3;
	observed->config.data = calloc(1, 12);
	observed->config.len = 12;
	observed->config_writable.data = calloc(1, 12);
	observed->config_writable.len = 12;
	check(observed->config.data && observed->config_writable.data);
	memset(observed->config_writable.data, 1, 6);
	if (dice & 4)
		observed->apply_error = strdup("no");
	return observed;
}

static void turn(void)
{
	for (int i = 0; i < 64 && sd_event_run(event, 0) > 0; i++)
		;
}

static void send_to_it(int vmm, const uint8_t *bytes, size_t n, size_t n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 16)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	static int fds[16];

	if (n_fds) {
		struct cmsghdr *cmsg;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		*cmsg = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		for (size_t i = 0; i < n_fds; i++)
			fds[i] = i & 1 ? vmm : STDERR_FILENO;
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	if (n)
		(void)!sendmsg(vmm, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A message whose header is made right more often than chance would: only that gets past the
 * framing. */
static size_t send_message(int vmm, const uint8_t *data, size_t n)
{
	struct header header = { .flags = HEADER_VERSION | (data[1] & 0xc),
		.request = data[0] % 50 };
	uint8_t buf[sizeof(header) + 255];
	size_t size = n > 3 ? data[2] : 0;

	if (size > n - 3)
		size = n - 3;
	header.size = (uint32_t)size;
	memcpy(buf, &header, sizeof(header));
	memcpy(buf + sizeof(header), data + 3, size);
	send_to_it(vmm, buf, sizeof(header) + size, data[1] >> 4);
	return 3 + size;
}

static void answer_deposit(uint8_t how)
{
	uint64_t tokens[FDS_MAX];

	for (size_t i = 0; i < depositing; i++)
		tokens[i] = ++n_deposits;
	depositing = 0;
	session_deposited(&s, how % 7 == 3 ? -ENOSPC : 0, tokens);
}

static void answer_redeem(uint8_t how)
{
	redeeming = false;
	session_redeemed(&s, how % 7 == 3 ? -ENOENT : memfd_create("inflight", MFD_CLOEXEC));
}

static bool is_asked(void)
{
	return depositing || redeeming || committing;
}

/* Whatever memory is asked: at most one of the three. */
static void answer(uint8_t how)
{
	if (depositing) {
		answer_deposit(how);
		return;
	}
	if (redeeming) {
		answer_redeem(how);
		return;
	}
	if (!committing)
		return;
	committing = false;
	session_committed(&s, how % 7 == 1 ? -ECONNRESET : 0, how % 7 == 2 ? "a rule" : "");
}

static size_t step(int vmm, const uint8_t *data, size_t n)
{
	uint8_t how = data[0];

	switch (how % 6) {
	case 0:
	case 1:
	case 2:
		return n < 4 ? n : 1 + send_message(vmm, data + 1, n - 1);
	case 3:
		send_to_it(vmm, data + 1, n > 16 ? 15 : n - 1, how >> 6);
		return n > 16 ? 16 : n;
	case 4:
		answer(how / 6);
		return 1;
	default:
		session_observed(&s, observe(how & 64 ? 0 : s.view.desired->generation, how >> 3));
		return 1;
	}
}

static int open_session(void)
{
	Bh__Desired empty = BH__DESIRED__INIT;
	int pair[2];

	memset(&s, 0, sizeof(s));
	s.ops = &ops;
	s.mark = &mark;
	committing = redeeming = false;
	depositing = 0;
	check(sd_event_new(&event) >= 0 && session_open(&s, event, &device) >= 0);
	session_loaded(&s, desired_next(&empty), observe(0, 0));
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	session_attach(&s, pair[0]);
	answer(0);
	return pair[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int lowest = dup(0), vmm;
	uint8_t replies[4096];

	close(lowest);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	vmm = open_session();
	while (n) {
		bool more = data[0] % 6 == 0;
		size_t used = step(vmm, data, n);

		data += used;
		n -= used;
		if (more)
			continue;
		turn();
		while (recv(vmm, replies, sizeof(replies), MSG_DONTWAIT) > 0)
			;
	}
	close(vmm);
	turn();
	while (is_asked()) {
		answer(0);
		turn();
	}
	session_close(&s);
	intake_close();
	event = sd_event_unref(event);
	check(dup(0) == lowest);
	close(lowest);
	return 0;
}
