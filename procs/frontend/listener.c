/*
 * A path that another process serves is left alone; a dead socket's file is replaced. Mode and
 * group are set before the socket listens, so nobody can connect earlier. The VMM may own the
 * directory and put anything at the path at any moment. The mode therefore goes with the socket,
 * and the group is set through a descriptor of the socket's own file: no symbolic link is followed.
 * A file is judged and removed in one and the same folder, wherever the path leads by then.
 */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "fd/fdstore.h"

#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0) /* linux/un.h, which defines again what sys/un.h does */
#define BACKLOG 64
#define VANISHES_USEC 1000000
#define DIES_MS 100
#define PREFIX "listen."

static int fail(const struct config_device *config, int r, const char *what)
{
	log_limited(LOG_ERR, config->name, 0, "cannot listen on %s: %s", config->socket, what);
	return r;
}

static int fail_group(const struct config_device *config, int r)
{
	if (r == -ENOENT)
		log_limited(LOG_ERR, config->name, 0,
			"cannot listen on %s: socket-group = %s: there is no such group; create it (groupadd --system %s)",
			config->socket, config->socket_group, config->socket_group);
	else
		log_limited(LOG_ERR, config->name, 0,
			"cannot listen on %s: its group cannot be set to '%s' (socket-group): %s; make user %u a member of that group",
			config->socket, config->socket_group, strerror(-r), geteuid());
	return r;
}

static int fail_user(const struct config_device *config, int r)
{
	if (r == -ENOENT)
		log_limited(LOG_ERR, config->name, 0,
			"cannot listen on %s: socket-user = %s: there is no such user; create it (useradd --system %s)",
			config->socket, config->socket_user, config->socket_user);
	else
		log_limited(LOG_ERR, config->name, 0,
			"cannot listen on %s: its owner cannot be set to '%s' (socket-user): %s; only root may, so use socket-group",
			config->socket, config->socket_user, strerror(-r));
	return r;
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static pid_t maker_of(int probe)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);

	(void)getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &cred, &n);
	return cred.pid;
}

static int fail_held(const struct config_device *config, int probe)
{
	char text[128];

	snprintf(text, sizeof(text),
		"another process (pid %d) listens on it; stop that process or choose another path",
		maker_of(probe));
	return fail(config, -EADDRINUSE, text);
}

static bool dies(pid_t pid)
{
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd end = { .fd = fd, .events = POLLIN };

	return fd < 0 ? errno == ESRCH : poll(&end, 1, DIES_MS) > 0;
}

/* The maker of a socket may be dead, and the socket open: the fd store has it. A launcher's store
 * dies with the launcher, some 10 ms after it. */
static bool may_vanish(int probe, uint64_t until_usec)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	pid_t maker = maker_of(probe);

	if (maker <= 0 || clock_us() >= until_usec || !dies(maker))
		return false;
	(void)nanosleep(&tick, NULL);
	return true;
}

/* systemd listens for us, in directories that our user cannot write to. If it does not, that is a
 * matter of its units. NULL: another service manager started us. */
static const char *unpassed(void)
{
	const char *manager = getenv("NOTIFY_SOCKET");

	return manager && strstr(manager, "/systemd/")
		? "systemd has not passed its socket, whose unit is not active; run 'bulkheadctl apply'"
		: NULL;
}

/** struct place - the folder that a path led to, and the name in it */
struct place {
	int dir_fd;
	const char *name;
};

/* Whoever owns a folder above may turn the path elsewhere at any moment, so what is asked and what
 * is removed are looked up in one folder. */
static int open_place(const char *path, struct place *ret)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;

	if (!dir)
		return slash ? -ENOMEM : -EINVAL;
	ret->name = slash + 1;
	ret->dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return ret->dir_fd < 0 ? -errno : 0;
}

