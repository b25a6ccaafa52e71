/* A vault refers to the files of files.c, which devices may share. */
#include "vault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/config.h"
#include "fd/fdstore.h"
#include "files.h"
#include "names.h"

#define FLOOR 32 /* descriptors that each device can always have */

/** struct named - a name, and what it stands for */
struct named {
	struct name_row *row;
	struct file *file;
};

_Static_assert(VAULT_NAMED_MAX <= NAMES_MAX, "each has a row");

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
	struct names names;
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
	names_close(&vault->names);
	free(vault->named); /* the files are not released: they must stay in the fd store */
	free(vault->held);
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

void vault_leave_room(size_t n)
{
	budget = files_count() + n;
}

static bool has_room(const struct vault *vault)
{
	size_t n = files_count(); /* one that several share is counted once */

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
	r = files_put(&file, vault->device, NULL, fd);
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

		if (strcmp(vault->named[middle].row->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct named *find_named(struct vault *vault, const char *name)
{
	size_t i = place_of(vault, name);

	return i < vault->n_named && strcmp(vault->named[i].row->name, name) == 0 ? &vault->named[i]
										  : NULL;
}

void vault_drop_named(struct vault *vault, const char *name)
{
	struct named *named = find_named(vault, name);

	if (!named)
		return;
	names_clear(named->row);
	files_release(named->file);
	vault->n_named--;
	memmove(named, named + 1, (size_t)(vault->named + vault->n_named - named) * sizeof(*named));
}

/* There is a table, and room for one more name. */
static int prepare_named(struct vault *vault)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (vault->n_named == VAULT_NAMED_MAX)
		return -ENOSPC;
	if (!grow((void **)&vault->named, vault->n_named, &vault->n_named_room,
		    sizeof(*vault->named)))
		return -ENOMEM;
	if (vault->names.rows)
		return 0;
	r = names_create(&vault->names, &fd);
	if (r == 0)
		r = names_store(vault->device, fd);
	if (r < 0)
		names_close(&vault->names);
	return r;
}

/* Takes over one use of the file. */
static void insert_named(struct vault *vault, struct name_row *row, struct file *file)
{
	size_t i = place_of(vault, row->name);

	memmove(&vault->named[i + 1], &vault->named[i],
		(vault->n_named - i) * sizeof(*vault->named));
	vault->named[i] = (struct named){ .row = row, .file = file };
	vault->n_named++;
}

/* The new file is stored before the name stands for it, and the former one is removed after
 * that. */
static int set_named(struct vault *vault, struct named *named, const char *name, int fd)
{
	char stored[NAMES_STORED_BYTES];
	struct name_row *row;
	struct file *file;
	int r;

	kept_name(vault, name, stored, sizeof(stored));
	r = files_put(&file, vault->device, stored, fd);
	if (r < 0)
		return r;
	row = names_set(&vault->names, named ? named->row : NULL, name, file->stored_name);
	check(row);
	if (!named) {
		insert_named(vault, row, file);
		return 0;
	}
	files_release(named->file);
	*named = (struct named){ .row = row, .file = file };
	return 0;
}

int vault_keep_named(struct vault *vault, const char *name, int fd)
{
	struct named *named;
	int r = config_check_name(name) ? 0 : -EINVAL;

	if (r == 0 && !files_find(fd) && !has_room(vault))
		r = -EMFILE;
	named = r == 0 ? find_named(vault, name) : NULL;
	if (r == 0 && !named)
		r = prepare_named(vault);
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return set_named(vault, named, name, fd);
}

int vault_named_after(const struct vault *vault, const char *name, const char **ret_name)
{
	size_t i = place_of(vault, name);

	if (i < vault->n_named && strcmp(vault->named[i].row->name, name) == 0)
		i++;
	if (i == vault->n_named)
		return -1;
	*ret_name = vault->named[i].row->name;
	return vault->named[i].file->fd;
}

size_t vault_count(const struct vault *vault)
{
	return vault->n_held + vault->n_named;
}

/* A name whose file could not be stored stands for nothing any more. */
static void restore_row(struct vault *vault, struct name_row *row)
{
	struct file *file = files_use_stored(row->stored);

	if (file &&
		grow((void **)&vault->named, vault->n_named, &vault->n_named_room,
			sizeof(*vault->named)))
		insert_named(vault, row, file);
	else
		names_clear(row);
}

/* A former release has no table: each file is stored under its name. */
static void make_rows(struct vault *vault)
{
	char prefix[NAMES_STORED_BYTES];
	const char *stored;
	int at = 0;

	kept_name(vault, "", prefix, sizeof(prefix));
	while ((stored = fdstore_next(prefix, &at)))
		if (config_check_name(stored + strlen(prefix)))
			(void)names_set(&vault->names, NULL, stored + strlen(prefix), stored);
}

static bool is_of_former_release(const struct vault *vault)
{
	char prefix[NAMES_STORED_BYTES];
	int at = 0;

	kept_name(vault, "", prefix, sizeof(prefix));
	return fdstore_next(prefix, &at) != NULL;
}

/* It is stored when it is whole. */
static void take_over_names(struct vault *vault)
{
	_cleanup_close_ int fd = -1;

	check(names_create(&vault->names, &fd) == 0);
	make_rows(vault);
	(void)names_store(vault->device, fd);
}

void vault_restore(struct vault *vault)
{
	struct name_row *row;
	size_t at = 0;

	files_restore();
	if (!names_open(&vault->names, vault->device) && is_of_former_release(vault))
		take_over_names(vault);
	while ((row = names_next(&vault->names, &at)))
		restore_row(vault, row);
}
