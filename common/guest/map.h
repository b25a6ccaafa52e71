#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "guest/addr.h"
#include "virtio/vhost-user.h"

/*
 * Guest memory as this process has it mapped: a sorted table of regions, from a guest range to
 * memory that may be touched. Every address that a guest or VMM wrote goes through here.
 */

#define MAP_REGIONS_MAX VHOST_USER_MAX_RAM_SLOTS

enum {
	MAP_E_OUTSIDE = 1, /* the range is not (wholly) in guest memory: the peer's fault */
};

/** struct map_region - what map_add() is given */
struct map_region {
	struct gpa gpa;
	struct uva uva;
	uint64_t size_bytes;
	uint64_t offset_bytes; /* of the first byte in the file; need not be page-aligned */
	bool sealed;           /* the file cannot shrink: no SIGBUS is possible */
};

struct map;

int map_new(struct map **ret_map);
struct map *map_free(struct map *map);

/**
 * map_add() - map one region, readable and writable
 * @fd: borrowed: the mapping outlives it
 *
 * Shape:   no overlap with what is there, in guest-physical addresses; at most MAP_REGIONS_MAX.
 * Errors:  0 | -EEXIST overlap | -ENOSPC too many | other negative errno of fstat or mmap.
 *          A file shorter than the region is -EFBIG.
 * State:   no other thread uses the map (the device is paused).
 */
int map_add(struct map *map, const struct map_region *region, int fd);

/** map_remove() - unmap the region that matches in gpa, uva and size; -ENOENT when there is none */
int map_remove(struct map *map, const struct map_region *region);

/** map_count() - number of regions */
size_t map_count(const struct map *map);

/** map_poisoned() - whether a region's file shrank under us, so that zeros stand where memory was.
 * Set from the SIGBUS handler; the device must stop its rings. */
bool map_poisoned(const struct map *map);

/**
 * map_spans() - turn a guest range into the memory behind it
 * @ret_spans: [out] filled with one span for each region the range crosses
 * @max_spans: [in]  how many there is room for, at least 1
 *
 * Errors:  number of spans (>= 1) | -MAP_E_OUTSIDE when a byte of it is outside, or there is no room.
 *          A length of 0 is outside, whatever the address.
 * Owner:   spans borrow the mapping until the device is next paused.
 * Cost:    O(log regions); no allocation.
 */
int map_spans(const struct map *map, struct gpa start, uint64_t n_bytes, struct iovec *ret_spans,
	unsigned int max_spans);

/** map_gpa() - one contiguous span inside one region, or NULL */
void *map_gpa(const struct map *map, struct gpa start, uint64_t n_bytes);

/** struct map_hint - the region that was found last; { 0 } = none. It is stale, and must be zeroed, once
 * the map has changed. */
struct map_hint {
	uint64_t start;   /* guest-physical */
	uint64_t n_bytes;
	uint8_t *mem;
};

/** map_hint_set() - have the hint tell of the region that holds this address; false: there is none, and
 * the hint is as it was */
bool map_hint_set(struct map_hint *hint, const struct map *map, struct gpa addr);

/** map_gpa_hinted() - map_gpa() that searches only when the hint does not fit; n_bytes is not 0 */
static inline void *map_gpa_hinted(const struct map *map, struct map_hint *hint, struct gpa start,
	uint64_t n_bytes)
{
	uint64_t offset = start.val - hint->start;

	if (__builtin_expect(offset >= hint->n_bytes, 0)) {
		if (!map_hint_set(hint, map, start))
			return NULL;
		offset = start.val - hint->start;
	}
	return n_bytes <= hint->n_bytes - offset ? hint->mem + offset : NULL;
}

/** map_uva() - the same as map_gpa() for an address of the VMM's */
void *map_uva(const struct map *map, struct uva start, uint64_t n_bytes);

/** map_install_sigbus() - once for each process that maps guest memory: a region whose file shrank
 * becomes zeros and poisoned, instead of a crash. A SIGBUS elsewhere still ends the process. */
int map_install_sigbus(void);
