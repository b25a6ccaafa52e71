/*
 * A snapshot is written to a file that has no name, and gets its name when all of it is on the
 * disk. A name that is taken cannot be given in one step: then the file first has a name of its own
 * beside, and is renamed. Where the file system has no files without a name, it has that name from
 * the beginning. A kill may leave it behind; nobody takes it for a snapshot, since it begins with a
 * dot and ends in characters of chance.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "saved.h"

#define MODE 0600

/* --- Before --- */

static int fail_errno(const char *path, const char *what)
{
	int r = -errno;

	return saved_fail(path, r, "%s: %s", what, strerror(-r));
}

static int open_dir(struct place *place, const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

	check(dir);
	place->path = path;
	place->name = slash ? slash + 1 : path;
	place->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->dir_fd < 0)
		return fail_errno(path, "its directory cannot be opened");
	return 0;
}

static int judge_name(const char *path, const char *name)
{
	if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		return 0;
	return saved_fail(path, -EISDIR, "names a directory; a snapshot is a regular file");
}

/* What is replaced must be something that a snapshot could have been. */
static int judge_former(const struct place *place)
{
	struct stat st;

	if (fstatat(place->dir_fd, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail_errno(place->path, "cannot be written");
	if (S_ISREG(st.st_mode))
		return 0;
	return saved_fail(place->path, S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST,
		"is a %s; only a regular file is replaced",
		S_ISDIR(st.st_mode)            ? "directory"
			: S_ISLNK(st.st_mode)  ? "symbolic link"
			: S_ISFIFO(st.st_mode) ? "pipe"
			: S_ISSOCK(st.st_mode) ? "socket"
					       : "device");
}

int place_open(struct place *place, const char *path)
{
	int r = open_dir(place, path);

	if (r < 0)
		return r;
	r = judge_name(path, place->name);
	if (r == 0)
		r = judge_former(place);
	if (r == 0 && faccessat(place->dir_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		r = fail_errno(path, "its directory cannot be written to");
	if (r < 0)
		place_close(place);
	return r;
}

void place_close(struct place *place)
{
	place->dir_fd = fd_close(place->dir_fd);
}

/* --- The file --- */

struct draft {
	int fd;
	char name[NAME_MAX + 1]; /* "" = it has none */
};

static void choose_name(const struct place *place, char name[NAME_MAX + 1])
{
	uint64_t chance = 0;

	check(getrandom(&chance, sizeof(chance), 0) == sizeof(chance));
	snprintf(name, NAME_MAX + 1, ".%.*s.%016llx", NAME_MAX - 18, place->name,
		(unsigned long long)chance);
}

static int open_draft(const struct place *place, struct draft *draft)
{
	*draft = (struct draft){ .fd = openat(place->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC,
					 MODE) };
	if (draft->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return fail_errno(place->path, "cannot be written");
	choose_name(place, draft->name);
	draft->fd =
		openat(place->dir_fd, draft->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, MODE);
	return draft->fd < 0 ? fail_errno(place->path, "cannot be written") : 0;
}

static int write_all(int fd, const struct saved *saved)
{
	size_t at = 0;

	while (at < saved->n) {
		ssize_t n = write(fd, saved->bytes + at, saved->n - at);

		if (n < 0 && errno != EINTR)
			return -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* --- Its name --- */

static int give_name(const struct place *place, struct draft *draft, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", draft->fd);
	return linkat(AT_FDCWD, path, place->dir_fd, name, AT_SYMLINK_FOLLOW);
}

static int publish(const struct place *place, struct draft *draft)
{
	char own[NAME_MAX + 1];

	choose_name(place, own);
	if (!*draft->name) {
		if (give_name(place, draft, place->name) == 0)
			return 0;
		if (errno != EEXIST || give_name(place, draft, own) < 0)
			return -errno;
		memcpy(draft->name, own, sizeof(own));
	}
	if (renameat(place->dir_fd, draft->name, place->dir_fd, place->name) < 0)
		return -errno;
	*draft->name = '\0';
	return 0;
}

static void close_draft(const struct place *place, struct draft *draft)
{
	if (*draft->name)
		(void)unlinkat(place->dir_fd, draft->name, 0);
	draft->fd = fd_close(draft->fd);
}

int place_write(const struct place *place, const struct saved *saved)
{
	struct draft draft;
	int r = open_draft(place, &draft);

	if (r < 0)
		return r;
	r = write_all(draft.fd, saved);
	if (r == 0)
		r = publish(place, &draft);
	close_draft(place, &draft);
	if (r < 0)
		return saved_fail(place->path, r, "cannot be written: %s", strerror(-r));
	/* a file system that cannot do it says EINVAL */
	if (fsync(place->dir_fd) < 0 && errno != EINVAL)
		return fail_errno(place->path, "was written, and may not last");
	return 0;
}
