/* Reading a file with snapshots, and reporting what is wrong with one. */
#include "saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "config/config.h"
#include "snapshot/snapshot.h"

#define FILE_MAX (CONFIG_DEVICES_MAX * (size_t)SNAPSHOT_IMAGE_MAX)
#define FIRST_ROOM 65536

/* A name may come from a directory that others write to. */
int saved_fail(const char *path, int r, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL, *line = NULL;
	va_list ap;

	va_start(ap, fmt);
	check(vasprintf(&text, fmt, ap) >= 0);
	va_end(ap);
	check(asprintf(&line, "%s: %s", path, text) >= 0);
	fprintf(stderr, "%s\n", text_clean(line));
	return r;
}

/* A pipe would block the open, and a device may do anything. */
static int open_regular(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return saved_fail(path, -errno, "%s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return saved_fail(path, -EISDIR, "is a directory; a snapshot is a regular file");
	if (!S_ISREG(st.st_mode))
		return saved_fail(path, -EINVAL,
			"is no regular file, which a snapshot is; inspect reads a pipe as '-'");
	return fd_steal(&fd);
}

static int grow(struct saved *saved, size_t *room)
{
	uint8_t *bytes;

	if (saved->n < *room)
		return 0;
	*room = MAX((size_t)FIRST_ROOM, 2 * *room);
	bytes = realloc(saved->bytes, *room);
	if (!bytes)
		return -ENOMEM;
	saved->bytes = bytes;
	return 0;
}

static int read_all(int fd, struct saved *saved)
{
	size_t room = 0;
	ssize_t got;

	do {
		int r = grow(saved, &room);

		if (r < 0)
			return r;
		got = read(fd, saved->bytes + saved->n, room - saved->n);
		if (got < 0 && errno != EINTR)
			return -errno;
		saved->n += got > 0 ? (size_t)got : 0;
	} while (got != 0 && saved->n <= FILE_MAX);
	return saved->n > FILE_MAX ? -EFBIG : 0;
}

int saved_read(const char *path, struct saved *saved)
{
	bool standard = strcmp(path, "-") == 0;
	_cleanup_close_ int fd = standard ? dup(STDIN_FILENO) : open_regular(path);
	_cleanup_free_ uint8_t *bytes = NULL;
	struct saved found = { 0 };
	int r;

	if (fd < 0)
		return standard ? saved_fail(path, -EBADF, "standard input is closed") : fd;
	r = read_all(fd, &found);
	bytes = found.bytes;
	if (r == -EFBIG)
		return saved_fail(path, r, "has more than %zu bytes, the most of a snapshot",
			FILE_MAX);
	if (r < 0)
		return saved_fail(path, r, "%s", strerror(-r));
	ptr_steal(&bytes);
	*saved = found;
	return 0;
}
