#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record/tokens.h"

/*
 * The vault of one device holds descriptors that must outlive the process that handed them over.
 * Those that the record names lie under tokens, those that a worker keeps for its successor under
 * names. All of them are in the fd store as well. Only the worker of the device and the frontend
 * get them back.
 *
 * All functions are called from the event loop.
 */

struct vault;

/* kick, call and err of 256 rings, 509 regions, an in-flight region, a dirty log, 63 on their
 * way */
#define VAULT_FILES_MAX 1342
#define VAULT_WORKER_FILES_MAX 1024 /* what a worker deposits, or names of the VMM's */
#define VAULT_NAMED_MAX 1024        /* what a worker keeps under names */

/** vault_open() - an empty vault for the device of that name (copied); 0 | -ENOMEM */
int vault_open(struct vault **ret_vault, const char *device);

/** vault_close() - free it. Descriptors under names are closed; files stay open, and everything
 * stays in the fd store. NULL is fine; returns NULL */
struct vault *vault_close(struct vault *vault);

/** vault_restore() - take from the fd store what the worker of this device kept under names. The
 * first call for any device takes the files of all devices as well, for vault_adopt() */
void vault_restore(struct vault *vault);

/** vault_adopt() - of the files taken from the fd store, take those that the record names; tokens
 * of files that are not there are ignored */
void vault_adopt(struct vault *vault, const Bh__Desired *desired, const Bh__Observed *observed);

/**
 * vault_leave_room() - limit the descriptors in all vaults together to n more than there are now
 *
 * Each device can always have the few that a device with one or two rings needs, whatever the
 * others have.
 */
void vault_leave_room(size_t n);

/**
 * vault_put() - a descriptor (consumed always) that a half of the record is going to name
 * @half:      of the VMM's (RECORD_DESIRED), or the worker's own (RECORD_OBSERVED)
 * @ret_token: [out] that of the same open file, if it is there already
 *
 * Errors: 0 | -EDQUOT: that half has as many as it may have (VAULT_FILES_MAX,
 *         VAULT_WORKER_FILES_MAX) | -EMFILE: the budget of all is used up | -ENOSPC: the fd store
 *         is full | -ENOMEM.
 */
int vault_put(struct vault *vault, enum record_half half, int fd, uint64_t *ret_token);

/** vault_get() - the descriptor under a token, borrowed | -ENOENT; O(files of the device) */
int vault_get(const struct vault *vault, uint64_t token);

/** vault_committed() - the frontend's half is now this one: what the frontend deposited and did not
 * name is dropped, and so is what neither half names any more */
void vault_committed(struct vault *vault, const Bh__Desired *desired);

/** vault_reported() - the worker's half is now this one: what neither half names any more is
 * dropped. What the worker deposited and has not named yet stays, because a report can be overtaken
 * by a later one */
void vault_reported(struct vault *vault, const Bh__Observed *observed);

/** vault_abandoned() - no instance of the worker is attached any more: what was deposited for a
 * report that never came is dropped */
void vault_abandoned(struct vault *vault);

/** vault_keep_named() - keep a descriptor (consumed always) under a name, in the place of what was
 * kept under it
 * Errors: 0 | -EINVAL bad name | -ENOSPC: so many can be kept, and no more | -EMFILE: as above |
 *         -ENOMEM. */
int vault_keep_named(struct vault *vault, const char *name, int fd);

/** vault_drop_named() - close what is kept under that name, and take it out of the fd store;
 * harmless if there is none */
void vault_drop_named(struct vault *vault, const char *name);

/** vault_named_after() - iterate over the kept descriptors in the order of their names
 * @name: [in] where to go on; "" = at the first
 * Returns: the descriptor, borrowed, and its name in ret_name | -1 after the last. Cost: O(log
 * n). */
int vault_named_after(const struct vault *vault, const char *name, const char **ret_name);

/** vault_count() - how many descriptors are held, under tokens and names together */
size_t vault_count(const struct vault *vault);
