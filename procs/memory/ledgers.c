/*
 * One memfd for each device. Its contents are the worker's; here it is only made, and never lost.
 *
 * Its locks are mutexes of the C library, which follows pointers that lie in them. They are never taken here. The
 * instances of a worker take them from each other: with the same guest, the same rights and the same ledger, one that was
 * taken over gains nothing by what it does to the other's locks. But it is not to stop its successor for good, as
 * it would by a mutex that is none, or is held by somebody who lives for ever: once all who were attached have
 * ended, the locks are made anew before the next has them. Only their making is done here, which reads nothing.
 */
#include "ledgers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "fd/fdstore.h"
#include "virtq/locks.h"

/* With another size comes another file, with locks of its own: it must not be had beside the old one. */
static bool in_use(const struct served *device)
{
	return device->ledger_fd >= 0 && device->n_attached > 1;
}

static int make_ledger(struct served *device, uint64_t n_bytes)
{
	_cleanup_close_ int fd = -1;
	char name[128];
	int r;

	snprintf(name, sizeof(name), "bulkhead-ledger-%s", device->config->name);
	fd = file_sealed(name, n_bytes);
	if (fd < 0)
		return fd;
	r = ledger_locks_create(fd);
	return r < 0 ? r : fd_steal(&fd);
}

/* --- Locks --- */

static bool is_gone(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

static void forget_gone(struct holders *holders)
{
	for (size_t i = holders->n; i-- > 0;)
		if (is_gone(holders->pids[i]))
			holders->pids[i] = holders->pids[--holders->n];
}

static bool is_known(const struct holders *holders, pid_t pid)
{
	for (size_t i = 0; i < holders->n; i++)
		if (holders->pids[i] == pid)
			return true;
	return false;
}

/* After a restart of ours, or with more than there can be, somebody may hold a lock whom we do not know: until as many
 * live as there are instances, and all are known. */
static void note_holder(struct served *device, pid_t pid)
{
	struct holders *holders = &device->holders;

	if (holders->n == ARRAY_SIZE(holders->pids)) {
		holders->complete = false;
		return;
	}
	holders->pids[holders->n++] = pid;
	if (holders->n > device->config->standby)
		holders->complete = true;
}

void ledgers_attached(struct served *device, pid_t pid)
{
	struct holders *holders = &device->holders;

	if (is_known(holders, pid))
		return;
	forget_gone(holders);
	if (holders->complete && holders->n == 0)
		(void)ledger_locks_create(device->ledger_fd);
	note_holder(device, pid);
}

int ledgers_get(struct served *device, uint64_t n_bytes)
{
	char name[128];
	int fd;

	/* a longer one is of another release: the shape in it says what lies where */
	if (device->ledger_fd >= 0 && device->ledger_bytes >= n_bytes && n_bytes > 0)
		return device->ledger_fd;
	if (n_bytes == 0 || n_bytes > SERVED_LEDGER_BYTES_MAX)
		return -EINVAL;
	if (in_use(device))
		return -EBUSY;
	fd = make_ledger(device, n_bytes);
	if (fd < 0)
		return fd;
	snprintf(name, sizeof(name), "l.%s", device->config->name);
	(void)fdstore_remove(name);
	(void)fdstore_push(name, fd);
	fd_close(device->ledger_fd);
	device->ledger_fd = fd;
	device->ledger_bytes = n_bytes;
	device->holders = (struct holders){ .complete = true };
	return fd;
}
