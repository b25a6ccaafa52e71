#pragma once

#include <sys/types.h>

#include "config/config.h"
#include "config/roles.h"

/*
 * Each process of each guest has a user of its own, so that one which was taken over reaches
 * neither another guest nor its neighbours. The user is a number computed from the names of guest
 * and process: nothing is allocated, nothing has to be kept, and generator, launcher, units and
 * programs agree without asking. systemd's DynamicUser= would not do: its range ends at 4,336
 * users, fewer than 1,000 guests need, and the owner of a TAP must be known before the process
 * runs.
 */

/* 2^28 numbers that neither Debian's adduser and subuid nor systemd's dynamic and container users
 * touch. */
#define USER_FIRST UINT32_C(0x70000000)
#define USER_BITS 28

/**
 * user_of() - the user, and the group of the same number, of a guest's process
 * @peer: "memory", "frontend", or the name of a device, with or without "+standby": of a pair both
 *        instances are one user, since they share all that they hold
 *
 * Shape: the same names give the same number on every host and in every release.
 * Range: USER_FIRST .. USER_FIRST + 2^USER_BITS - 1.
 */
uid_t user_of(const char *guest, const char *peer);

/** user_next() - iterate as process_next() does, but over one process per user: the second instance
 * of a pair is skipped, since it runs as the same user as the first */
bool user_next(const struct config *config, struct process *process);

/** struct users - who has which user already; for whoever sees the files of many guests */
struct users {
	struct user {
		uid_t id;
		char name[2 * CONFIG_NAME_MAX + 2]; /* GUEST:PEER */
	} * list;
	size_t n, n_room;
};

/**
 * users_add() - note the users of one more guest
 * @ret_own:   [out] the process of this guest that has another's user; set on -EEXIST; borrowed
 *                   from the config
 * @ret_other: [out] that other: GUEST:PEER of a guest noted before, or a process of this one;
 *             borrowed until the next call
 *
 * Errors: 0 | -EEXIST two processes would be one user: this guest must not be served, and nothing
 *         is noted.
 * Cost:   O(1) for each process on average (open addressing).
 */
int users_add(struct users *users, const struct config *config, const char **ret_own,
	const char **ret_other);

/** users_deinit() - forget all users and free the list; the struct is empty afterwards */
void users_deinit(struct users *users);
