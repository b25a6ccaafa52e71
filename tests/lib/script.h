#ifndef TESTS_LIB_SCRIPT_H
#define TESTS_LIB_SCRIPT_H

/*
 * An endless sequence of messages, bytes with descriptors, which the sender of a stream and its
 * receiver compute independently. A receiver that verifies it finds each byte and each descriptor
 * that is lost, doubled, changed or out of place.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_FDS_MAX 28 /* of one message */
#define SCRIPT_FILES 64   /* script_file() repeats itself after so many */

/* Which messages; equal on both sides. */
struct script_setting {
	uint32_t seed;
	uint32_t max_bytes; /* of one message; 0: 20000 */
	bool bytes_only;    /* no descriptors, as for a pipe */
	bool early;         /* a descriptor may come before the byte to which it is attached */
};

/* A position in the sequence. */
struct script {
	struct script_setting setting;
	uint64_t index;   /* of the message; the first one is 0 */
	uint64_t at;      /* bytes before it */
	uint64_t file;    /* descriptors before it */
	uint32_t n_bytes; /* of it */
	uint32_t n_fds;
	uint32_t offset; /* how much of it script_verify() has seen */
	uint64_t seen;   /* descriptors that script_verify() has seen */
	char why[160];   /* what script_verify() found */
};

/* the first message */
void script_begin(struct script *script, const struct script_setting *setting);
/* the next message */
void script_next(struct script *script);
/* n bytes of this message, from that offset on */
void script_fill(const struct script *script, uint32_t offset, uint8_t *buf, size_t n);
/* The i-th descriptor of the whole sequence: a memory file that says its number. The caller's. */
int script_file(uint64_t i);
/*
 * script_verify() - compare what one receive call returned with what follows in the sequence
 * @fds: borrowed; attached to messages that begin in data
 * Returns false at the first difference, which `why` tells.
 */
bool script_verify(struct script *script, const uint8_t *data, size_t n, const int *fds,
	size_t n_fds);

#endif
