/* The sockets a VMM finds us at. A path that somebody serves is never taken from him. */
#include "frontend.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"

static int fail(const struct config_device *config, int r, const char *what)
{
	log_device(LOG_ERR, config->name, "socket %s: %s", config->socket, what);
	return r;
}

static void fill_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strncpy(addr->sun_path, path, sizeof(addr->sun_path) - 1);
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* What stands at the path: nothing or a dead socket (which is removed), or something that is in use. */
static int clear_path(const struct config_device *config, const struct sockaddr_un *addr)
{
	_cleanup_close_ int probe = -1;
	struct stat st;

	if (lstat(config->socket, &st) < 0)
		return errno == ENOENT ? 0 : fail(config, -errno, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return fail(config, -EEXIST,
			"something that is no socket stands at this path; remove it or choose another path");
	probe = new_socket();
	if (probe < 0)
		return probe;
	if (connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN)
		return fail(config, -EADDRINUSE,
			"held by a process that is alive; stop it or choose another path");
	if (unlink(config->socket) < 0)
		return fail(config, -errno, "a dead socket stands at this path and cannot be removed");
	return 0;
}

static int set_owner(const struct config_device *config)
{
	const char *name = config->socket_group;
	struct group *group = name ? getgrnam(name) : NULL;

	if (chmod(config->socket, 0660) < 0)
		return fail(config, -errno, "its mode cannot be set");
	if (!name)
		return 0;
	if (!group)
		return fail(config, -ENOENT, "the group named by socket-group does not exist; create it");
	if (chown(config->socket, (uid_t)-1, group->gr_gid) < 0)
		return fail(config, -errno, "its group cannot be set; add our user to that group");
	return 0;
}

static int make_listener(const struct config_device *config)
{
	_cleanup_close_ int fd = new_socket();
	struct sockaddr_un addr;
	int r;

	if (fd < 0)
		return fail(config, fd, "cannot be made");
	fill_address(&addr, config->socket);
	r = clear_path(config, &addr);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return fail(config, -errno,
			errno == ENOENT ? "its directory does not exist; create it" : strerror(errno));
	r = set_owner(config);
	if (r < 0)
		return r;
	if (listen(fd, 8) < 0)
		return fail(config, -errno, strerror(errno));
	return fd_steal(&fd);
}

static bool still_bound(const struct config_device *config)
{
	struct stat st;

	return stat(config->socket, &st) == 0 && S_ISSOCK(st.st_mode);
}

int listener_open(const struct config_device *config)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "listen.%s", config->name);
	fd = fdstore_take(name);
	if (fd >= 0 && still_bound(config))
		return fd;
	if (fd >= 0) {
		(void)fdstore_remove(name);
		fd_close(fd);
	}
	fd = make_listener(config);
	if (fd >= 0)
		(void)fdstore_push(name, fd);
	return fd;
}

int listener_connect(const struct config_device *config)
{
	_cleanup_close_ int fd = new_socket();
	struct sockaddr_un addr;

	if (fd < 0)
		return fd;
	fill_address(&addr, config->socket);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd_steal(&fd);
}
