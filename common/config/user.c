/*
 * FNV-1a of the two names, mixed and reduced to the range. With 1,000 guests of four processes
 * each, the probability of any collision is 3 %. The generator reads all files, detects a
 * collision, and does not serve the second of the two guests.
 */
#include "config/user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define FNV_START UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t add(uint64_t hash, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (uint8_t)text[i]) * FNV_PRIME;
	return hash;
}

/* FNV-1a alone maps names that differ only in their last character to close numbers. */
static uint64_t mix(uint64_t hash)
{
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return hash ^ (hash >> 33);
}

uid_t user_of(const char *guest, const char *peer)
{
	uint64_t hash = add(FNV_START, guest, strlen(guest) + 1);

	hash = mix(add(hash, peer, strcspn(peer, "+")));
	return USER_FIRST + (uid_t)(hash >> (64 - USER_BITS));
}

bool user_next(const struct config *config, struct process *process)
{
	bool any = process_next(config, process);

	return any && process->second ? process_next(config, process) : any;
}

/* --- Collisions --- */

/* The entry of that user, or the free entry where it would go. */
static struct user *look_up(const struct users *users, uid_t id)
{
	size_t i = id & (users->n_room - 1);

	while (users->list[i].id && users->list[i].id != id)
		i = (i + 1) & (users->n_room - 1);
	return &users->list[i];
}

static void make_room(struct users *users, size_t n)
{
	struct users larger = { .n = users->n, .n_room = users->n_room ?: 256 };

	if (2 * (users->n + n) <= users->n_room)
		return;
	while (larger.n_room < 4 * (users->n + n))
		larger.n_room *= 2;
	larger.list = calloc(larger.n_room, sizeof(*larger.list));
	check(larger.list);
	for (size_t i = 0; i < users->n_room; i++)
		if (users->list[i].id)
			*look_up(&larger, users->list[i].id) = users->list[i];
	free(users->list);
	*users = larger;
}

/* A name with the lifetime of the config. */
static const char *name_of(const struct process *process)
{
	return process->device ? process->device->name : process->role->name;
}

/* An earlier process of the guest with the same user; NULL = none. */
static const char *same_in_guest(const struct config *config, const struct process *process)
{
	uid_t id = user_of(config->guest, process->peer);

	for (struct process other = { 0 }; user_next(config, &other);) {
		if (strcmp(other.peer, process->peer) == 0)
			return NULL;
		if (user_of(config->guest, other.peer) == id)
			return name_of(&other);
	}
	return NULL;
}

int users_add(struct users *users, const struct config *config, const char **ret_own,
	const char **ret_other)
{
	make_room(users, ROLES_PER_GUEST + config->n_devices);
	for (struct process process = { 0 }; user_next(config, &process);) {
		const struct user *other = look_up(users, user_of(config->guest, process.peer));

		*ret_own = name_of(&process);
		*ret_other = other->id ? other->name : same_in_guest(config, &process);
		if (*ret_other)
			return -EEXIST;
	}
	for (struct process process = { 0 }; user_next(config, &process);) {
		struct user *user = look_up(users, user_of(config->guest, process.peer));

		user->id = user_of(config->guest, process.peer);
		snprintf(user->name, sizeof(user->name), "%s:%s", config->guest, process.peer);
		users->n++;
	}
	return 0;
}

void users_deinit(struct users *users)
{
	free(users->list);
	*users = (struct users){ 0 };
}
