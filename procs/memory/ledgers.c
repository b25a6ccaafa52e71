/* One memfd for each device. Its contents are the worker's; here it is only made, and never lost. */
#include "memory.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "fd/fdstore.h"
#include "virtq/locks.h"

/* With another size comes another file, with locks of its own: it must not be had beside the old one. */
static bool in_use(const struct device *device)
{
	return device->ledger_fd >= 0 && memory_attached(device) > 1;
}

static int make_ledger(struct device *device, uint64_t n_bytes)
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

int ledgers_get(struct device *device, uint64_t n_bytes)
{
	char name[128];
	int fd;

	if (device->ledger_fd >= 0 && device->ledger_bytes == n_bytes)
		return device->ledger_fd;
	if (n_bytes == 0 || n_bytes > LEDGER_BYTES_MAX)
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
	return fd;
}
