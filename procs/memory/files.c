/*
 * A token is a number that was never used before. In each process they begin at another random
 * number: not every token of a former one is known, and a record may still name it. A token stands
 * for the open file: depositing the same file again yields the same token.
 */
#include "files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "fd/fdstore.h"

#define PREFIX "v."
#define TOKEN_DIGITS 16

static struct {
	struct file **list;
	size_t n, n_room;
	uint64_t next_token;
	bool restored;
} files;

/* The file's index in the list, or where it would be inserted. The list is sorted in the kernel's
 * order of open files. */
static size_t place_of(int fd)
{
	size_t low = 0, high = files.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (file_order(files.list[middle]->fd, fd) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct file *find(int fd)
{
	size_t i = place_of(fd);

	return i < files.n && file_same(files.list[i]->fd, fd) ? files.list[i] : NULL;
}

static void insert(struct file *file)
{
	size_t i = place_of(file->fd);

	memmove(&files.list[i + 1], &files.list[i], (files.n - i) * sizeof(files.list[0]));
	files.list[i] = file;
	files.n++;
}

/* The descriptor is consumed: on failure it is closed. */
static struct file *add(uint64_t token, int fd, const char *stored_name)
{
	struct file *file = calloc(1, sizeof(*file));
	size_t room = files.n_room ? 2 * files.n_room : 16;

	if (files.n == files.n_room) {
		struct file **list = reallocarray(files.list, room, sizeof(struct file *));

		if (list) {
			files.list = list;
			files.n_room = room;
		}
	}
	if (file)
		*file = (struct file){
			.token = token, .fd = fd, .stored_name = strdup(stored_name)
		};
	if (!file || !file->stored_name || files.n == files.n_room) {
		free(file ? file->stored_name : NULL);
		free(file);
		fd_close(fd);
		return NULL;
	}
	insert(file);
	return file;
}

static struct file *find_token(uint64_t token)
{
	for (size_t i = 0; i < files.n; i++)
		if (files.list[i]->token == token)
			return files.list[i];
	return NULL;
}

static struct file *find_stored(const char *stored_name)
{
	for (size_t i = 0; i < files.n; i++)
		if (strcmp(files.list[i]->stored_name, stored_name) == 0)
			return files.list[i];
	return NULL;
}

static uint64_t new_token(void)
{
	if (files.next_token == 0) {
		check(getrandom(&files.next_token, sizeof(files.next_token), 0) ==
			sizeof(files.next_token));
		files.next_token >>= 1;
	}
	do
		files.next_token++;
	while (find_token(files.next_token));
	return files.next_token;
}

static void drop(struct file *file, bool stored)
{
	size_t i = 0;

	while (files.list[i] != file)
		i++;

	if (stored)
		(void)fdstore_remove(file->stored_name);
	fd_close(file->fd);
	free(file->stored_name);
	free(file);
	memmove(&files.list[i], &files.list[i + 1], (--files.n - i) * sizeof(files.list[0]));
}

static int put_new(struct file **ret_file, const char *device, const char *stored_name, int fd)
{
	uint64_t token = new_token();
	struct file *file;
	char name[128];

	if (stored_name && !find_stored(stored_name))
		snprintf(name, sizeof(name), "%s", stored_name);
	else
		snprintf(name, sizeof(name), PREFIX "%s.%0*llx", device, TOKEN_DIGITS,
			(unsigned long long)token);
	file = add(token, fd, name);
	if (!file)
		return -ENOMEM;
	if (fdstore_push(name, fd) == -ENOSPC) {
		drop(file, false);
		return -ENOSPC;
	}
	*ret_file = file;
	return 0;
}

int files_put(struct file **ret_file, const char *device, const char *stored_name, int fd)
{
	struct file *file = find(fd);
	int r = 0;

	if (file)
		fd_close(fd);
	else
		r = put_new(&file, device, stored_name, fd);
	if (r < 0)
		return r;
	file->n_users++;
	*ret_file = file;
	return 0;
}

const struct file *files_find(int fd)
{
	return find(fd);
}

size_t files_count(void)
{
	return files.n;
}

struct file *files_use(uint64_t token)
{
	struct file *file = find_token(token);

	if (file)
		file->n_users++;
	return file;
}

struct file *files_use_stored(const char *stored_name)
{
	struct file *file = find_stored(stored_name);
	int fd = file ? -1 : fdstore_take(stored_name);

	if (fd >= 0)
		file = add(new_token(), fd, stored_name);
	if (file)
		file->n_users++;
	return file;
}

void files_release(struct file *file)
{
	check(file->n_users);
	if (--file->n_users == 0)
		drop(file, true);
}

/* "v.DEVICE.0123456789abcdef"; 0: this is not a name of ours. The upper half is refused, so that
 * tokens cannot run out. */
static uint64_t token_of(const char *name)
{
	size_t len = strlen(name);
	const char *digits = name + len - TOKEN_DIGITS;
	uint64_t token;

	if (len <= strlen(PREFIX) + TOKEN_DIGITS || digits[-1] != '.' ||
		strspn(digits, "0123456789abcdef") != TOKEN_DIGITS)
		return 0;
	token = strtoull(digits, NULL, 16);
	return token > INT64_MAX ? 0 : token;
}

void files_restore(void)
{
	const char *name;
	int at = 0;

	if (files.restored)
		return;
	files.restored = true;
	while ((name = fdstore_next(PREFIX, &at))) {
		uint64_t token = token_of(name);

		if (token == 0 || find_token(token))
			continue; /* fdstore_drop_rest() drops what nobody takes */
		(void)add(token, fdstore_take(name), name);
	}
}

void files_settle(void)
{
	for (size_t i = files.n; i-- > 0;)
		if (files.list[i]->n_users == 0)
			drop(files.list[i], true);
}
