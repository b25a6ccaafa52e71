/*
 * The record files that a new memory process finds in the fd store, with arbitrary contents. A
 * record that passes the judge is taken over, any other is reset; it can then be written, and the
 * next process finds it unchanged.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "input.h"
#include "memory/copies.h"
#include "memory/judge.h"
#include "record/record.h"

/* As record.c lays it out. */
#define SLOT_BYTES (16 + RECORD_HALF_MAX)
#define HALF_BYTES (8 + 2 * SLOT_BYTES)
#define HALF_AT(half) (8 + (half)*HALF_BYTES)
#define SLOT_AT(half, slot) (HALF_AT(half) + 8 + (slot)*SLOT_BYTES)

/* --- In the place of the fd store: two names --- */

static int stored[2] = { -1, -1 };

static int *place(const char *name)
{
	check(name[1] == '.' && (name[0] == 't' || name[0] == 'r'));
	return &stored[name[0] == 't'];
}

int fdstore_take(const char *name)
{
	int *fd = place(name);

	return *fd < 0 ? -ENOENT : dup(*fd);
}

int fdstore_push(const char *name, int fd)
{
	int *to = place(name);

	fd_close(*to);
	*to = dup(fd);
	check(*to >= 0);
	return 0;
}

int fdstore_remove(const char *name)
{
	int *fd = place(name);

	*fd = fd_close(*fd);
	return 0;
}

/* --- Files --- */

static void put_slot(int fd, struct input *in)
{
	uint8_t which = input_u8(in);
	uint64_t half = which & 1, slot = which >> 1 & 1;
	struct {
		uint64_t generation;
		uint32_t n_bytes, pad;
	} head = { .generation = input_u16(in) };
	const uint8_t *bytes = input_view(in, input_u16(in), &(size_t){ 0 });
	size_t n = (size_t)(in->data - bytes);
	uint32_t current = which & 4 ? input_u32(in) : (uint32_t)slot;

	head.n_bytes = which & 8 ? input_u32(in) : (uint32_t)n;
	if (which & 16)
		head.generation = input_u64(in);
	check(pwrite(fd, &head, sizeof(head), (off_t)SLOT_AT(half, slot)) == sizeof(head));
	check(pwrite(fd, bytes, n, (off_t)(SLOT_AT(half, slot) + sizeof(head))) == (ssize_t)n);
	check(pwrite(fd, &current, sizeof(current), (off_t)HALF_AT(half)) == sizeof(current));
}

static int make_file(struct input *in, uint8_t how)
{
	int fd = how & 1 ? memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING)
			 : record_create("net0");
	uint8_t magic;

	check(fd >= 0);
	if (how & 1)
		check(ftruncate(fd, how & 2 ? (off_t)HALF_AT(2) : input_u16(in)) == 0);
	else if (how & 2 && (magic = input_u8(in)))
		check(pwrite(fd, &magic, 1, magic % 8) == 1);
	if (!(how & 1))
		for (uint8_t n = how >> 2 & 3; n; n--)
			put_slot(fd, in);
	return fd;
}

static void store_files(struct input *in)
{
	uint8_t how = input_u8(in);

	for (size_t i = 0; i < ARRAY_SIZE(stored); i++)
		if (how >> i & 1)
			stored[i] = make_file(in, input_u8(in));
}

/* --- Memory processes, one after the other --- */

struct process {
	struct copies *copies;
	Bh__Desired *desired;
	Bh__Observed *observed;
};

static void start(struct process *process)
{
	char text[256];
	uint64_t generation;

	*process = (struct process){ 0 };
	check(copies_open(&process->copies, "net0", &process->desired, &process->observed) == 0);
	generation = process->desired->generation;
	check(judge_desired(process->desired, generation, text, sizeof(text)) == 0);
	check(judge_observed(process->observed, generation, text, sizeof(text)) == 0);
}

static void end(struct process *process)
{
	copies_close(process->copies);
	bh__desired__free_unpacked(process->desired, NULL);
	bh__observed__free_unpacked(process->observed, NULL);
}

static bool is_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
	size_t n = protobuf_c_message_get_packed_size(a);
	_cleanup_free_ uint8_t *bytes_a = malloc(n + 1), *bytes_b = malloc(n + 1);

	check(bytes_a && bytes_b);
	if (protobuf_c_message_get_packed_size(b) != n)
		return false;
	protobuf_c_message_pack(a, bytes_a);
	protobuf_c_message_pack(b, bytes_b);
	return memcmp(bytes_a, bytes_b, n) == 0;
}

static void check_found_again(const struct process *former)
{
	struct process next;

	start(&next);
	check(is_equal(&former->desired->base, &next.desired->base));
	check(is_equal(&former->observed->base, &next.observed->base));
	check(copies_id(former->copies) == copies_id(next.copies));
	end(&next);
}

/* What a worker reads is what memory has. */
static void check_published(const struct process *process)
{
	struct record_file *file;
	Bh__Desired *desired;

	check(record_open(&file, copies_fd(process->copies, true)) == 0);
	check(record_read_desired(file, &desired) == 0);
	check(is_equal(&process->desired->base, &desired->base));
	bh__desired__free_unpacked(desired, NULL);
	record_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	struct process process;

	store_files(&in);
	start(&process);
	check_published(&process);
	check_found_again(&process);
	process.desired->generation++;
	process.desired->session++;
	check(copies_write_desired(process.copies, process.desired) == 0);
	if (process.desired->session <= UINT64_C(1) << 63 &&
		process.desired->generation <= UINT64_C(1) << 63) {
		check_published(&process);
		check_found_again(&process);
	}
	end(&process);
	for (size_t i = 0; i < ARRAY_SIZE(stored); i++)
		stored[i] = fd_close(stored[i]);
	return 0;
}
