/*
 * The side link of a compromised peer: packets of arbitrary bytes with arbitrary descriptors. Each
 * is answered once or ends the connection, no descriptor leaks except those that must not be
 * closed, and no worker receives what was deposited for another device.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "input.h"
#include "memory-rig.h"

#define FDS_MAX 1024 /* that are looked at for leaks */

static char dir[] = "/tmp/fuzz-link-XXXXXX";
static bool made;
static int links[_RIG_PEERS]; /* our ends; -1 = there is none */
static const char *const names[] = { "frontend", "net0", "net0+standby", "witness", "snapshot" };

/* --- Connections --- */

static void remove_dir(void)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/link/%s.sock", dir, names[i]);
		(void)unlink(path);
	}
	snprintf(path, sizeof(path), "%s/link", dir);
	(void)rmdir(path);
	(void)rmdir(dir);
}

static void make_dir(void)
{
	char path[PATH_MAX];

	check(mkdtemp(dir));
	made = true;
	snprintf(path, sizeof(path), "%s/link", dir);
	check(mkdir(path, 0700) == 0);
	check(atexit(remove_dir) == 0);
}

static int connect_as(enum rig_peer peer)
{
	char path[PATH_MAX];

	if (rig_memory.peers[peer].listen_fd < 0)
		check(links_open(&rig_memory.peers[peer]) >= 0);
	if (links[peer] < 0) {
		snprintf(path, sizeof(path), "%s/link/%s.sock", dir, names[peer]);
		links[peer] = fdlink_connect(path);
		rig_turn();
	}
	return links[peer];
}

static void disconnect(enum rig_peer peer)
{
	links[peer] = fd_close(links[peer]);
	rig_turn();
}

/* --- Packets --- */

/* By kind; what memory may have, and what it must not. */
static int new_fd(uint8_t kind)
{
	int pair[2];

	switch (kind % 5) {
	case 0:
		return memfd_create("sent", MFD_CLOEXEC);
	case 1:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case 2:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 3:
		check(pipe2(pair, O_CLOEXEC) == 0);
		close(pair[0]);
		return pair[1];
	default:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
}

static void send_packet(int fd, const uint8_t *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * (FDLINK_FDS_MAX + 4))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)bytes, n };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		*CMSG_FIRSTHDR(&hdr) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&hdr)), fds, sizeof(int) * n_fds);
	}
	(void)!sendmsg(fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_with_fds(int fd, const uint8_t *bytes, size_t n, uint8_t n_fds, uint8_t kind)
{
	int fds[FDLINK_FDS_MAX + 4];

	n_fds = (uint8_t)MIN(n_fds, ARRAY_SIZE(fds));
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = new_fd((uint8_t)(kind + (kind & 128 ? i : 0)));
	send_packet(fd, bytes, n, fds, n_fds);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

/* An input cannot know a token, or an id. */
static uint8_t *name_tokens(const uint8_t *bytes, size_t *n, Bh__Link **ret_msg)
{
	Bh__Link *msg = bh__link__unpack(NULL, *n, bytes);
	uint8_t *buf;

	*ret_msg = msg;
	if (!msg ||
		(msg->body_case != BH__LINK__BODY_REDEEM &&
			msg->body_case != BH__LINK__BODY_TAKE_STREAM))
		return NULL;
	if (msg->body_case == BH__LINK__BODY_TAKE_STREAM)
		msg->take_stream->id = rig_transfer(msg->take_stream->id);
	else
		for (size_t i = 0; i < msg->redeem->n_tokens; i++)
			msg->redeem->tokens[i] = rig_token(msg->redeem->tokens[i]);
	*n = bh__link__get_packed_size(msg);
	buf = malloc(*n + 1);
	check(buf);
	bh__link__pack(msg, buf);
	return buf;
}

/* --- Answers --- */

static void check_redeemed(const struct peer *peer, const Bh__Redeem *redeem, size_t n_fds)
{
	check(n_fds == redeem->n_tokens);
	for (size_t i = 0; peer->device && i < redeem->n_tokens; i++)
		check(vault_get(peer->device->vault, redeem->tokens[i]) >= 0);
}

static void hear(enum rig_peer peer, const Bh__Link *question)
{
	struct fdset fds = FDSET_INIT;
	Bh__Link *answer;
	int r;

	check(fcntl(links[peer], F_SETFL, O_NONBLOCK) == 0);
	r = fdlink_recv(links[peer], &answer, &fds);
	if (r == 0) {
		check(question);
		check(answer->body_case == BH__LINK__BODY_FAILURE ||
			answer->body_case == question->body_case + 1);
		if (answer->body_case == BH__LINK__BODY_REDEEM_REPLY)
			check_redeemed(&rig_memory.peers[peer], question->redeem, fds.n_fds);
		if (answer->body_case == BH__LINK__BODY_TAKE_STREAM_REPLY)
			check(peer == RIG_SNAPSHOT && fds.n_fds == 1);
		bh__link__free_unpacked(answer, NULL);
	} else {
		check(r == -ECONNRESET || r == -EAGAIN);
		disconnect(peer);
	}
	fdset_deinit(&fds);
}

static void send_one(enum rig_peer peer, struct input *in)
{
	uint8_t n_fds = input_u8(in), kind = input_u8(in);
	size_t n = input_u16(in);
	const uint8_t *bytes = input_view(in, n, &n);
	int fd = connect_as(peer);
	Bh__Link *msg;
	uint8_t *named = name_tokens(bytes, &n, &msg);

	if (fd >= 0) {
		send_with_fds(fd, named ?: bytes, n, n_fds, kind);
		rig_turn();
		hear(peer, msg);
	}
	free(named);
	if (msg)
		bh__link__free_unpacked(msg, NULL);
}

/* --- An input --- */

static void end(void)
{
	for (size_t i = 0; i < _RIG_PEERS; i++) {
		links[i] = fd_close(links[i]);
		rig_turn();
		if (rig_memory.peers[i].listen_fd >= 0)
			links_close(&rig_memory.peers[i]);
	}
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* What is buried stays open for good, and nothing else does. */
static void check_left(const bool before[FDS_MAX], size_t n_buried)
{
	size_t n = 0;

	for (int fd = 0; fd < FDS_MAX; fd++) {
		if (before[fd] || !is_open(fd))
			continue;
		close(fd);
		n++;
	}
	check(n == n_buried);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	bool before[FDS_MAX];
	size_t n_buried = 0;

	if (!made)
		make_dir();
	for (int fd = 0; fd < FDS_MAX; fd++)
		before[fd] = is_open(fd);
	rig_open(dir);
	rig_deposit();
	for (size_t i = 0; i < RIG_DEVICES; i++) /* the frontend may begin transfers */
		rig_memory.devices[i].desired->connected = true;
	for (size_t i = 0; i < _RIG_PEERS; i++)
		links[i] = -1;
	while (in.n) {
		uint8_t what = input_u8(&in);

		if (what & 64)
			disconnect(what % _RIG_PEERS);
		send_one(what % _RIG_PEERS, &in);
	}
	end();
	for (size_t i = 0; i < _RIG_PEERS; i++)
		n_buried += rig_memory.peers[i].n_buried;
	rig_close();
	check_left(before, n_buried);
	return 0;
}
