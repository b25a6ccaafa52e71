#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record/tokens.h"

/*
 * The vault: descriptors that must outlive whoever handed them over. Those of the VMM lie under tokens,
 * those that a worker keeps for its successor under names. All of them are in the fd store as well.
 * Everything belongs to one device, and only that device's worker, and the frontend, may have it.
 */

struct vault;

#define VAULT_FILES_MAX 1342 /* kick, call and err of 256 rings, 509 regions, an in-flight region, 64 on their way */
#define VAULT_WORKER_FILES_MAX 1024 /* what a worker deposits, or names of the VMM's */
#define VAULT_NAMED_MAX 1024 /* what a worker keeps under names */

int vault_open(struct vault **ret_vault, const char *device);
struct vault *vault_close(struct vault *vault);

/** vault_restore() - take back what the worker of this device kept, and the files of all devices */
void vault_restore(struct vault *vault);

/** vault_adopt() - of the files that were taken back, have those that the record names */
void vault_adopt(struct vault *vault, const Bh__Desired *desired, const Bh__Observed *observed);

/**
 * vault_leave_room() - for how many more descriptors than now there is room in all vaults together
 *
 * Each device is left room for the few that one of a ring or two needs, whatever the others have.
 */
void vault_leave_room(size_t n);

/**
 * vault_put() - a descriptor (consumed always) that a half of the record is going to name
 * @half:      of the VMM's (RECORD_DESIRED), or the worker's own (RECORD_OBSERVED)
 * @ret_token: [out] that of the same open file, if it is there already
 *
 * Errors: 0 | -EDQUOT: that half has as many as it may have (VAULT_FILES_MAX, VAULT_WORKER_FILES_MAX) | -EMFILE: the
 *         budget of all is used up | -ENOSPC: the fd store is full | -ENOMEM.
 */
int vault_put(struct vault *vault, enum record_half half, int fd, uint64_t *ret_token);

/** vault_get() - borrowed; -ENOENT */
int vault_get(const struct vault *vault, uint64_t token);

/** vault_committed() - this is in force: close what neither half names, and the VMM's that waited for it in vain */
void vault_committed(struct vault *vault, const Bh__Desired *desired);

/** vault_reported() - the worker has said this: close what neither half names any more. What the worker has deposited
 * and not named yet stays: reports may overtake each other. */
void vault_reported(struct vault *vault, const Bh__Observed *observed);

/** vault_abandoned() - no worker is left that could name what was deposited and not named yet */
void vault_abandoned(struct vault *vault);

/** vault_keep_named() - under a name (consumed always), replacing what it held
 * Errors: 0 | -EINVAL bad name | -ENOSPC: so many can be kept, and no more | -EMFILE: as above | -ENOMEM. */
int vault_keep_named(struct vault *vault, const char *name, int fd);
void vault_drop_named(struct vault *vault, const char *name);

/** vault_named_after() - the kept descriptor, borrowed, whose name comes next; -1 behind the last
 * @name: [in] "" = the first
 * Cost:  O(log n) */
int vault_named_after(const struct vault *vault, const char *name, const char **ret_name);

/** vault_count() - descriptors of both kinds */
size_t vault_count(const struct vault *vault);
