#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define WAIT_MS 10000
#define STEP_MS 5
#define SLOT_BYTES 11

void lock_note(int fd, size_t slot, unsigned long number, const char *guest)
{
	char line[SLOT_BYTES + 1];

	snprintf(line, sizeof(line), "%10lu\n", number % 10000000000UL);
	if (pwrite(fd, line, SLOT_BYTES, (off_t)(slot * SLOT_BYTES)) != SLOT_BYTES)
		log_warning("cannot write the lock file of guest %s: %s", guest, strerror(errno));
}

int lock_blank(int fd)
{
	static const char blank[(SLOT_KEEPER + 1) * SLOT_BYTES];

	if (ftruncate(fd, 0) < 0)
		return -errno;
	return pwrite(fd, blank, sizeof(blank), 0) == sizeof(blank) ? 0 : errno ? -errno : -ENOSPC;
}

pid_t lock_pid(int fd, size_t slot)
{
	char line[SLOT_BYTES + 1] = "";

	if (pread(fd, line, SLOT_BYTES, (off_t)(slot * SLOT_BYTES)) != SLOT_BYTES)
		return 0;
	return (pid_t)strtol(line, NULL, 10);
}

/* Whether the process still holds memory and descriptors; a zombie does not. */
static bool lives(pid_t pid)
{
	char path[64], text[64] = "", *state;
	_cleanup_close_ int fd = -1;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return false;
	state = strrchr(text, ')');
	return state && state[1] && !strchr("ZX", state[2]);
}

static bool any_child_lives(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	for (size_t i = SLOT_CHILDREN; i < (size_t)st.st_size / SLOT_BYTES; i++)
		if (lives(lock_pid(fd, i)))
			return true;
	return false;
}

void lock_wait_for_children(int fd)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };

	for (int i = 0; i < WAIT_MS / STEP_MS && any_child_lives(fd); i++)
		nanosleep(&step, NULL);
}

int lock_take(int fd)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };

	for (int i = 0; i < WAIT_MS / STEP_MS; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (lives(lock_pid(fd, SLOT_LAUNCHER)))
			return -EBUSY;
		nanosleep(&step, NULL);
	}
	return -EBUSY;
}
