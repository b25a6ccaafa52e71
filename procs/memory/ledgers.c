/* One memfd for each device. Its contents are the worker's; here it is only made, and never lost. */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "virtq/locks.h"

#define LEDGER_BYTES_MAX (UINT64_C(1) << 30)

/* With another size comes another file, with locks of its own: it must not be had beside the old one. */
static bool in_use(const struct device *device)
{
	const struct memory *memory = device->memory;
	unsigned int n = 0;

	for (size_t i = 0; i < memory->n_peers; i++)
		n += memory->peers[i].device == device && memory->peers[i].link_fd >= 0;
	return device->ledger_fd >= 0 && n > 1;
}

static int make_ledger(struct device *device, uint64_t n_bytes)
{
	_cleanup_close_ int fd = -1;
	char name[128];
	int r;

	snprintf(name, sizeof(name), "bulkhead-ledger-%s", device->config->name);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)n_bytes) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
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
