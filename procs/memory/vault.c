/* What one device has of the files of the VMM, by token, and what its worker keeps, by name. */
#include "vault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "config/config.h"
#include "fd/fdstore.h"
#include "files.h"

#define NAMED_MAX 60 /* an answer to Attach carries them all */
#define FLOOR 32     /* that each device may have, whatever the others do */

struct named {
	char *name;
	int fd;
};

struct vault {
	char *device;
	struct file **files; /* each once */
	size_t n_files, n_room;
	struct named named[NAMED_MAX];
	size_t n_named;
	LIST_ENTRY(vault) others;
};

static LIST_HEAD(vault_list, vault) vaults = LIST_HEAD_INITIALIZER(vaults);
static size_t budget = SIZE_MAX;

/* A dot ends the device's name: one in it is written as what no name has, or "a" would find what "a.b" keeps. */
static void kept_name(const struct vault *vault, const char *name, char *buf, size_t n)
{
	size_t dot = strlen("k.") + strlen(vault->device);

	snprintf(buf, n, "k.%s.%s", vault->device, name);
	for (size_t i = strlen("k."); i < MIN(dot, n); i++)
		if (buf[i] == '.')
			buf[i] = '/';
}

int vault_open(struct vault **ret_vault, const char *device)
{
	struct vault *vault = calloc(1, sizeof(*vault));

	if (!vault)
		return -ENOMEM;
	vault->device = strdup(device);
	if (!vault->device) {
		free(vault);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&vaults, vault, others);
	*ret_vault = vault;
	return 0;
}

struct vault *vault_close(struct vault *vault)
{
	if (!vault)
		return NULL;
	LIST_REMOVE(vault, others);
	for (size_t i = 0; i < vault->n_named; i++) {
		fd_close(vault->named[i].fd);
		free(vault->named[i].name);
	}
	free(vault->files); /* the files go with the process: their names must stay in the fd store */
	free(vault->device);
	free(vault);
	return NULL;
}

static struct file *find_file(const struct vault *vault, uint64_t token)
{
	for (size_t i = 0; i < vault->n_files; i++)
		if (vault->files[i]->token == token)
			return vault->files[i];
	return NULL;
}

/* The use that was taken is the vault's, or given back: of each file it has one. */
static bool append(struct vault *vault, struct file *file)
{
	size_t room = vault->n_room ? 2 * vault->n_room : 16;

	if (find_file(vault, file->token)) {
		files_release(file);
		return true;
	}
	if (vault->n_files == vault->n_room) {
		struct file **list = reallocarray(vault->files, room, sizeof(struct file *));

		if (!list) {
			files_release(file);
			return false;
		}
		vault->files = list;
		vault->n_room = room;
	}
	vault->files[vault->n_files++] = file;
	return true;
}

/* --- Budget --- */

/* Files that several devices share are counted once. */
static size_t count_all(void)
{
	const struct vault *vault;
	size_t n = files_count();

	LIST_FOREACH(vault, &vaults, others)
		n += vault->n_named;
	return n;
}

void vault_leave_room(size_t n)
{
	budget = count_all() + n;
}

static bool has_room(const struct vault *vault)
{
	size_t n = count_all();

	for (const struct vault *other = LIST_FIRST(&vaults); other; other = LIST_NEXT(other, others)) {
		size_t has = vault_count(other);

		if (other != vault && has < FLOOR)
			n += FLOOR - has;
	}
	return n < budget || vault_count(vault) < FLOOR;
}

int vault_put(struct vault *vault, int fd, uint64_t *ret_token)
{
	const struct file *known = files_find(fd);
	struct file *file;
	int r = 0;

	if (vault->n_files >= VAULT_FILES_MAX && !(known && find_file(vault, known->token)))
		r = -EDQUOT;
	else if (!known && !has_room(vault))
		r = -EMFILE;
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	r = files_put(&file, vault->device, fd);
	if (r < 0)
		return r;
	*ret_token = file->token;
	return append(vault, file) ? 0 : -ENOMEM;
}

int vault_get(const struct vault *vault, uint64_t token)
{
	const struct file *file = find_file(vault, token);

	return file ? file->fd : -ENOENT;
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
	for (size_t i = vault->n_files; i-- > 0;) {
		if (is_named_by(desired, vault->files[i]->token))
			continue;
		files_release(vault->files[i]);
		vault->files[i] = vault->files[--vault->n_files];
	}
}

static void adopt(struct vault *vault, uint64_t token)
{
	struct file *file = token ? files_use(token) : NULL;

	if (file)
		(void)append(vault, file);
}

void vault_adopt(struct vault *vault, const Bh__Desired *desired)
{
	adopt(vault, desired->backend_req_token);
	if (desired->inflight)
		adopt(vault, desired->inflight->token);
	for (size_t i = 0; i < desired->n_regions; i++)
		adopt(vault, desired->regions[i]->token);
	for (size_t i = 0; i < desired->n_rings; i++) {
		adopt(vault, desired->rings[i]->kick_token);
		adopt(vault, desired->rings[i]->call_token);
		adopt(vault, desired->rings[i]->err_token);
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

	if (!copy || vault->n_named == NAMED_MAX || !has_room(vault)) {
		fd_close(fd);
		free(copy);
		return !copy ? -ENOMEM : vault->n_named == NAMED_MAX ? -ENOSPC : -EMFILE;
	}
	vault->named[vault->n_named++] = (struct named){ .name = copy, .fd = fd };
	return 0;
}

int vault_keep_named(struct vault *vault, const char *name, int fd)
{
	const struct named *named = find_named(vault, name);
	char stored[128];
	int r;

	if (!config_check_name(name)) {
		fd_close(fd);
		return -EINVAL;
	}
	/* to put it away anew would leave it unkept for a moment */
	if (named && file_same(named->fd, fd)) {
		fd_close(fd);
		return 0;
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
	return vault->n_files + vault->n_named;
}

void vault_restore(struct vault *vault)
{
	char prefix[128];
	const char *name;
	int at = 0;

	files_restore();
	kept_name(vault, "", prefix, sizeof(prefix));
	while ((name = fdstore_next(prefix, &at))) {
		_cleanup_free_ char *copy = strdup(name + strlen(prefix));
		int fd = fdstore_take(name);

		check(copy);
		if (!config_check_name(copy) || find_named(vault, copy))
			fd_close(fd);
		else
			(void)add_named(vault, copy, fd);
	}
}
