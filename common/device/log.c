/*
 * Spec: vhost-user, "Migration": the log has one bit for each page of 4 KiB, whatever size pages
 * have elsewhere: bit page % 8 of byte page / 8.
 *
 * A mark is a store that the VMM sees after the bytes it stands for: the VMM takes a byte of the
 * log out by an atomic exchange and copies its pages afterwards. So a bit is set anew even if it
 * seems to be set already: it may just have been taken out.
 *
 * The file is the VMM's, and hostile as guest memory is: it is mapped as guest memory is, with the
 * guard against a file that shrinks (map.c). A log that was cut short marks nothing any more; the
 * guest is served all the same.
 */
#include "device/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/sanitizer.h"

#define PAGE_SHIFT 12

/** struct dirty_log - the log in force */
struct dirty_log {
	struct map_log hook; /* first: the map knows it by this */
	uint64_t token, mmap_size, mmap_offset;
	struct map *file; /* of the log: its first byte is at address 0 */
	uint8_t *bytes;   /* in that map; mmap_size of them */
	atomic_bool outside_told, lost_told;
};

/* --- Marking: any thread that serves a ring --- */

static void tell_once(atomic_bool *told, const char *what)
{
	if (!atomic_exchange(told, true))
		log_warning("%s", what);
}

/* The pages from first to last, which are in the log. ThreadSanitizer's own atomics hold a lock, so
 * that a fault in them is never handled. */
NOT_SANITIZED static void set_bits(uint8_t *bytes, uint64_t first, uint64_t last)
{
	while (first <= last) {
		unsigned int at = first % 8, n = (unsigned int)MIN(last - first + 1, 8 - at);

		__atomic_fetch_or(&bytes[first / 8], (uint8_t)(((1u << n) - 1) << at),
			__ATOMIC_SEQ_CST);
		first += n;
	}
}

static void on_dirty(struct map_log *hook, struct gpa start, uint64_t n_bytes)
{
	struct dirty_log *log = (struct dirty_log *)(void *)hook;
	uint64_t first = start.val >> PAGE_SHIFT, last, n_pages = 8 * log->mmap_size;

	if (add_overflows(start.val, n_bytes - 1, &last))
		last = UINT64_MAX;
	last >>= PAGE_SHIFT;
	if (unlikely(last >= n_pages)) {
		tell_once(&log->outside_told,
			"the device writes to memory that the VMM's dirty log does not cover: a migration "
			"will not copy it");
		if (first >= n_pages)
			return;
		last = n_pages - 1;
	}
	set_bits(log->bytes, first, last);
	if (unlikely(map_poisoned(log->file)))
		tell_once(&log->lost_told,
			"the VMM has cut the file of its dirty log short: nothing is marked any more");
}

/* --- What is in force --- */

const Bh__Log *log_wanted(const Bh__Desired *desired)
{
	return has_bit(desired->features, VHOST_F_LOG_ALL) ? desired->log : NULL;
}

bool log_is_in_force(const struct device *device, const Bh__Desired *desired)
{
	const struct dirty_log *log = device->core->log;
	const Bh__Log *wanted = log_wanted(desired);

	if (!log || !wanted)
		return !log && !wanted;
	return log->token == wanted->token && log->mmap_size == wanted->mmap_size &&
		log->mmap_offset == wanted->mmap_offset;
}

static int map_file(struct dirty_log *log, int fd)
{
	struct map_region all = { .size_bytes = log->mmap_size, .offset_bytes = log->mmap_offset };
	int r = fd < 0 ? -EBADF : map_new(&log->file);

	if (r == 0)
		r = map_add(log->file, &all, fd);
	if (r == 0)
		log->bytes = map_gpa(log->file, (struct gpa){ 0 }, log->mmap_size);
	return r;
}

static struct dirty_log *dirty_log_free(struct dirty_log *log)
{
	if (log)
		map_free(log->file);
	free(log);
	return NULL;
}

static int dirty_log_new(struct dirty_log **ret, const Bh__Log *wanted, int fd)
{
	struct dirty_log *log = calloc(1, sizeof(*log));
	int r;

	if (!log)
		return -ENOMEM;
	log->hook.dirty = on_dirty;
	log->token = wanted->token;
	log->mmap_size = wanted->mmap_size;
	log->mmap_offset = wanted->mmap_offset;
	r = map_file(log, fd);
	if (r < 0) {
		dirty_log_free(log);
		return r;
	}
	*ret = log;
	return 0;
}

void log_close(struct device *device)
{
	if (!device->core->log)
		return;
	map_set_log(device->map, NULL);
	device->core->log = dirty_log_free(device->core->log);
}

void log_apply(struct device *device, const Bh__Desired *desired, int fd)
{
	struct device_core *core = device->core;
	const Bh__Log *wanted = log_wanted(desired);
	int r = 0;

	if (log_is_in_force(device, desired))
		return;
	log_close(device);
	if (wanted)
		r = dirty_log_new(&core->log, wanted, fd);
	if (core->log)
		map_set_log(device->map, &core->log->hook);
	if (r < 0) {
		/* the log is gone, or the VMM has cut it short meanwhile */
		core->apply_error = "the dirty log could not be mapped";
		log_limited(LOG_WARNING, NULL, 0, "the dirty log of the VMM cannot be mapped: %s",
			strerror(-r));
	}
}
