/*
 * A ledger is one memfd for each device. Only the worker uses its contents; this process makes it
 * and keeps it.
 *
 * The locks in a ledger are mutexes of the C library, which follows pointers in them, so this
 * process never takes one. The two instances of a worker do. They have the same guest, the same
 * rights and the same ledger, so an instance that was taken over gains nothing by corrupting the
 * locks. It could stop its successor for good, though, with a broken mutex or one that a live
 * process holds. Therefore the locks are initialised again as soon as all processes that were
 * attached have ended, before the next one gets the ledger. Initialising a lock reads nothing from
 * it.
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

/* A ledger of another size is another file with other locks: two instances must not use different
 * ones. */
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

/* After a restart of this process, or when the list is full, an unknown process may hold a lock.
 * The list is complete again when as many known processes live as there are instances. */
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

	/* a larger ledger is of another release, and describes its own layout */
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
