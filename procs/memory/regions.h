#pragma once

#include <stddef.h>

#include "virtio/vhost-user.h"
#include "record.pb-c.h"

/* The rules for memory regions and the files behind them. Nothing is mapped, and nothing is
 * kept. */

/**
 * regions_check_table() - judge the numbers of all regions together
 * @text: [out] the rule that was broken, with the numbers; n_text bytes
 *
 * Rules: at most VHOST_USER_MAX_RAM_SLOTS; no size of 0; no range that wraps, in any of the three
 *        spaces; no overlap in guest-physical addresses, nor in the VMM's.
 * Returns: 0 | 1 refused, and text says why.
 */
int regions_check_table(Bh__Region *const *regions, size_t n, char *text, size_t n_text);

/**
 * regions_check_file() - judge the file behind a region, and seal it against shrinking if that can
 * be
 * @fd:     borrowed
 * @region: sealed is set
 *
 * Rules: a regular file (memfd, hugetlbfs, /dev/shm ...), open for reading and writing, long
 *        enough.
 * Returns: 0 | 1 refused, and text says why.
 */
int regions_check_file(int fd, Bh__Region *region, char *text, size_t n_text);

/**
 * regions_check_log() - judge the file of a dirty log, and seal it against shrinking if that can be
 * @fd: borrowed
 *
 * Rules:   as above; a file that may not be written through mappings is none.
 * Returns: 0 | 1 refused, and text says why.
 */
int regions_check_log(int fd, const Bh__Log *log, char *text, size_t n_text);

/**
 * regions_check_inflight() - judge the file of an in-flight region, and seal it against shrinking
 * @fd: borrowed
 *
 * Rules:   as above; and it must be a memfd that is or can be sealed, and may be written through
 *          mappings.
 * Returns: 0 | 1 refused, and text says why.
 */
int regions_check_inflight(int fd, const Bh__Inflight *inflight, char *text, size_t n_text);
