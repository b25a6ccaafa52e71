/*
 * The service manager passes the stored descriptors, with their names, to the next instance of the
 * process. A descriptor that nobody takes by the end of start-up is stale; it is removed from the
 * store as well, because it would pin guest memory for good. A service manager does not report that
 * its store is full, so this file counts what it holds.
 */
#include "fd/fdstore.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"

static struct {
	char **names;
	int *fds;
	int n;
	char **kept; /* names of the descriptors in the store */
	size_t n_kept, kept_bytes;
} store;

/* --- Accounting --- */

static bool has_room(const char *name)
{
	if (store.n_kept < FDSTORE_MAX && store.kept_bytes + strlen(name) < FDSTORE_NAMES_BYTES)
		return true;
	log_limited(LOG_ERR, NULL, 0,
		"the fd store is full (%d descriptors or %d bytes of names): "
		"'%s' is not stored, nor is anything else until descriptors are removed",
		FDSTORE_MAX, FDSTORE_NAMES_BYTES, name);
	return false;
}

static int note_kept(const char *name)
{
	char **kept = reallocarray(store.kept, store.n_kept + 1, sizeof(*kept));
	char *copy = strdup(name);

	store.kept = kept ?: store.kept;
	if (!kept || !copy) {
		free(copy);
		return -ENOMEM;
	}
	kept[store.n_kept++] = copy;
	store.kept_bytes += strlen(name) + 1;
	return 0;
}

static void note_dropped(const char *name)
{
	for (size_t i = store.n_kept; i-- > 0;) {
		if (strcmp(store.kept[i], name) != 0)
			continue;
		store.kept_bytes -= strlen(name) + 1;
		free(store.kept[i]);
		store.kept[i] = store.kept[--store.n_kept];
	}
}

/* --- Descriptors from the former instance --- */

int fdstore_init(void)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return n;
	store.names = names;
	store.n = n;
	store.fds = calloc((size_t)n + 1, sizeof(int));
	if (!store.fds)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		store.fds[i] = SD_LISTEN_FDS_START + i;
	for (int i = 0; i < n; i++)
		if (note_kept(names[i]) < 0)
			return -ENOMEM;
	return 0;
}

bool fdstore_available(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

int fdstore_take(const char *name)
{
	for (int i = 0; i < store.n; i++)
		if (store.fds[i] >= 0 && strcmp(store.names[i], name) == 0)
			return fd_steal(&store.fds[i]);
	return -ENOENT;
}

const char *fdstore_next(const char *prefix, int *at)
{
	while (*at < store.n) {
		int i = (*at)++;

		if (store.fds[i] >= 0 && strncmp(store.names[i], prefix, strlen(prefix)) == 0)
			return store.names[i];
	}
	return NULL;
}

/* FDPOLL=0: the service manager must not drop a connection because it was hung up */
static int write_request(char *text, size_t n, const char *name)
{
	return snprintf(text, n, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
}

int fdstore_push(const char *name, int fd)
{
	char text[512];
	int r;

	if (!fdstore_available())
		return 0;
	if (!has_room(name))
		return -ENOSPC;
	r = note_kept(name);
	if (r < 0)
		return r;
	(void)write_request(text, sizeof(text), name);
	r = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
	if (r >= 0)
		return 0;
	note_dropped(name);
	log_limited(LOG_WARNING, NULL, 0, "cannot store the descriptor '%s': %s", name,
		strerror(-r));
	return r;
}

/* --- Accepting a connection straight into the store --- */

/** struct parcel - a message to the service manager that lacks only its descriptor */
struct parcel {
	char text[512];
	struct iovec iov;
	struct msghdr hdr;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
};

static void parcel_fill(struct parcel *parcel, const char *name)
{
	struct cmsghdr *cmsg;

	*parcel = (struct parcel){ .iov.iov_base = parcel->text };
	parcel->iov.iov_len = (size_t)write_request(parcel->text, sizeof(parcel->text), name);
	parcel->hdr = (struct msghdr){ .msg_iov = &parcel->iov,
		.msg_iovlen = 1,
		.msg_control = parcel->control.buf,
		.msg_controllen = sizeof(parcel->control.buf) };
	cmsg = CMSG_FIRSTHDR(&parcel->hdr);
	*cmsg = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
	};
}

static int manager_connect(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr;
	socklen_t len = sizeof(addr);
	_cleanup_close_ int fd = -1;

	if (!path || address_fill(&addr, path) < 0)
		return -ENOENT;
	if (*path == '@') {
		addr.sun_path[0] = '\0';
		len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, len) < 0)
		return -errno;
	return fd_steal(&fd);
}

int fdstore_accept(int listen_fd, const char *name)
{
	_cleanup_close_ int manager = has_room(name) ? manager_connect() : -ENOSPC;
	struct parcel parcel;
	int fd;

	parcel_fill(&parcel, name);
	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	/* a death here loses the connection; no system call lies between these two */
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&parcel.hdr)), &fd, sizeof(fd));
	if (manager >= 0 && sendmsg(manager, &parcel.hdr, MSG_NOSIGNAL) >= 0)
		(void)note_kept(name);
	else if (manager != -ENOSPC)
		(void)fdstore_push(name, fd);
	return fd;
}

int fdstore_remove(const char *name)
{
	char text[512];

	if (!fdstore_available())
		return 0;
	note_dropped(name);
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return sd_notify(0, text) < 0 ? -EIO : 0;
}

void fdstore_close_rest(void)
{
	for (int i = 0; i < store.n; i++) {
		store.fds[i] = fd_close(store.fds[i]);
		free(store.names[i]);
	}
	free(store.names);
	free(store.fds);
	store.names = NULL;
	store.fds = NULL;
	store.n = 0;
}

void fdstore_drop_rest(void)
{
	for (int i = 0; i < store.n; i++)
		if (store.fds[i] >= 0)
			(void)fdstore_remove(store.names[i]);
	fdstore_close_rest();
}
