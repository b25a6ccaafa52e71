/* A vault refers to the files of files.c, which devices may share, and owns the descriptors under
 * names. */
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

#define FLOOR 32 /* descriptors that each device can always have */

struct named {
	char *name;
	int fd;
};

/** struct held - a file in the vault, once for each file; it stays while a half of the record has a
 * use for it */
struct held {
	struct file *file;
	/* bits 1 << RECORD_...: deposited for that half, which has not named it yet */
	unsigned int fresh;
	unsigned int named; /* bits 1 << RECORD_...: that half names it */
};

struct vault {
	char *device;
	struct held *held;
	size_t n_held, n_room;
	struct named *named; /* sorted by name */
	size_t n_named, n_named_room;
	LIST_ENTRY(vault) others;
};

static LIST_HEAD(vault_list, vault) vaults = LIST_HEAD_INITIALIZER(vaults);
static size_t budget = SIZE_MAX;

/* A dot ends the device's name. A dot within the name is written as a slash, which no name has;
 * otherwise device "a" would find what "a.b" keeps. */
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
	free(vault->named);
	free(vault->held); /* the files are not released: they must stay in the fd store */
	free(vault->device);
	free(vault);
	return NULL;
}

static struct held *find_held(const struct vault *vault, uint64_t token)
{
	for (size_t i = 0; i < vault->n_held; i++)
		if (vault->held[i].file->token == token)
			return &vault->held[i];
	return NULL;
}

/* Have room for one more entry in a list; false: there is no memory. */
static bool grow(void **list, size_t n, size_t *n_room, size_t n_bytes)
{
	size_t room = *n_room ? 2 * *n_room : 16;
	void *larger;

	if (n < *n_room)
		return true;
	larger = reallocarray(*list, room, n_bytes);
	if (!larger)
		return false;
	*list = larger;
	*n_room = room;
	return true;
}

/* Add a file of which one use was taken. The vault has one use of each file, so another one is
 * given back. NULL: there is no memory. */
static struct held *have(struct vault *vault, struct file *file)
{
	struct held *held = find_held(vault, file->token);

	if (held ||
		!grow((void **)&vault->held, vault->n_held, &vault->n_room, sizeof(*vault->held))) {
		files_release(file);
		return held;
	}
	held = &vault->held[vault->n_held++];
	*held = (struct held){ .file = file };
	return held;
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

	for (const struct vault *other = LIST_FIRST(&vaults); other;
		other = LIST_NEXT(other, others)) {
		size_t has = vault_count(other);

		if (other != vault && has < FLOOR)
			n += FLOOR - has;
	}
	return n < budget || vault_count(vault) < FLOOR;
}

/* --- Files, by token --- */

static unsigned int bit_of(enum record_half half)
{
	return 1u << half;
}

static bool is_full(const struct vault *vault, enum record_half half)
{
	size_t n = 0;

	for (size_t i = 0; i < vault->n_held; i++)
		n += ((vault->held[i].fresh | vault->held[i].named) & bit_of(half)) != 0;
	return n >= (half == RECORD_DESIRED ? VAULT_FILES_MAX : VAULT_WORKER_FILES_MAX);
}

/* Whether the limits allow one more descriptor; a file that is known already counts only where it
 * is new. */
static int judge(const struct vault *vault, enum record_half half, const struct file *known)
{
	const struct held *held = known ? find_held(vault, known->token) : NULL;

	if (!(held && ((held->fresh | held->named) & bit_of(half))) && is_full(vault, half))
		return -EDQUOT;
	return known || has_room(vault) ? 0 : -EMFILE;
}

int vault_put(struct vault *vault, enum record_half half, int fd, uint64_t *ret_token)
{
	struct file *file;
	struct held *held;
	int r = judge(vault, half, files_find(fd));

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	r = files_put(&file, vault->device, fd);
	if (r < 0)
		return r;
	held = have(vault, file);
	if (!held)
		return -ENOMEM;
	held->fresh |= bit_of(half);
	*ret_token = held->file->token;
	return 0;
}

