#include "moves.h"

#include <errno.h>
#include <string.h>

#include "transfer.h"

#define HEADER_BYTES 28 /* of a state in a stream: common/snapshot/snapshot.h */
#define N_FRAMES 8

static uint8_t saved[VU_STATE_MAX], buf[VU_STATE_MAX];
static size_t n_saved;

/* A state that is said to be complete is so. */
static int check_whole(const uint8_t *state, size_t n)
{
	uint64_t n_body;

	if (n < HEADER_BYTES || memcmp(state, "BHSTATE\n", 8) != 0)
		return -EBADMSG;
	memcpy(&n_body, state + 16, sizeof(n_body));
	return n_body == n - HEADER_BYTES ? 0 : -EBADMSG;
}

static int save(struct world *w)
{
	size_t n = 0;
	int r = vu_save_state(&w->vm.n.c, buf, &n);

	return r ? r : check_whole(buf, n);
}

static int load(struct world *w)
{
	return vu_load_state(&w->vm.n.c, saved, n_saved);
}

static int stop(struct world *w)
{
	int e = world_move(w, N_FRAMES);

	for (uint16_t i = 0; !e && i < w->vm.n.n_rings; i++)
		e = world_fail(w, net_stop_ring(&w->vm.n, i), w->vm.n.why);
	return e;
}

static int go_on(struct world *w)
{
	int e = 0;

	for (uint16_t i = 0; !e && i < w->vm.n.n_rings; i++)
		e = world_fail(w, net_start_ring(&w->vm.n, i), w->vm.n.why);
	return e ? e : world_move(w, N_FRAMES);
}

/* Refused the first time, it is done the second time, when all processes are there again. */
static int move(struct world *w, int (*transfer)(struct world *w), const char *what)
{
	int r = transfer(w);

	if (r == VU_E_REFUSED) {
		r = world_wait(w);
		if (!r)
			r = transfer(w);
		if (r == VU_E_REFUSED)
			r = -ECANCELED;
	}
	return world_fail(w, r, what);
}

static int stopped(struct world *w, int (*transfer)(struct world *w), const char *what)
{
	int e = stop(w);

	if (!e)
		e = move(w, transfer, what);
	return e ? e : go_on(w);
}

int moves_save(struct world *w)
{
	return stopped(w, save, "saving");
}

int moves_load(struct world *w)
{
	return stopped(w, load, "loading");
}

int moves_prepare(struct world *w)
{
	int e = n_saved ? 0 : moves_save(w);

	if (!e && !n_saved) {
		memcpy(saved, buf, sizeof(buf));
		memcpy(&n_saved, saved + 16, sizeof(n_saved));
		n_saved += HEADER_BYTES;
	}
	return e;
}
