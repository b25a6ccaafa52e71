/*
 * The kernel still names the process that connected after any restart of the frontend. A process
 * that took over later is named only with each message it sends, so its pidfd goes into the fd
 * store.
 */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static void name_stored(char *buf, size_t n, const char *device)
{
	snprintf(buf, n, "peer.%s", device);
}

static void look_for(struct peer *peer, pid_t pid)
{
	*peer = (struct peer){ .pid = pid, .pidfd = -1 };
	if (pid <= 0)
		return;
	peer->pidfd = pidfd_open(pid, 0);
	peer->gone = peer->pidfd < 0 && errno == ESRCH;
}

/* An older kernel tells only the number, which may have been given to another process since. */
static void look_for_connector(struct peer *peer, int conn_fd)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred), n_pidfd = sizeof(int);
	int on = 1, pidfd = -1;

	(void)setsockopt(conn_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	(void)getsockopt(conn_fd, SOL_SOCKET, SO_PEERCRED, &cred, &n);
	if (getsockopt(conn_fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n_pidfd) == 0)
		*peer = (struct peer){ .pid = cred.pid, .pidfd = pidfd };
	else
		look_for(peer, cred.pid);
}

void peer_begin(struct peer *peer, int conn_fd)
{
	look_for_connector(peer, conn_fd);
}

void peer_resume(struct peer *peer, int conn_fd, const char *device)
{
	char name[64];
	int stored;

	look_for_connector(peer, conn_fd);
	name_stored(name, sizeof(name), device);
	stored = fdstore_take(name);
	if (stored < 0)
		return;
	fd_close(peer->pidfd);
	*peer = (struct peer){ .pidfd = stored, .stored = true };
}

bool peer_heard(struct peer *peer, pid_t pid, const char *device)
{
	char name[64];

	if (pid <= 0 || pid == peer->pid)
		return false;
	peer_forget(peer, device);
	look_for(peer, pid);
	if (peer->pidfd < 0)
		return true;
	name_stored(name, sizeof(name), device);
	(void)fdstore_push(name, peer->pidfd);
	peer->stored = true;
	return true;
}

bool peer_is_gone(const struct peer *peer)
{
	struct pollfd p = { .fd = peer->pidfd, .events = POLLIN };

	return peer->pidfd >= 0 ? poll(&p, 1, 0) > 0 : peer->gone;
}

void peer_forget(struct peer *peer, const char *device)
{
	char name[64];

	name_stored(name, sizeof(name), device);
	if (peer->stored)
		(void)fdstore_remove(name);
	fd_close(peer->pidfd);
	*peer = (struct peer)PEER_NULL;
}
