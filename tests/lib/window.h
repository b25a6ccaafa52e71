#ifndef TESTS_LIB_WINDOW_H
#define TESTS_LIB_WINDOW_H

/*
 * A shared memory region as a VMM has it: a window into which it maps the files that the device
 * hands over on the back-end channel. It refuses what QEMU 11.1 refuses: what lies outside, what
 * overlaps, a file that is too short or cannot be mapped, and unmapping what is not there.
 *
 * All functions return 0 or a negative errno; `why` then tells.
 */

#include <stdint.h>

#include "client.h"

#define WINDOW_MAPS_MAX 1100

struct window {
	uint32_t region;
	uint64_t n_bytes;
	uint8_t *mem; /* what is not mapped cannot be read */
	struct {
		uint64_t offset, size;
	} maps[WINDOW_MAPS_MAX];
	size_t n_maps;
	uint64_t n_mapped, n_unmapped; /* since it was opened */
	uint64_t n_refused_maps, n_refused_unmaps;
	char why[160];
};

/* what GET_SHMEM_CONFIG answers */
int window_get_config(struct vu_client *c, struct vu_shmem_config *ret);
/* the region of that id, as the device says how large it is */
int window_open(struct window *w, struct vu_client *c, uint32_t region);
void window_close(struct window *w);
/* all mappings go, as when the guest resets the device */
void window_reset(struct window *w);

/* do what a request asks for; its descriptors stay the message's. Returns the answer: 0, 1 = it is
 * refused, or -EPROTO: it breaks the protocol */
int window_do(struct window *w, const struct vu_msg *msg);
/* take the next request, do it, and answer; -ETIMEDOUT: none came within c->timeout_ms */
int window_serve(struct window *w, struct vu_client *c);

/* where the guest sees these bytes; NULL unless they are all mapped */
void *window_at(const struct window *w, uint64_t offset, uint64_t n_bytes);

#endif
