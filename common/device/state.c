/*
 * The device's own state, which survives both the process and an upgrade. As much as fits lies in
 * the ledger. A ledger keeps the layout it was created with, because an upgrade would otherwise
 * lose the ring positions. The rest lies in a file that the memory manager keeps by name. Both are
 * mapped back to back, so that the device sees one contiguous block. An older release finds the
 * fields it knows at their usual place, and so does a newer one.
 */
#include "device/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define MORE "state"
#define MORE_BYTES_MAX (16 << 20)

/* Whether the device can rely on the file for so many bytes. One that was kept is as a worker left
 * it, and that one may have been taken over. */
static bool is_usable(int fd, size_t n_bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & F_SEAL_SHRINK) &&
		!(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) && fstat(fd, &st) == 0 &&
		(size_t)st.st_size >= n_bytes;
}

/* How many bytes of it there are to copy: a newer release may have made it longer, an older one
 * shorter. */
static size_t old_bytes(int fd, const char *device)
{
	struct stat st;

	if (fcntl(fd, F_GET_SEALS) >= 0 && fstat(fd, &st) == 0 && st.st_size <= MORE_BYTES_MAX)
		return (size_t)st.st_size;
	log_device(LOG_WARNING, device,
		"what was kept as the device's state is no such file; the device begins without it");
	return 0;
}

static int copy_bytes(int to, int from, size_t n_bytes)
{
	uint8_t buf[4096];
	off_t at = 0;

	while ((size_t)at < n_bytes) {
		ssize_t n = pread(from, buf, MIN(sizeof(buf), n_bytes - (size_t)at), at);

		if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
			return -EIO;
		at += n;
	}
	return 0;
}

/* The file for what does not fit into the ledger, copied to one that can be used if need be. */
static int open_more(struct device *device, size_t n_bytes)
{
	_cleanup_close_ int old_fd = device_take_kept(device, MORE);
	_cleanup_close_ int fd = -1;
	size_t n_old;
	int r;

	if (old_fd >= 0 && is_usable(old_fd, n_bytes)) {
		r = device_keep(device, MORE, old_fd);
		return r < 0 ? r : fd_steal(&old_fd);
	}
	n_old = old_fd < 0 ? 0 : old_bytes(old_fd, device->config->name);
	fd = file_sealed("bulkhead-state", MAX(n_bytes, n_old));
	if (fd < 0)
		return fd;
	r = copy_bytes(fd, old_fd, n_old);
	if (r == 0)
		r = device_keep(device, MORE, fd);
	return r < 0 ? r : fd_steal(&fd);
}

static int map_at(void *at, size_t n_bytes, int fd, off_t offset)
{
	void *mem = mmap(at, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);

	return mem == MAP_FAILED ? -errno : 0;
}

static int map_both(struct device *device, size_t room, size_t more, int more_fd)
{
	struct ledger *ledger = &device->ledger;
	off_t offset = (uint8_t *)ledger->state - (uint8_t *)ledger->header;
	uint8_t *mem = mmap(NULL, room + more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (mem == MAP_FAILED)
		return -errno;
	device->state = mem;
	device->core->state_mapping_bytes = room + more;
	r = map_at(mem, room, device->core->attachment.ledger_fd, offset);
	return r < 0 ? r : map_at(mem + room, more, more_fd, 0);
}

int device_state_open(struct device *device)
{
	size_t room = ledger_state_room(&device->ledger), want = device->ops->state_bytes;
	_cleanup_close_ int fd = -1;

	device->state = device->ledger.state;
	if (want <= room)
		return 0;
	fd = open_more(device, want - room);
	return fd < 0 ? fd : map_both(device, room, want - room, fd);
}

void device_state_close(struct device *device)
{
	if (device->core->state_mapping_bytes)
		(void)munmap(device->state, device->core->state_mapping_bytes);
	device->core->state_mapping_bytes = 0;
	device->state = NULL;
}
