#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * The record file: a memfd. memory writes it; workers map a copy of it that nobody else can write. Each half
 * (desired, observed) has two slots; a write fills the slot not in use and then switches, so that a kill
 * at any instruction leaves the old or the new half, whole.
 */

#define RECORD_HALF_MAX (256u * 1024)

enum record_half {
	RECORD_DESIRED,
	RECORD_OBSERVED,
	_RECORD_HALVES,
};

struct record_file;

/** record_create() - a new record file; returns the descriptor (sealed in size) | negative errno */
int record_create(const char *device);

/** record_open() - map it; fd is borrowed; writable only where the descriptor is */
int record_open(struct record_file **ret_file, int fd);
/** record_close() - unmap it; NULL is fine; returns NULL */
struct record_file *record_close(struct record_file *file);

/** record_readonly_fd() - a descriptor on the same file that cannot be written through, until it is opened again */
int record_readonly_fd(int fd);

/**
 * record_publish() - a new record file that is written through ret_file, and in no other way
 * @ret_fd: [out] the caller's: for others to read. Opened again through /proc, it can be written or mapped for
 *          writing by nobody, whatever their rights. Nor can we after record_close(): who starts again publishes anew.
 *
 * Errors: 0 | negative errno; -EINVAL: a kernel before 5.1.
 */
int record_publish(struct record_file **ret_file, int *ret_fd, const char *device);

/** record_generation() - of a half; 0 = never written. One atomic load. */
uint64_t record_generation(const struct record_file *file, enum record_half half);

/** record_write_desired(), record_write_observed() - replace a half, whole or not at all
 * Errors: 0 | -EMSGSIZE: it is too large | -EACCES: the file was opened read-only. */
int record_write_desired(struct record_file *file, const Bh__Desired *desired);
int record_write_observed(struct record_file *file, const Bh__Observed *observed);

/** record_read_desired(), record_read_observed() - a copy of a half: free with bh__..__free_unpacked(x, NULL). A half
 * never written reads as an empty message. Errors: 0 | -EBADMSG not a record (never a torn write) | -ENOMEM. */
int record_read_desired(const struct record_file *file, Bh__Desired **ret_desired);
int record_read_observed(const struct record_file *file, Bh__Observed **ret_observed);
