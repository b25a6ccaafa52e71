#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * The vault: descriptors that must outlive whoever handed them over. Those of the VMM lie under tokens,
 * those that a worker keeps for its successor under names. All of them are in the fd store as well.
 * Everything belongs to one device, and only that device's worker, and the frontend, may have it.
 */

struct vault;

#define VAULT_FILES_MAX 1342 /* kick, call and err of 256 rings, 509 regions, an in-flight region, 64 on their way */

int vault_open(struct vault **ret_vault, const char *device);
struct vault *vault_close(struct vault *vault);

/** vault_restore() - take back what the worker of this device kept, and the files of all devices */
void vault_restore(struct vault *vault);

/** vault_adopt() - of the files that were taken back, have those that the record names */
void vault_adopt(struct vault *vault, const Bh__Desired *desired);

/**
 * vault_leave_room() - for how many more descriptors than now there is room in all vaults together
 *
 * Each device is left room for the few that one of a ring or two needs, whatever the others have.
 */
void vault_leave_room(size_t n);

/**
 * vault_put() - a VMM's descriptor (consumed always)
 * @ret_token: [out] that of the same open file, if it is there already
 *
 * Errors: 0 | -EDQUOT: the device has as many as one may have (VAULT_FILES_MAX) | -EMFILE: the budget of all is used up
 *         | -ENOSPC: the fd store is full | -ENOMEM.
 */
int vault_put(struct vault *vault, int fd, uint64_t *ret_token);

/** vault_get() - borrowed; -ENOENT */
int vault_get(const struct vault *vault, uint64_t token);

/** vault_collect() - close every token that the record does not name */
void vault_collect(struct vault *vault, const Bh__Desired *desired);

/** vault_keep_named() - under a name (consumed always), replacing what it held
 * Errors: 0 | -EINVAL bad name | -ENOSPC: so many can be kept, and no more | -EMFILE: as above | -ENOMEM. */
int vault_keep_named(struct vault *vault, const char *name, int fd);
void vault_drop_named(struct vault *vault, const char *name);

/** vault_named() - the i-th kept descriptor, borrowed, and its name; -1 past the end */
int vault_named(const struct vault *vault, size_t i, const char **ret_name);

/** vault_count() - descriptors of both kinds */
size_t vault_count(const struct vault *vault);
