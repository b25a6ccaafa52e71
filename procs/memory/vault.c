/*
 * A token is a number that was never used before for this device: it begins at a random point, so that a
 * memory process that lost everything does not give old numbers a new meaning.
 */
#include "vault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/config.h"
#include "fd/fdstore.h"

#define NAMED_MAX 60 /* an answer to Attach carries them all */

struct entry {
	uint64_t token;
	int fd;
};

struct named {
	char *name;
	int fd;
};

struct vault {
	char *device;
	uint64_t next_token;
	struct entry *entries;
	size_t n_entries, n_room;
	struct named named[NAMED_MAX];
	size_t n_named;
};

static void token_name(const struct vault *vault, uint64_t token, char *buf, size_t n)
{
	snprintf(buf, n, "v.%s.%016llx", vault->device, (unsigned long long)token);
}

static void kept_name(const struct vault *vault, const char *name, char *buf, size_t n)
{
	snprintf(buf, n, "k.%s.%s", vault->device, name);
}

int vault_open(struct vault **ret_vault, const char *device)
{
	struct vault *vault = calloc(1, sizeof(*vault));

	if (!vault)
		return -ENOMEM;
	vault->device = strdup(device);
	if (!vault->device ||
		getrandom(&vault->next_token, sizeof(vault->next_token), 0) != sizeof(vault->next_token)) {
		vault_close(vault);
		return -ENOMEM;
	}
	vault->next_token >>= 1;
	*ret_vault = vault;
	return 0;
}

struct vault *vault_close(struct vault *vault)
{
	if (!vault)
		return NULL;
	for (size_t i = 0; i < vault->n_entries; i++)
		fd_close(vault->entries[i].fd);
	for (size_t i = 0; i < vault->n_named; i++) {
		fd_close(vault->named[i].fd);
		free(vault->named[i].name);
	}
	free(vault->entries);
	free(vault->device);
	free(vault);
	return NULL;
}

static bool append(struct vault *vault, uint64_t token, int fd)
{
	if (vault->n_entries == vault->n_room) {
		size_t room = vault->n_room ? 2 * vault->n_room : 16;
		struct entry *entries = reallocarray(vault->entries, room, sizeof(*entries));

		if (!entries)
			return false;
		vault->entries = entries;
		vault->n_room = room;
	}
	vault->entries[vault->n_entries++] = (struct entry){ .token = token, .fd = fd };
	return true;
}

uint64_t vault_put(struct vault *vault, int fd)
{
	uint64_t token = ++vault->next_token;
	char name[128];

	if (!append(vault, token, fd)) {
		fd_close(fd);
		return 0;
	}
	token_name(vault, token, name, sizeof(name));
	if (fdstore_push(name, fd) == -ENOSPC) {
		fd_close(vault->entries[--vault->n_entries].fd);
		return 0;
	}
	return token;
}

int vault_get(const struct vault *vault, uint64_t token)
{
	for (size_t i = 0; i < vault->n_entries; i++)
		if (vault->entries[i].token == token)
			return vault->entries[i].fd;
	return -ENOENT;
}

static bool is_named_by(const Bh__Desired *desired, uint64_t token)
{
	if (desired->backend_req_token == token || (desired->inflight && desired->inflight->token == token))
		return true;
	for (size_t i = 0; i < desired->n_regions; i++)
		if (desired->regions[i]->token == token)
			return true;
	for (size_t i = 0; i < desired->n_rings; i++) {
		const Bh__Ring *ring = desired->rings[i];

		if (ring->kick_token == token || ring->call_token == token || ring->err_token == token)
			return true;
	}
	return false;
}

void vault_collect(struct vault *vault, const Bh__Desired *desired)
{
	for (size_t i = 0; i < vault->n_entries;) {
		struct entry *entry = &vault->entries[i];
		char name[128];

		if (is_named_by(desired, entry->token)) {
			i++;
			continue;
		}
		token_name(vault, entry->token, name, sizeof(name));
		(void)fdstore_remove(name);
		fd_close(entry->fd);
		*entry = vault->entries[--vault->n_entries];
	}
}

static struct named *find_named(struct vault *vault, const char *name)
{
	for (size_t i = 0; i < vault->n_named; i++)
		if (strcmp(vault->named[i].name, name) == 0)
			return &vault->named[i];
	return NULL;
}

void vault_drop_named(struct vault *vault, const char *name)
{
	struct named *named = find_named(vault, name);
	char stored[128];

	if (!named)
		return;
	kept_name(vault, name, stored, sizeof(stored));
	(void)fdstore_remove(stored);
	fd_close(named->fd);
	free(named->name);
	*named = vault->named[--vault->n_named];
}

static int add_named(struct vault *vault, const char *name, int fd)
{
	char *copy = strdup(name);

	if (!copy || vault->n_named == NAMED_MAX) {
		fd_close(fd);
		free(copy);
		return copy ? -ENOSPC : -ENOMEM;
	}
	vault->named[vault->n_named++] = (struct named){ .name = copy, .fd = fd };
	return 0;
}

int vault_keep_named(struct vault *vault, const char *name, int fd)
{
	char stored[128];
	int r;

	if (!config_check_name(name)) {
		fd_close(fd);
		return -EINVAL;
	}
	vault_drop_named(vault, name);
	r = add_named(vault, name, fd);
	if (r < 0)
		return r;
	kept_name(vault, name, stored, sizeof(stored));
	(void)fdstore_push(stored, fd);
	return 0;
}

int vault_named(const struct vault *vault, size_t i, const char **ret_name)
{
	if (i >= vault->n_named)
		return -1;
	*ret_name = vault->named[i].name;
	return vault->named[i].fd;
}

size_t vault_count(const struct vault *vault)
{
	return vault->n_entries + vault->n_named;
}

static void restore_tokens(struct vault *vault, const char *prefix)
{
	const char *name;

	while ((name = fdstore_next(prefix))) {
		uint64_t token = strtoull(name + strlen(prefix), NULL, 16);
		int fd = fdstore_take(name);

		if (fd < 0 || vault_get(vault, token) >= 0 || !append(vault, token, fd))
			fd_close(fd);
		vault->next_token = MAX(vault->next_token, token);
	}
}

void vault_restore(struct vault *vault)
{
	char prefix[128];
	const char *name;

	token_name(vault, 0, prefix, sizeof(prefix));
	prefix[strlen(prefix) - 16] = '\0';
	restore_tokens(vault, prefix);
	kept_name(vault, "", prefix, sizeof(prefix));
	while ((name = fdstore_next(prefix))) {
		_cleanup_free_ char *copy = strdup(name + strlen(prefix));
		int fd = fdstore_take(name);

		check(copy);
		if (find_named(vault, copy))
			fd_close(fd);
		else
			(void)add_named(vault, copy, fd);
	}
}
