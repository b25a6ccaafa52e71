#pragma once

#include <sys/types.h>

#include "config/config.h"
#include "config/roles.h"

/*
 * Each process of each guest runs as its own user, so that a compromised one reaches neither other
 * guests nor its neighbours. The user ID is computed from the names of guest and process: nothing
 * is allocated or stored, and generator, launcher, units and programs agree without communication.
 * systemd's DynamicUser= is unsuitable: its range has 4,336 users, fewer than 1,000 guests need,
 * and the owner of a TAP must be known before the process runs.
 */

/* 2^28 IDs that neither Debian's adduser and subuid nor systemd's dynamic and container users
 * use. */
#define USER_FIRST UINT32_C(0x70000000)
#define USER_BITS 28

/**
 * user_of() - the user ID of a guest's process, and its group ID, which is the same number
 * @peer: "memory", "frontend", or the name of a device, with or without "+standby": both instances
 *        of a pair are one user, because they share all they hold
 *
 * Shape: the same names give the same number on every host and in every release.
 * Range: USER_FIRST .. USER_FIRST + 2^USER_BITS - 1.
 */
uid_t user_of(const char *guest, const char *peer);

/** user_next() - as process_next(), but one process per user: the second instance of a pair is
 * skipped, because it runs as the same user as the first */
bool user_next(const struct config *config, struct process *process);

/** struct users - the users in use, for code that reads the files of many guests */
struct users {
	struct user {
		uid_t id;
		char name[2 * CONFIG_NAME_MAX + 2]; /* GUEST:PEER */
	} * list;
	size_t n, n_room;
};

/**
 * users_add() - add the users of one more guest
 * @ret_own:   [out] the process of this guest whose user is taken; set on -EEXIST; borrowed from
 *             the config
 * @ret_other: [out] the process that has it: GUEST:PEER of a guest added before, or a process of
 *             this one; borrowed until the next call
 *
 * Errors: 0 | -EEXIST two processes would be one user: this guest must not be served, and nothing
 *         is added.
 * Cost:   O(1) for each process on average (open addressing).
 */
int users_add(struct users *users, const struct config *config, const char **ret_own,
	const char **ret_other);

/** users_deinit() - remove all users and free the list; the struct is empty afterwards */
void users_deinit(struct users *users);