int vault_get(const struct vault *vault, uint64_t token)
{
	const struct held *held = find_held(vault, token);

	return held ? held->file->fd : -ENOENT;
}

static void collect(struct vault *vault)
{
	for (size_t i = vault->n_held; i-- > 0;) {
		if (vault->held[i].fresh | vault->held[i].named)
			continue;
		files_release(vault->held[i].file);
		vault->held[i] = vault->held[--vault->n_held];
	}
}

/* Remove these bits from all files. */
static void clear(struct vault *vault, unsigned int fresh, unsigned int named)
{
	for (size_t i = 0; i < vault->n_held; i++) {
		vault->held[i].fresh &= ~fresh;
		vault->held[i].named &= ~named;
	}
}

static int note_named(void *data, const struct record_token *token)
{
	struct held *held = find_held(data, token->token);

	if (held) {
		held->named |= bit_of(token->half);
		held->fresh &= ~bit_of(token->half);
	}
	return 0;
}

void vault_committed(struct vault *vault, const Bh__Desired *desired)
{
	clear(vault, bit_of(RECORD_DESIRED), bit_of(RECORD_DESIRED));
	(void)record_each_token(desired, NULL, note_named, vault);
	collect(vault);
}

void vault_reported(struct vault *vault, const Bh__Observed *observed)
{
	clear(vault, 0, bit_of(RECORD_OBSERVED));
	(void)record_each_token(NULL, observed, note_named, vault);
	collect(vault);
}

void vault_abandoned(struct vault *vault)
{
	clear(vault, bit_of(RECORD_OBSERVED), 0);
	collect(vault);
}

static int adopt(void *data, const struct record_token *token)
{
	struct file *file = files_use(token->token);

	if (file && have(data, file))
		return note_named(data, token);
	return 0;
}

void vault_adopt(struct vault *vault, const Bh__Desired *desired, const Bh__Observed *observed)
{
	(void)record_each_token(desired, observed, adopt, vault);
}

/* --- What a worker keeps, by name --- */

/* The index of the name in the list, or where it would be inserted. */
static size_t place_of(const struct vault *vault, const char *name)
{
	size_t low = 0, high = vault->n_named;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(vault->named[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct named *find_named(struct vault *vault, const char *name)
{
	size_t i = place_of(vault, name);

	return i < vault->n_named && strcmp(vault->named[i].name, name) == 0 ? &vault->named[i]
									     : NULL;
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
	vault->n_named--;
	memmove(named, named + 1, (size_t)(vault->named + vault->n_named - named) * sizeof(*named));
}

static int add_named(struct vault *vault, const char *name, int fd)
{
	size_t i = place_of(vault, name);
	int r = vault->n_named == VAULT_NAMED_MAX ? -ENOSPC : has_room(vault) ? 0 : -EMFILE;
	char *copy = r == 0 ? strdup(name) : NULL;

	if (!copy ||
		!grow((void **)&vault->named, vault->n_named, &vault->n_named_room,
			sizeof(*vault->named))) {
		fd_close(fd);
		free(copy);
		return r ?: -ENOMEM;
	}
	memmove(&vault->named[i + 1], &vault->named[i],
		(vault->n_named - i) * sizeof(*vault->named));
	vault->named[i] = (struct named){ .name = copy, .fd = fd };
	vault->n_named++;
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
	/* storing it again would leave it out of the fd store for a moment */
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

int vault_named_after(const struct vault *vault, const char *name, const char **ret_name)
{
	size_t i = place_of(vault, name);

	if (i < vault->n_named && strcmp(vault->named[i].name, name) == 0)
		i++;
	if (i == vault->n_named)
		return -1;
	*ret_name = vault->named[i].name;
	return vault->named[i].fd;
}

size_t vault_count(const struct vault *vault)
{
	return vault->n_held + vault->n_named;
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
