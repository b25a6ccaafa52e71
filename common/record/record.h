#pragma once

#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"

/*
 * The record file is a memfd. memory writes it; workers map a copy that only memory can write. Each
 * half (desired, observed) has two slots: a write fills the unused slot and then switches, so that
 * a kill at any instruction leaves either the old half or the new one, whole.
 */

#define RECORD_HALF_MAX (256u * 1024)
#define RECORD_SHMEM_MAPS_MAX 1024u          /* of a device at a time */
#define RECORD_STATE_BYTES_MAX (512u * 1024) /* of a message State, which is transferred whole */

enum record_half {
	RECORD_DESIRED,
	RECORD_OBSERVED,
	_RECORD_HALVES,
};

struct record_file;

/** record_create() - create a record file of fixed size
 * Errors: the descriptor, the caller's | negative errno. */
int record_create(const char *device);

/** record_open() - map a record file; writable if fd (borrowed) is
 * Errors: 0 | -EBADMSG: not a record file | other negative errno. */
int record_open(struct record_file **ret_file, int fd);

/** record_close() - unmap a record file; NULL is fine; returns NULL */
struct record_file *record_close(struct record_file *file);

/**
 * record_publish() - create a record file that only *ret_file can write
 * @ret_fd: [out] the caller's, for readers. Nobody can reopen it for writing or map it writable,
 *          whatever its rights. That includes this process after record_close(): a restarted
 *          process publishes a new file.
 *
 * Errors: 0 | negative errno; -EINVAL: the kernel is older than 5.1.
 */
int record_publish(struct record_file **ret_file, int *ret_fd, const char *device);

/** record_generation() - the generation of a half; 0 = never written. Cost: two atomic loads */
uint64_t record_generation(const struct record_file *file, enum record_half half);

/** record_write_desired(), record_write_observed() - replace a half, atomically
 * Errors: 0 | -EMSGSIZE: it is too large | -EACCES: the file was opened read-only. */
int record_write_desired(struct record_file *file, const Bh__Desired *desired);
int record_write_observed(struct record_file *file, const Bh__Observed *observed);

/** record_read_desired(), record_read_observed() - copy a half; free it with
 * bh__..__free_unpacked(x, NULL). A half that was never written reads as an empty message.
 * Errors: 0 | -EBADMSG: malformed, which a torn write never is, or of another generation than its
 * slot | -ENOMEM. */
int record_read_desired(const struct record_file *file, Bh__Desired **ret_desired);
int record_read_observed(const struct record_file *file, Bh__Observed **ret_observed);
