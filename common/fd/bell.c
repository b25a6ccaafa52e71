#include "fd/bell.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "fd/question.h"

/* A socket, since that is written to without waiting even when whoever shares it made it block. */
int bell_new(int *ret_ring_fd, int *ret_listen_fd)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	*ret_ring_fd = fds[0];
	*ret_listen_fd = fds[1];
	return 0;
}

/* Where there is no room, it has rung already. */
void bell_ring(int fd)
{
	if (fd >= 0 && send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

int bell_hear(int fd)
{
	char rings[64];
	ssize_t n;

	do
		n = recv(fd, rings, sizeof(rings), MSG_DONTWAIT);
	while (n == sizeof(rings) || (n < 0 && errno == EINTR));
	return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -ECONNRESET;
}

int vault_bell(struct vault_link *vault, int *ret_fd)
{
	Bh__Bell bell = BH__BELL__INIT;
	Bh__Link msg = BH__LINK__INIT, *reply;
	_cleanup_fdset_ struct fdset fds = FDSET_INIT;
	int r;

	msg.body_case = BH__LINK__BODY_BELL;
	msg.bell = &bell;
	r = vault_call(vault, &msg, NULL, BH__LINK__BODY_BELL_REPLY, &reply, &fds);
	if (r < 0)
		return r;
	bh__link__free_unpacked(reply, NULL);
	if (fds.n_fds != 1)
		return -EBADMSG;
	*ret_fd = fdset_steal(&fds, 0);
	return 0;
}
