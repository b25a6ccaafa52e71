#include "connection.h"

#include <stdio.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "intake.h"

#define NAME_BYTES 64

static const char *store_name(const struct exchange *exchange, const char *what, char *buf)
{
	snprintf(buf, NAME_BYTES, "%s.%s", what, exchange->config->name);
	return buf;
}

void connection_resume(struct exchange *exchange, sd_event *event)
{
	char name[NAME_BYTES];

	exchange->conn_fd = fdstore_take(store_name(exchange, "conn", name));
	parts_resume(&exchange->replay.parts, exchange->conn_fd, exchange->config->name);
	channel_resume(&exchange->channel, event, exchange->config->name);
	if (exchange->conn_fd >= 0)
		peer_resume(&exchange->peer, exchange->conn_fd, exchange->config->name);
	else
		channel_close(&exchange->channel);
}

void connection_begin(struct exchange *exchange, int fd)
{
	char name[NAME_BYTES];

	(void)fdstore_push(store_name(exchange, "conn", name), fd);
	exchange->conn_fd = fd;
	peer_begin(&exchange->peer, fd);
}

void connection_accept(struct exchange *exchange, int listen_fd)
{
	char name[NAME_BYTES];
	int fd = fdstore_accept(listen_fd, store_name(exchange, "conn", name));

	if (fd < 0)
		return;
	exchange->conn_fd = fd;
	peer_begin(&exchange->peer, fd);
}

void connection_close(struct exchange *exchange)
{
	char name[NAME_BYTES];

	intake_drain(exchange->conn_fd);
	(void)fdstore_remove(store_name(exchange, "conn", name));
	exchange->conn_fd = fd_close(exchange->conn_fd);
	channel_close(&exchange->channel);
	replay_drop(&exchange->replay, exchange->config->name);
	peer_forget(&exchange->peer, exchange->config->name);
}

pid_t connection_pid(int fd)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n);
	return cred.pid;
}
