/*
 * A row counts from the store of its number on. The row of the former file is cleared after that,
 * so a process that dies between the two leaves both, and the later one counts.
 */
#include "names.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "fd/fdstore.h"

#define ROWS (NAMES_MAX + 1)
#define TABLE_BYTES (ROWS * sizeof(struct name_row))
#define NAME_BYTES 64
#define PUT(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

static const char *store_name(const char *device, char *buf)
{
	snprintf(buf, NAME_BYTES, "names.%s", device);
	return buf;
}

static int map(struct names *names, int fd)
{
	void *mem = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		return -errno;
	*names = (struct names){ .rows = mem };
	return 0;
}

/* The writer may have died anywhere. */
static void judge(struct name_row *row)
{
	row->name[sizeof(row->name) - 1] = row->stored[sizeof(row->stored) - 1] = '\0';
	if (row->seq && !config_check_name(row->name))
		names_clear(row);
}

static void clear_double(struct name_row *row, struct name_row *other)
{
	if (row->seq && other->seq && strcmp(row->name, other->name) == 0)
		names_clear(row->seq < other->seq ? row : other);
}

static void settle(struct names *names)
{
	for (size_t i = 0; i < ROWS; i++)
		judge(&names->rows[i]);
	for (size_t i = 0; i < ROWS; i++) {
		names->last_seq = MAX(names->last_seq, names->rows[i].seq);
		for (size_t k = 0; names->rows[i].seq && k < i; k++)
			clear_double(&names->rows[i], &names->rows[k]);
	}
}

bool names_open(struct names *names, const char *device)
{
	char name[NAME_BYTES];
	_cleanup_close_ int fd = fdstore_take(store_name(device, name));
	struct stat st;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) < 0 || st.st_size != (off_t)TABLE_BYTES || map(names, fd) < 0) {
		log_device(LOG_ERR, device,
			"the stored table of names is unusable; its worker starts anew");
		(void)fdstore_remove(name);
		return false;
	}
	settle(names);
	return true;
}

int names_create(struct names *names, int *ret_fd)
{
	_cleanup_close_ int fd = file_sealed("bulkhead-names", TABLE_BYTES);
	int r = fd < 0 ? fd : map(names, fd);

	if (r < 0)
		return r;
	*ret_fd = fd_steal(&fd);
	return 0;
}

int names_store(const char *device, int fd)
{
	char name[NAME_BYTES];

	return fdstore_push(store_name(device, name), fd);
}

void names_close(struct names *names)
{
	if (names->rows)
		(void)munmap(names->rows, TABLE_BYTES);
	*names = (struct names){ 0 };
}

struct name_row *names_next(const struct names *names, size_t *at)
{
	while (names->rows && *at < ROWS) {
		struct name_row *row = &names->rows[(*at)++];

		if (row->seq)
			return row;
	}
	return NULL;
}

static struct name_row *free_row(const struct names *names)
{
	for (size_t i = 0; i < ROWS; i++)
		if (!names->rows[i].seq)
			return &names->rows[i];
	return NULL;
}

struct name_row *names_set(struct names *names, struct name_row *former, const char *name,
	const char *stored)
{
	struct name_row *row = free_row(names);

	check(strlen(name) < sizeof(row->name) && strlen(stored) < sizeof(row->stored));
	if (!row)
		return NULL;
	memset(row, 0, sizeof(*row));
	snprintf(row->name, sizeof(row->name), "%s", name);
	snprintf(row->stored, sizeof(row->stored), "%s", stored);
	PUT(row->seq, ++names->last_seq);
	if (former)
		names_clear(former);
	return row;
}

void names_clear(struct name_row *row)
{
	PUT(row->seq, 0);
}
