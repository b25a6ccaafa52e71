/*
 * Each half has two slots. `current` selects the valid one, and a single store switches it after
 * the other slot is complete: a kill before that store leaves the old half in force. A reader that
 * is overtaken by two writes notices that the slot's generation has changed, and reads again.
 */
#include "record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define MAGIC 0x44524f434548424bULL
#define READ_TRIES 100

struct slot {
	_Atomic uint64_t generation;
	uint32_t n_bytes;
	uint32_t pad;
	uint8_t bytes[RECORD_HALF_MAX];
};

struct half {
	_Atomic uint32_t current; /* the valid slot: 0 or 1 */
	uint32_t pad;
	struct slot slots[2];
};

struct file {
	uint64_t magic;
	struct half halves[_RECORD_HALVES];
};

struct record_file {
	struct file *file;
	bool writable;
};

/* Of the right size, which is sealed, and with the magic number. */
static int make_file(const char *prefix, const char *device)
{
	char name[128];
	_cleanup_close_ int fd = -1;
	const uint64_t magic = MAGIC;

	snprintf(name, sizeof(name), "bulkhead-%s-%s", prefix, device);
	fd = file_fixed(name, sizeof(struct file));
	if (fd < 0)
		return fd;
	if (pwrite(fd, &magic, sizeof(magic), 0) != sizeof(magic))
		return -errno;
	return fd_steal(&fd);
}

int record_create(const char *device)
{
	return make_file("record", device);
}

int record_open(struct record_file **ret_file, int fd)
{
	struct record_file *file;
	struct stat st;
	bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != (off_t)sizeof(struct file))
		return -EBADMSG;
	p = mmap(NULL, sizeof(struct file), writable ? PROT_READ | PROT_WRITE : PROT_READ,
		MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	file = calloc(1, sizeof(*file));
	if (!file || ((struct file *)p)->magic != MAGIC) {
		munmap(p, sizeof(struct file));
		free(file);
		return file ? -EBADMSG : -ENOMEM;
	}
	*file = (struct record_file){ .file = p, .writable = writable };
	*ret_file = file;
	return 0;
}

struct record_file *record_close(struct record_file *file)
{
	if (!file)
		return NULL;
	munmap(file->file, sizeof(struct file));
	free(file);
	return NULL;
}

/* A writable mapping that exists before F_SEAL_FUTURE_WRITE stays writable; there can be no
 * other. */
int record_publish(struct record_file **ret_file, int *ret_fd, const char *device)
{
	_cleanup_close_ int fd = make_file("published", device);
	struct record_file *file = NULL;
	int r = fd < 0 ? fd : record_open(&file, fd);

	if (r == 0)
		r = fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0
			? -errno
			: file_open_again(fd, O_RDONLY);
	if (r < 0) {
		record_close(file);
		return r;
	}
	*ret_file = file;
	*ret_fd = r;
	return 0;
}

uint64_t record_generation(const struct record_file *file, enum record_half half)
{
	struct half *h = &file->file->halves[half];
	uint32_t current = atomic_load_explicit(&h->current, memory_order_acquire) & 1;

	return atomic_load_explicit(&h->slots[current].generation, memory_order_acquire);
}

static int write_half(struct record_file *file, enum record_half half, uint64_t generation,
	const ProtobufCMessage *msg)
{
	struct half *h = &file->file->halves[half];
	size_t n = protobuf_c_message_get_packed_size(msg);
	uint32_t next = !(atomic_load(&h->current) & 1);
	struct slot *slot = &h->slots[next];

	if (!file->writable)
		return -EACCES;
	if (n > RECORD_HALF_MAX)
		return -EMSGSIZE;
	atomic_store_explicit(&slot->generation, 0, memory_order_relaxed);
	/* a reader of this slot that sees a new byte must see the zero generation as well */
	atomic_thread_fence(memory_order_release);
	protobuf_c_message_pack(msg, slot->bytes);
	slot->n_bytes = (uint32_t)n;
	atomic_store(&slot->generation, generation);
	atomic_store(&h->current, next);
	return 0;
}

int record_write_desired(struct record_file *file, const Bh__Desired *desired)
{
	return write_half(file, RECORD_DESIRED, desired->generation, &desired->base);
}

int record_write_observed(struct record_file *file, const Bh__Observed *observed)
{
	return write_half(file, RECORD_OBSERVED, observed->generation, &observed->base);
}

/* Copies the valid slot to buf of RECORD_HALF_MAX bytes, and says its generation. Returns the
 * length | -EBADMSG. */
static ssize_t copy_half(const struct record_file *file, enum record_half half, uint8_t *buf,
	uint64_t *ret_generation)
{
	struct half *h = &file->file->halves[half];

	for (int i = 0; i < READ_TRIES; i++) {
		struct slot *slot = &h->slots[atomic_load(&h->current) & 1];
		uint64_t generation = atomic_load(&slot->generation);
		uint32_t n = slot->n_bytes;

		*ret_generation = generation;
		if (generation == 0 && record_generation(file, half) == 0)
			return 0;
		if (n <= RECORD_HALF_MAX)
			memcpy(buf, slot->bytes, n);
		atomic_thread_fence(memory_order_acquire);
		if (n <= RECORD_HALF_MAX && generation != 0 &&
			atomic_load(&slot->generation) == generation)
			return n;
	}
	return -EBADMSG;
}

/* A half that says another generation than its slot would be another one once it is written
 * again. */
static int read_half(const struct record_file *file, enum record_half half,
	const ProtobufCMessageDescriptor *type, size_t generation_at, ProtobufCMessage **ret)
{
	_cleanup_free_ uint8_t *buf = malloc(RECORD_HALF_MAX);
	ProtobufCMessage *msg;
	uint64_t generation;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	n = copy_half(file, half, buf, &generation);
	if (n < 0)
		return (int)n;
	msg = protobuf_c_message_unpack(type, NULL, (size_t)n, buf);
	if (msg && memcmp((uint8_t *)msg + generation_at, &generation, sizeof(generation)) == 0) {
		*ret = msg;
		return 0;
	}
	protobuf_c_message_free_unpacked(msg, NULL);
	return -EBADMSG;
}

int record_read_desired(const struct record_file *file, Bh__Desired **ret_desired)
{
	return read_half(file, RECORD_DESIRED, &bh__desired__descriptor,
		offsetof(Bh__Desired, generation), (ProtobufCMessage **)ret_desired);
}

int record_read_observed(const struct record_file *file, Bh__Observed **ret_observed)
{
	return read_half(file, RECORD_OBSERVED, &bh__observed__descriptor,
		offsetof(Bh__Observed, generation), (ProtobufCMessage **)ret_observed);
}
