/*
 * Whatever a VMM may send: the input is a list of records, each a byte of what to do and then the
 * bytes of a message (with or without descriptors; alone, or with the next one behind it already),
 * or an answer of the memory manager or the worker; or bytes on the back-end channel, while the
 * worker has files mapped and unmapped. Nothing may crash, no descriptor may be left.
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

#define SHMEM_STEPS 250 /* what to do, from here on: shared memory regions */

static sd_event *event;
static struct session s;
static struct blame_mark mark;
static struct config_device device = {
	.name = (char *)"net0", .type = (char *)"net", .client = true, .socket = (char *)"/nowhere"
};
static bool committing;
static size_t depositing;
static bool redeeming;
static bool fetching;
static uint64_t n_deposits;
static int channel = -1; /* the VMM's end of it */

static int commit(struct session *session, const Bh__Desired *next, bool applied)
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

static int fetch(struct session *session, uint64_t token)
{
	check(!fetching);
	fetching = true;
	return 0;
}

static void forget(struct session *session)
{
	depositing = 0;
	redeeming = fetching = false;
}

static const struct memory_ops ops = {
	.commit = commit, .deposit = deposit, .redeem = redeem, .fetch = fetch, .forget = forget
};

static void add_shmem_region(Bh__Observed *observed)
{
	Bh__ShmemRegion *region = malloc(sizeof(*region));

	observed->shmem_regions = malloc(sizeof(*observed->shmem_regions));
	check(region && observed->shmem_regions);
	bh__shmem_region__init(region);
	region->size_bytes = 1 << 20;
	observed->shmem_regions[observed->n_shmem_regions++] = region;
}

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
	add_shmem_region(observed);
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

static void send_fds(int vmm, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 16)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *cmsg;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&hdr);
		*cmsg = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	if (n)
		(void)!sendmsg(vmm, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_to_it(int vmm, const uint8_t *bytes, size_t n, size_t n_fds)
{
	int fds[16];

	for (size_t i = 0; i < n_fds; i++)
		fds[i] = i & 1 ? vmm : STDERR_FILENO;
	send_fds(vmm, bytes, n, fds, n_fds);
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

static void answer_fetch(uint8_t how)
{
	fetching = false;
	session_fetched(&s, how % 7 == 3 ? -ENOENT : memfd_create("map", MFD_CLOEXEC));
}

static bool is_asked(void)
{
	return depositing || redeeming || committing || fetching;
}

/* Whatever memory is asked: at most one of the first three. */
static void answer(uint8_t how)
{
	if (fetching)
		answer_fetch(how);
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

/* --- Shared memory regions --- */

/* A VMM that has acked what it takes, given a channel, and started a ring. */
static void begin_maps(int vmm)
{
	const uint64_t features = BIT(3) | BIT(5) | BIT(10) | BIT(22), poll = 1 << 8;
	struct {
		struct header header;
		uint64_t value;
	} __attribute__((packed)) ack = { { SET_PROTOCOL_FEATURES, HEADER_VERSION, 8 }, features },
				  kick = { { SET_VRING_KICK, HEADER_VERSION, 8 }, poll };
	struct header take = { SET_BACKEND_REQ_FD, HEADER_VERSION, 0 };
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	send_to_it(vmm, (uint8_t *)&ack, sizeof(ack), 0);
	send_fds(vmm, &take, sizeof(take), &pair[1], 1);
	send_to_it(vmm, (uint8_t *)&kick, sizeof(kick), 0);
	close(pair[1]);
	if (channel >= 0)
		close(channel);
	channel = pair[0];
	for (int i = 0; i < 8; i++) {
		turn();
		answer(0);
	}
}

/* One of eight pages for each bit that is set; the epoch is the upper half of another byte. */
static void observe_maps(uint8_t wanted, uint8_t other)
{
	Bh__Observed *observed = observe(s.view.desired->generation, 0);

	observed->generation = ++n_deposits;
	observed->shmem_epoch = other >> 6;
	observed->shmem_maps = calloc(8, sizeof(*observed->shmem_maps));
	check(observed->shmem_maps);
	for (unsigned int i = 0; i < 8; i++) {
		Bh__ShmemMap *map = wanted >> i & 1 ? malloc(sizeof(*map)) : NULL;

		if (!map)
			continue;
		bh__shmem_map__init(map);
		map->seq = 1 + 8 * (other & 7) + i;
		map->offset_bytes = 4096 * i;
		map->size_bytes = 4096;
		map->token = map->seq;
		observed->shmem_maps[observed->n_shmem_maps++] = map;
	}
	session_observed(&s, observed);
}

/* What the VMM says on the channel: an answer in form, or any bytes. */
static size_t speak_on_channel(const uint8_t *data, size_t n)
{
	static const uint32_t requests[] = { 2, 9, 10, 11 };
	struct {
		struct header header;
		uint64_t value;
	} __attribute__((packed))
	reply = { { requests[data[0] & 3], HEADER_VERSION | HEADER_REPLY, 8 }, data[0] >> 2 & 1 };
	uint8_t sink[256];

	if (channel < 0)
		return 1;
	while (recv(channel, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
	if (!(data[0] & 0x80)) {
		send_to_it(channel, (uint8_t *)&reply, sizeof(reply), data[0] == 0x7f);
		return 1;
	}
	send_to_it(channel, data + 1, MIN(n - 1, (size_t)(data[0] & 0x3f)), 0);
	return 1 + MIN(n - 1, (size_t)(data[0] & 0x3f));
}

static size_t shmem_step(int vmm, const uint8_t *data, size_t n)
{
	switch (data[0]) {
	case SHMEM_STEPS:
		begin_maps(vmm);
		return 1;
	case SHMEM_STEPS + 1:
		if (n < 3)
			return n;
		observe_maps(data[1], data[2]);
		return 3;
	default:
		return n < 2 ? n : 1 + speak_on_channel(data + 1, n - 1);
	}
}

/* --- Steps --- */

static size_t step(int vmm, const uint8_t *data, size_t n)
{
	uint8_t how = data[0];

	if (how >= SHMEM_STEPS)
		return shmem_step(vmm, data, n);
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
	committing = redeeming = fetching = false;
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
	if (channel >= 0)
		close(channel);
	channel = -1;
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