/* Errors: 0: somebody listens there | -EAGAIN: its maker dies | another negative errno. */
static int ask_socket(const struct place *place, int probe, uint64_t until_usec)
{
	struct sockaddr_un addr;
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", place->dir_fd, place->name);
	r = address_fill(&addr, path);
	if (r < 0)
		return r;
	if (connect(probe, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == EAGAIN ? -EADDRINUSE : -errno;
	return may_vanish(probe, until_usec) ? -EAGAIN : 0;
}

static int judge_answer(const struct config_device *config, const struct place *place, int probe,
	int answer)
{
	switch (-answer) {
	case 0:
		return fail_held(config, probe);
	case EAGAIN:
		return -EAGAIN;
	case EACCES:
		return fail(config, -EADDRINUSE,
			"another user's socket is there; remove it or choose another path");
	case ECONNREFUSED:
		break;
	case ENAMETOOLONG:
		return fail(config, answer,
			"a socket of that name is there, and the name is too long to ask it; remove it or choose a shorter name");
	default:
		return fail(config, -EADDRINUSE,
			"another process listens on it; stop that process or choose another path");
	}
	if (unlinkat(place->dir_fd, place->name, 0) < 0)
		return fail(config, -errno,
			unpassed() ?: "a stale socket is there and cannot be removed; remove it");
	return 0;
}

static int look_at_place(const struct config_device *config, const struct place *place,
	uint64_t until_usec)
{
	_cleanup_close_ int probe = -1;
	struct stat st;

	if (fstatat(place->dir_fd, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(config, -errno, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return fail(config, -EEXIST,
			"the path exists and is not a socket; remove it or choose another path");
	probe = new_socket();
	if (probe < 0)
		return fail(config, probe, strerror(-probe));
	return judge_answer(config, place, probe, ask_socket(place, probe, until_usec));
}

/* What stands at the path: nothing or a dead socket (which is removed), or something that is in
 * use. */
static int clear_path(const struct config_device *config)
{
	uint64_t until_usec = clock_us() + VANISHES_USEC;
	struct place place;
	int r = open_place(config->socket, &place);

	if (r < 0) /* bind() has the sentence for a folder that is not there */
		return r == -ENOENT || r == -ENOTDIR ? 0 : fail(config, r, strerror(-r));
	do
		r = look_at_place(config, &place, until_usec);
	while (r == -EAGAIN);
	fd_close(place.dir_fd);
	return r;
}

/* The file that the socket is bound to. Without the right to ask for it we are an ordinary user,
 * and what the path shows must at least be a socket of ours. */
static int open_file(int fd, const char *path)
{
	int file = ioctl(fd, SIOCUNIXFILE);
	struct stat st;

	if (file >= 0)
		return file;
	file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (file < 0)
		return -errno;
	if (fstat(file, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == geteuid())
		return file;
	fd_close(file);
	return -EPERM;
}

/* Without the right to ask for the socket's own file, another socket of ours cannot be told from
 * it. */
static bool is_own_at(int fd, const struct place *place)
{
	_cleanup_close_ int file = ioctl(fd, SIOCUNIXFILE);
	struct stat own, there;

	if (fstatat(place->dir_fd, place->name, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (file < 0)
		return S_ISSOCK(there.st_mode) && there.st_uid == geteuid();
	return fstat(file, &own) == 0 && own.st_dev == there.st_dev && own.st_ino == there.st_ino;
}

/* What stands at the path is removed if it is the file that the socket is bound to. */
static void remove_own(int fd, const char *path)
{
	struct place place;

	if (open_place(path, &place) < 0)
		return;
	if (is_own_at(fd, &place))
		(void)unlinkat(place.dir_fd, place.name, 0);
	fd_close(place.dir_fd);
}

static int find_group(const struct config_device *config, gid_t *ret_group)
{
	const struct group *group = getgrnam(config->socket_group);

	if (!group)
		return fail_group(config, -ENOENT);
	*ret_group = group->gr_gid;
	return 0;
}

static int find_user(const struct config_device *config, uid_t *ret_user)
{
	const struct passwd *user = getpwnam(config->socket_user);

	if (!user)
		return fail_user(config, -ENOENT);
	*ret_user = user->pw_uid;
	return 0;
}

/* One after the other, since a user who may set the one may be refused the other. */
static int set_owners(int fd, const struct config_device *config)
{
	_cleanup_close_ int file = -1;
	gid_t group = (gid_t)-1;
	uid_t user = (uid_t)-1;

	if (!config->socket_group && !config->socket_user)
		return 0;
	if ((config->socket_group && find_group(config, &group) < 0) ||
		(config->socket_user && find_user(config, &user) < 0))
		return -ENOENT;
	file = open_file(fd, config->socket);
	if (file < 0)
		return fail(config, file,
			"another process replaced its file while it was being created");
	if (fchownat(file, "", (uid_t)-1, group, AT_EMPTY_PATH) < 0)
		return fail_group(config, -errno);
	if (fchownat(file, "", user, (gid_t)-1, AT_EMPTY_PATH) < 0)
		return fail_user(config, -errno);
	return 0;
}

/* The mode of the socket, not narrowed, becomes the file's. */
static int bind_with_mode(int fd, const struct sockaddr_un *addr, mode_t mode)
{
	mode_t former = umask(0);
	int r = fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0
		? -errno
		: 0;

	(void)umask(former);
	return r;
}

static int fail_bind(const struct config_device *config, int r)
{
	char text[160];

	switch (-r) {
	case ENOENT:
	case ENOTDIR:
		return fail(config, r, unpassed() ?: "its directory does not exist; create it");
	case EACCES:
	case EPERM:
		snprintf(text, sizeof(text),
			"user %u may not write to its directory; grant that, or choose another path",
			geteuid());
		return fail(config, r, unpassed() ?: text);
	case EROFS:
		return fail(config, r,
			unpassed()
				?: "its directory is on a file system that is mounted read-only; choose another path");
	default:
		return fail(config, r, strerror(-r));
	}
}

static int make_listener(const struct config_device *config)
{
	_cleanup_close_ int fd = new_socket();
	struct sockaddr_un addr;
	int r;

	if (fd < 0)
		return fail(config, fd, strerror(-fd));
	if (address_fill(&addr, config->socket) < 0)
		return fail(config, -ENAMETOOLONG, "the path is too long; choose a shorter one");
	r = clear_path(config);
	if (r < 0)
		return r;
	r = bind_with_mode(fd, &addr, config->socket_mode);
	if (r < 0)
		return fail_bind(config, r);
	r = set_owners(fd, config);
	if (r < 0) {
		remove_own(fd, config->socket);
		return r;
	}
	if (listen(fd, BACKLOG) < 0)
		return fail(config, -errno, strerror(errno));
	return fd_steal(&fd);
}

/* Whether the file at the path is the one that the socket is bound to; true where that cannot be
 * told. */
static bool is_own(int fd, const char *path)
{
	_cleanup_close_ int file = ioctl(fd, SIOCUNIXFILE);
	struct stat own, there;

	return file < 0 ||
		(fstat(file, &own) == 0 && lstat(path, &there) == 0 && own.st_dev == there.st_dev &&
			own.st_ino == there.st_ino);
}

/* The file may be gone, or another one in its place, or the configuration may name another one
 * now. */
static bool is_at(int fd, const struct config_device *config)
{
	struct sockaddr_un addr = { 0 };
	socklen_t n = sizeof(addr);
	struct stat st;

	return getsockname(fd, (struct sockaddr *)&addr, &n) == 0 &&
		strncmp(addr.sun_path, config->socket, sizeof(addr.sun_path)) == 0 &&
		stat(config->socket, &st) == 0 && S_ISSOCK(st.st_mode) &&
		is_own(fd, config->socket);
}

/* Whether a device under another name has been given a socket at this path. */
static bool is_succeeded(const struct config *config, const char *path)
{
	const char *name;
	int at = 0;

	while ((name = fdstore_next(PREFIX, &at))) {
		const struct config_device *device = config_device(config, name + strlen(PREFIX));

		if (device && strcmp(device->socket, path) == 0)
			return true;
	}
	return false;
}

/* Where it is systemd's, the file may be none of ours to remove; then its unit does. */
static void drop(const struct config *config, const char *name)
{
	struct sockaddr_un addr = { 0 };
	socklen_t n = sizeof(addr) - 1;
	_cleanup_close_ int fd = fdstore_take(name);

	if (getsockname(fd, (struct sockaddr *)&addr, &n) == 0 && addr.sun_path[0] &&
		!is_succeeded(config, addr.sun_path))
		remove_own(fd, addr.sun_path);
	(void)fdstore_remove(name);
}

void listener_drop_others(const struct config *config)
{
	const char *name;
	int at = 0;

	while ((name = fdstore_next(PREFIX, &at)))
		if (!config_device(config, name + strlen(PREFIX)))
			drop(config, name);
}

static int make_kept(const struct config_device *config, const char *name)
{
	int fd = make_listener(config);

	if (fd >= 0)
		(void)fdstore_push(name, fd);
	return fd;
}

bool listener_may_make(const struct config_device *config)
{
	_cleanup_free_ char *dir = strdup(config->socket);

	if (!dir)
		return true;
	*(strrchr(dir, '/') == dir ? dir + 1 : strrchr(dir, '/')) = '\0';
	return (access(dir, W_OK | X_OK) == 0 || errno != EACCES) &&
		(access(config->socket, W_OK) == 0 || errno != EACCES);
}

int listener_renew(const struct config_device *config)
{
	char name[64];

	snprintf(name, sizeof(name), PREFIX "%s", config->name);
	(void)fdstore_remove(name);
	return make_kept(config, name);
}

int listener_open(const struct config_device *config, bool *ret_passed)
{
	char name[64];
	int fd;

	/* the parent process chose it: its path is not checked */
	snprintf(name, sizeof(name), "passed.%s", config->name);
	fd = fdstore_take(name);
	*ret_passed = fd >= 0;
	if (fd >= 0)
		return fd;
	snprintf(name, sizeof(name), PREFIX "%s", config->name);
	fd = fdstore_take(name);
	if (fd >= 0 && is_at(fd, config))
		return fd;
	if (fd >= 0) {
		(void)fdstore_remove(name);
		fd_close(fd);
	}
	return make_kept(config, name);
}

void listener_leave(const struct config_device *config, int listen_fd)
{
	if (!fdstore_available())
		remove_own(listen_fd, config->socket);
}

int listener_connect(const struct config_device *config)
{
	_cleanup_close_ int fd = new_socket();
	struct sockaddr_un addr;
	int r;

	if (fd < 0)
		return fd;
	r = address_fill(&addr, config->socket);
	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd_steal(&fd);
}
