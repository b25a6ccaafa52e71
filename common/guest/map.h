#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/addr.h"
#include "guest/hooks.h"
#include "virtio/vhost-user.h"

/*
 * Guest memory as this process has it mapped: a sorted table of regions, from a guest range to
 * memory that may be touched. Every address that a guest or VMM wrote is looked up here, and every
 * write of ours is reported here.
 *
 * Thread: look-ups from any thread; what changes the map, or its hooks, only while no other thread
 *         uses it.
 */

#define MAP_REGIONS_MAX VHOST_USER_MAX_RAM_SLOTS

/** The peer's faults; 0 is success, and negative numbers are errno. */
enum {
	MAP_E_OUTSIDE = 1, /* the range is not (wholly) in guest memory */
	/* the map does not have it yet, but may: look it up again when the map has changed */
	MAP_E_LATER,
};

/** struct map_region - what map_add() is given */
struct map_region {
	struct gpa gpa;
	struct uva uva;
	uint64_t size_bytes;
	uint64_t offset_bytes; /* of the first byte in the file; need not be page-aligned */
	bool sealed;           /* the file cannot shrink: no SIGBUS is possible */
};

/** struct map_span - guest memory as this process sees it, and where it is for the guest */
struct map_span {
	uint8_t *mem;
	struct gpa gpa;
	uint64_t n_bytes;
};

struct region;

/** struct map - one guest's memory; open to the inline functions of this header alone */
struct map {
	struct map_log *log;           /* NULL: nobody hears of writes */
	struct map_resolver *resolver; /* NULL: what is in no region is outside */
	atomic_bool poisoned;
	size_t n_regions;
	struct region *regions; /* MAP_REGIONS_MAX */
};

/** map_new() - an empty map; 0 | -ENOMEM. Owner: the caller, until map_free() */
int map_new(struct map **ret_map);

/** map_free() - unmap all; NULL is fine; returns NULL */
struct map *map_free(struct map *map);

/**
 * map_add() - map one region, readable and writable
 * @fd: [in] borrowed: the mapping outlives it
 *
 * Shape:   no overlap with what is there, in guest-physical addresses; at most MAP_REGIONS_MAX.
 * Errors:  0 | -EEXIST overlap | -ENOSPC too many | other negative errno of fstat or mmap.
 *          A file shorter than the region is -EFBIG.
 */
int map_add(struct map *map, const struct map_region *region, int fd);

/** map_remove() - unmap the region that matches in gpa, uva and size; -ENOENT when there is none */
int map_remove(struct map *map, const struct map_region *region);

/** map_set_resolver() - whom to ask for what is in no region; borrowed until it is set anew; NULL:
 * nobody */
void map_set_resolver(struct map *map, struct map_resolver *resolver);

/** map_set_log() - who hears of each write from now on; borrowed until it is set anew; NULL:
 * nobody */
void map_set_log(struct map *map, struct map_log *log);

/** map_poisoned() - whether a region's file shrank under us, so that zeros stand where memory was.
 * Set from the SIGBUS handler; the device must stop its rings. */
static inline bool map_poisoned(const struct map *map)
{
	return atomic_load_explicit(&map->poisoned, memory_order_relaxed);
}

/**
 * map_mark_dirty() - guest memory was written: the one place that hears of every write of ours
 * @start:   [in] where the first byte is for the guest, as the look-up said
 * @n_bytes: [in] 0 is fine
 *
 * State:   after the write, and before the store that makes a successor take the write for done:
 *          the writer may be killed in between, and its successor then marks.
 * Cost:    one load and a predicted branch while there is no log.
 */
static inline void map_mark_dirty(const struct map *map, struct gpa start, uint64_t n_bytes)
{
	if (__builtin_expect(map->log != NULL, 0) && n_bytes)
		map->log->dirty(map->log, start, n_bytes);
}

/**
 * map_find() - the memory behind the first bytes of a guest range
 * @n_bytes:  [in]  how long the range is; 0 is outside
 * @access:   [in]  what the range is for
 * @ret_span: [out] as much of the range as lies in one region: 1 .. n_bytes
 *
 * Errors:  0 | MAP_E_OUTSIDE | MAP_E_LATER, which only a map with a resolver returns.
 * Owner:   the span borrows the mapping until the map changes.
 * Cost:    O(log regions); no allocation.
 */
int map_find(const struct map *map, struct gpa start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span);

/** map_region_at() - all of the region that holds this address; false: there is none. As
 * map_find() */
bool map_region_at(const struct map *map, struct gpa addr, struct map_span *ret_region);

/** map_find_uva() - as map_find() for an address of the VMM's; all of the range, which lies in one
 * region.
 * Cost: O(regions) */
int map_find_uva(const struct map *map, struct uva start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span);

/** map_gpa() - all of a range that lies in one region, or NULL; no resolver is asked */
void *map_gpa(const struct map *map, struct gpa start, uint64_t n_bytes);

/** map_install_sigbus() - once for each process that maps guest memory: a region whose file shrank
 * becomes zeros and poisoned, instead of a crash. A SIGBUS elsewhere still ends the process. 0 |
 * negative errno */
int map_install_sigbus(void);
