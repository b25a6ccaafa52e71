#include "lib/recorder.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/patience.h"

#define PEERS_MAX 128
#define READ_BYTES 30000u

struct received_fd {
	int fd; /* -1: somebody has taken it */
	uint64_t at;
};

struct recorder_peer {
	int fd;
	bool is_socket;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	bool stalled, ending, hung_up, joined;
	bool follows;
	struct script script;
	bool complains;
	uint8_t *bytes;
	uint64_t n_bytes;
	struct received_fd *fds;
	size_t n_fds;
};

struct recorder {
	int listen_fd;
	struct recorder_peer *peers[PEERS_MAX];
	size_t n_peers;
};

struct recorder *recorder_new(const char *path, int backlog)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	ck_assert_ptr_nonnull(recorder);
	recorder->listen_fd = -1;
	if (!path)
		return recorder;
	ck_assert_uint_lt(strlen(path), sizeof(addr.sun_path));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	recorder->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(recorder->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(chmod(path, 0666), 0); /* the product's processes have other users */
	ck_assert_int_eq(listen(recorder->listen_fd, backlog), 0);
	return recorder;
}

/* --- Reading --- */

/* Returns the bytes read, 0 when the other end has hung up. */
static size_t read_some(struct recorder_peer *peer, uint8_t *bytes, int *fds, size_t *n_fds)
{
	union {
		char bytes[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { bytes, READ_BYTES };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = peer->is_socket ? recvmsg(peer->fd, &msg, MSG_CMSG_CLOEXEC)
				    : read(peer->fd, bytes, READ_BYTES);
	struct cmsghdr *cmsg = n > 0 && peer->is_socket ? CMSG_FIRSTHDR(&msg) : NULL;

	*n_fds = cmsg ? (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	if (*n_fds > 0)
		memcpy(fds, CMSG_DATA(cmsg), *n_fds * sizeof(int));
	return n > 0 ? (size_t)n : 0;
}

/* Locked. */
static void keep_record(struct recorder_peer *peer, const uint8_t *bytes, size_t n, const int *fds,
	size_t n_fds)
{
	peer->bytes = realloc(peer->bytes, peer->n_bytes + n);
	memcpy(peer->bytes + peer->n_bytes, bytes, n);
	peer->fds = reallocarray(peer->fds, peer->n_fds + n_fds + 1, sizeof(*peer->fds));
	for (size_t i = 0; i < n_fds; i++)
		peer->fds[peer->n_fds++] = (struct received_fd){ fds[i], peer->n_bytes };
	peer->n_bytes += n;
}

/* Locked. */
static void verify(struct recorder_peer *peer, const uint8_t *bytes, size_t n, const int *fds,
	size_t n_fds)
{
	if (!peer->complains && !script_verify(&peer->script, bytes, n, fds, n_fds))
		peer->complains = true;
	peer->n_bytes += n;
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

static bool await_reading(struct recorder_peer *peer)
{
	bool ending;

	pthread_mutex_lock(&peer->lock);
	while (peer->stalled && !peer->ending)
		pthread_cond_wait(&peer->changed, &peer->lock);
	ending = peer->ending;
	pthread_mutex_unlock(&peer->lock);
	return !ending;
}

static void *read_all(void *data)
{
	static _Thread_local uint8_t bytes[READ_BYTES];
	struct recorder_peer *peer = data;
	struct pollfd ready = { .fd = peer->fd, .events = POLLIN };
	int fds[253];
	size_t n = 1, n_fds;

	while (n > 0 && await_reading(peer)) {
		if (poll(&ready, 1, 20) == 0)
			continue; /* perhaps it is to stall, or to end */
		if (!await_reading(peer))
			break;
		n = read_some(peer, bytes, fds, &n_fds);
		pthread_mutex_lock(&peer->lock);
		if (peer->follows)
			verify(peer, bytes, n, fds, n_fds);
		else
			keep_record(peer, bytes, n, fds, n_fds);
		peer->hung_up = n == 0;
		pthread_cond_broadcast(&peer->changed);
		pthread_mutex_unlock(&peer->lock);
	}
	return NULL;
}

/* --- Connections --- */

struct recorder_peer *recorder_adopt(struct recorder *recorder, int fd)
{
	struct recorder_peer *peer = calloc(1, sizeof(*peer));
	pthread_condattr_t attr;

	ck_assert_ptr_nonnull(peer);
	ck_assert_uint_lt(recorder->n_peers, PEERS_MAX);
	peer->fd = fd;
	peer->is_socket = fcntl(fd, F_GETPIPE_SZ) < 0;
	pthread_mutex_init(&peer->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&peer->changed, &attr);
	pthread_condattr_destroy(&attr);
	peer->stalled = true; /* until somebody has said what becomes of it */
	recorder->peers[recorder->n_peers++] = peer;
	ck_assert_int_eq(pthread_create(&peer->thread, NULL, read_all, peer), 0);
	recorder_stall(peer, false);
	return peer;
}

struct recorder_peer *recorder_accept(struct recorder *recorder, int ms)
{
	struct pollfd ready = { .fd = recorder->listen_fd, .events = POLLIN };

	if (poll(&ready, 1, test_ms(ms)) <= 0)
		return NULL;
	return recorder_adopt(recorder, accept4(recorder->listen_fd, NULL, NULL, SOCK_CLOEXEC));
}

static void close_peer(struct recorder_peer *peer)
{
	if (peer->joined)
		return;
	pthread_mutex_lock(&peer->lock);
	peer->ending = true;
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->lock);
	pthread_join(peer->thread, NULL);
	peer->joined = true;
	peer->fd = fd_close(peer->fd);
}

static void free_peer(struct recorder_peer *peer)
{
	close_peer(peer);
	for (size_t i = 0; i < peer->n_fds; i++)
		fd_close(peer->fds[i].fd);
	free(peer->fds);
	free(peer->bytes);
	free(peer);
}

void recorder_free(struct recorder *recorder)
{
	if (!recorder)
		return;
	for (size_t i = 0; i < recorder->n_peers; i++)
		free_peer(recorder->peers[i]);
	fd_close(recorder->listen_fd);
	free(recorder);
}

/* --- What was recorded --- */

void recorder_follow(struct recorder_peer *peer, const struct script_setting *setting)
{
	pthread_mutex_lock(&peer->lock);
	ck_assert_uint_eq(peer->n_bytes, 0);
	script_begin(&peer->script, setting);
	peer->follows = true;
	pthread_mutex_unlock(&peer->lock);
}

const char *recorder_complaint(struct recorder_peer *peer)
{
	const char *why;

	pthread_mutex_lock(&peer->lock);
	why = peer->complains ? peer->script.why : NULL;
	pthread_mutex_unlock(&peer->lock);
	return why;
}

static bool wait_until(struct recorder_peer *peer, uint64_t n_bytes, int ms, bool *ret_hung_up)
{
	struct timespec end;
	bool arrived;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += test_ms(ms) / 1000;
	end.tv_nsec += test_ms(ms) % 1000 * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	pthread_mutex_lock(&peer->lock);
	while (peer->n_bytes < n_bytes && !peer->hung_up)
		if (pthread_cond_timedwait(&peer->changed, &peer->lock, &end) == ETIMEDOUT)
			break;
	arrived = peer->n_bytes >= n_bytes;
	*ret_hung_up = peer->hung_up;
	pthread_mutex_unlock(&peer->lock);
	return arrived;
}

bool recorder_wait(struct recorder_peer *peer, uint64_t n_bytes, int ms)
{
	bool hung_up;

	return wait_until(peer, n_bytes, ms, &hung_up);
}

bool recorder_wait_hangup(struct recorder_peer *peer, int ms)
{
	bool hung_up;

	wait_until(peer, UINT64_MAX, ms, &hung_up);
	return hung_up;
}

uint64_t recorder_n_bytes(struct recorder_peer *peer)
{
	uint64_t n;

	pthread_mutex_lock(&peer->lock);
	n = peer->n_bytes;
	pthread_mutex_unlock(&peer->lock);
	return n;
}

uint8_t recorder_byte(struct recorder_peer *peer, size_t at)
{
	uint8_t byte;

	pthread_mutex_lock(&peer->lock);
	ck_assert(!peer->follows && at < peer->n_bytes);
	byte = peer->bytes[at];
	pthread_mutex_unlock(&peer->lock);
	return byte;
}

size_t recorder_n_fds(struct recorder_peer *peer)
{
	size_t n;

	pthread_mutex_lock(&peer->lock);
	n = peer->n_fds;
	pthread_mutex_unlock(&peer->lock);
	return n;
}

int recorder_fd(struct recorder_peer *peer, size_t i, uint64_t *ret_at)
{
	struct received_fd found;

	pthread_mutex_lock(&peer->lock);
	ck_assert_uint_lt(i, peer->n_fds);
	found = peer->fds[i];
	pthread_mutex_unlock(&peer->lock);
	*ret_at = found.at;
	return found.fd;
}

int recorder_take_fd(struct recorder_peer *peer, size_t i)
{
	int fd;

	pthread_mutex_lock(&peer->lock);
	ck_assert_uint_lt(i, peer->n_fds);
	fd = fd_steal(&peer->fds[i].fd);
	pthread_mutex_unlock(&peer->lock);
	return fd;
}

/* --- What it does --- */

void recorder_stall(struct recorder_peer *peer, bool yes)
{
	pthread_mutex_lock(&peer->lock);
	peer->stalled = yes;
	pthread_cond_broadcast(&peer->changed);
	pthread_mutex_unlock(&peer->lock);
}

/* Returns the bytes sent, 0 when the other end has hung up. */
static size_t send_some(int fd, const uint8_t *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		char bytes[CMSG_SPACE(253 * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)bytes, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	ssize_t r;

	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof(int));
	}
	do {
		r = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EAGAIN && poll(&room, 1, -1) > 0);
	ck_assert_msg(r >= 0 || errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
	return r > 0 ? (size_t)r : 0;
}

/* The kernel says so of a socket of which three quarters are free. */
bool recorder_has_room(struct recorder_peer *peer, int ms)
{
	struct pollfd room = { .fd = peer->fd, .events = POLLOUT };

	return poll(&room, 1, ms) > 0;
}

bool recorder_send(struct recorder_peer *peer, const void *bytes, size_t n, const int *fds,
	size_t n_fds)
{
	for (size_t done = 0; done < n;) {
		size_t sent = send_some(peer->fd, (const uint8_t *)bytes + done, n - done, fds,
			done == 0 ? n_fds : 0);

		if (sent == 0)
			return false;
		done += sent;
	}
	return true;
}

void recorder_hang_up(struct recorder_peer *peer)
{
	close_peer(peer);
}
