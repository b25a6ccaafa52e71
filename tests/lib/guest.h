#ifndef TESTS_LIB_GUEST_H
#define TESTS_LIB_GUEST_H

/*
 * Guest memory for tests: regions, each in its own memfd, at any guest address, user address and
 * file offset. To the back-end, the user address is only a number; the region is mapped elsewhere.
 *
 * Every allocation is surrounded by red zones; guest_check() tells whether they were written to.
 */

#include <stddef.h>
#include <stdint.h>

#include "vu.h"

#define GUEST_MAX_REGIONS 8
#define GUEST_RED_BYTES 64
#define GUEST_RED 0xd7

struct guest_region {
	struct vu_region at; /* as told to the back-end */
	int fd;              /* memfd of offset + size bytes; owned */
	uint8_t *map;        /* first byte of the region, not of the file */
	size_t map_bytes;
	uint64_t next; /* allocator: first free byte, from the region's start */
};

struct guest {
	struct guest_region regions[GUEST_MAX_REGIONS];
	size_t n_regions;
	uint64_t *reds; /* guest addresses of the red zones */
	size_t n_reds;
	struct vu_region kept[16]; /* gpa and size: never allocated by guest_alloc() */
	size_t n_kept;
};

/* All return 0 or a negative errno unless stated otherwise. */

void guest_init(struct guest *g);
void guest_deinit(struct guest *g);
int guest_add_region(struct guest *g, const struct vu_region *at);
/* as guest_add_region(), for an existing file; owns fd on success */
int guest_adopt_region(struct guest *g, const struct vu_region *at, int fd);
/* one region of n_bytes at gpa 0, with a user address like QEMU's */
int guest_init_plain(struct guest *g, uint64_t n_bytes);
int guest_remove_region(struct guest *g, uint64_t gpa);

/* a range that guest_alloc() must not use (for rings at fixed addresses) */
void guest_keep(struct guest *g, uint64_t gpa, uint64_t n_bytes);
/* guest address of zeroed memory with red zones around it; 0 if there is no room */
uint64_t guest_alloc(struct guest *g, uint64_t n_bytes, uint64_t align);
uint64_t guest_alloc_in(struct guest *g, size_t region, uint64_t n_bytes, uint64_t align);

/* NULL unless the whole range is in one region */
void *guest_at(const struct guest *g, uint64_t gpa, uint64_t n_bytes);
/* UINT64_MAX if unknown */
uint64_t guest_to_uva(const struct guest *g, uint64_t gpa);
uint64_t guest_from_uva(const struct guest *g, uint64_t uva);

/* 0, or -EBADMSG with the guest address of the first byte written in a red zone */
int guest_check(const struct guest *g, uint64_t *ret_gpa);

/* for SET_MEM_TABLE: fills arrays of GUEST_MAX_REGIONS, returns the number */
size_t guest_table(const struct guest *g, struct vu_region *ret_regions, int *ret_fds);

#endif
