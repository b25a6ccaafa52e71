#ifndef TESTS_FAULT_WORLD_H
#define TESTS_FAULT_WORLD_H

/*
 * The product with one device and a VMM on it, both kept over many kills; and the question that
 * is asked after each: has the VMM noticed?
 */

#include "../wire/replay.h"
#include "suite.h"
#include "traffic.h"

#define WORLD_FRAME_BYTES 200 /* of each frame that is moved */

enum vmm { VMM_NONE, VMM_LOGGED, VMM_SPLIT, VMM_PACKED };

struct world {
	struct suite_device device;
	struct suite suite;
	struct replay vm;
	enum vmm kind; /* who is connected */
	struct log_event events[LOG_MAX_EVENTS];
	size_t n_events;
	struct traffic traffic;
	uint64_t features; /* offered to the first that asked, and so to all */
	uint32_t n_heard;  /* replies in an undisturbed handshake, */
	uint64_t heard;    /* and their digest */
	char why[300];
};

/* All return 0 or a negative errno, and then `why` tells. */

/* device: a backend that sends every frame back, NULL for echo; its name is net0 */
int world_open(struct world *w, const struct suite_device *device);
int world_close(struct world *w);
/* after a failure: everything anew; the product's output is kept */
int world_renew(struct world *w);

/* the i-th role that has its process in this world; NULL past the end */
const char *world_role(const struct world *w, size_t i);
/* processes of a role ("all": every one of them); returns their number */
size_t world_pids(const struct world *w, const char *role, pid_t *ret_pids, size_t max);
/* waits until each role has its process */
int world_wait(struct world *w);

/* whoever is connected is hung up on, and a VMM of that kind connects: whatever dies meanwhile */
int world_join(struct world *w, enum vmm kind);

/* a VMM of that kind is connected when this returns, and served without fault, since nothing
 * dies */
int world_connect(struct world *w, enum vmm kind);
void world_hang_up(struct world *w);
/* the recorded handshake, up to where rings run; what was heard must be what is always heard */
int world_handshake(struct world *w);
/* a session whose in-flight region is asked for, three times, and set */
int world_inflight(struct world *w);
/* an acknowledged change, which goes through every process */
int world_change(struct world *w);
int world_move(struct world *w, uint32_t n_frames);

/* the connection lives, every process answers, nothing was said twice, frames flow and none is
 * lost */
int world_check(struct world *w);

int world_fail(struct world *w, int e, const char *what);

#endif
