/*
 * A token is a number that was never used before: it begins at a random point, so that a memory process that
 * lost everything does not give old numbers a new meaning. It stands for the open file, not for the act
 * of handing it over: who hands over the same again gets the same token.
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

static struct file *find(int fd)
{
	for (size_t i = 0; i < files.n; i++)
		if (file_same(files.list[i]->fd, fd))
			return files.list[i];
	return NULL;
}

/* The descriptor is the file's, or closed. */
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
		*file = (struct file){ .token = token, .fd = fd, .stored_name = strdup(stored_name) };
	if (!file || !file->stored_name || files.n == files.n_room) {
		free(file ? file->stored_name : NULL);
		free(file);
		fd_close(fd);
		return NULL;
	}
	files.list[files.n++] = file;
	return file;
}

static uint64_t new_token(void)
{
	if (files.next_token == 0) {
		check(getrandom(&files.next_token, sizeof(files.next_token), 0) == sizeof(files.next_token));
		files.next_token >>= 1;
	}
	return ++files.next_token;
}

static void drop(size_t i, bool stored)
{
	struct file *file = files.list[i];

	if (stored)
		(void)fdstore_remove(file->stored_name);
	fd_close(file->fd);
	free(file->stored_name);
	free(file);
	files.list[i] = files.list[--files.n];
}

struct file *files_put(const char *device, int fd)
{
	struct file *file = find(fd);
	char name[128];

	if (file) {
		fd_close(fd);
	} else {
		uint64_t token = new_token();

		snprintf(name, sizeof(name), PREFIX "%s.%0*llx", device, TOKEN_DIGITS,
			(unsigned long long)token);
		file = add(token, fd, name);
		if (!file)
			return NULL;
		if (fdstore_push(name, fd) == -ENOSPC) {
			drop(files.n - 1, false);
			return NULL;
		}
	}
	file->n_users++;
	return file;
}

struct file *files_use(uint64_t token)
{
	for (size_t i = 0; i < files.n; i++) {
		if (files.list[i]->token != token)
			continue;
		files.list[i]->n_users++;
		return files.list[i];
	}
	return NULL;
}

void files_release(struct file *file)
{
	size_t i = 0;

	check(file->n_users);
	if (--file->n_users)
		return;
	while (files.list[i] != file)
		i++;
	drop(i, true);
}

void files_restore(void)
{
	const char *name;
	int at = 0;

	if (files.restored)
		return;
	files.restored = true;
	while ((name = fdstore_next(PREFIX, &at))) {
		size_t len = strlen(name);
		uint64_t token = len > TOKEN_DIGITS ? strtoull(name + len - TOKEN_DIGITS, NULL, 16) : 0;

		(void)add(token, fdstore_take(name), name);
		files.next_token = MAX(files.next_token, token);
	}
}

void files_settle(void)
{
	for (size_t i = files.n; i-- > 0;)
		if (files.list[i]->n_users == 0)
			drop(i, true);
}
