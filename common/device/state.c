/*
 * The device's own state, which survives both the process and an upgrade. As much as fits lies in
 * the ledger. A ledger keeps the layout it was created with, because an upgrade would otherwise
 * lose the ring positions. The rest lies in a file that the memory manager keeps by name. Both are
 * mapped back to back, so that the device sees one contiguous block. An older release finds the
 * fields it knows at their usual place, and so does a newer one.
 */
#include "device/core.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MORE "state"

/* The file for what does not fit into the ledger. A newer release may have made it longer, an
 * older one shorter. */
static int open_more(struct device *device, size_t n_bytes)
{
	_cleanup_close_ int fd = device_take_kept(device, MORE);
	struct stat st;
	int r;

	if (fd < 0)
		fd = memfd_create("bulkhead-state", MFD_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((size_t)st.st_size < n_bytes && ftruncate(fd, (off_t)n_bytes) < 0)
		return -errno;
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
