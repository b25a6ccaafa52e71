#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/bytes.h"

/*
 * Keeps a serving thread out while the loop thread changes what both use. The loop thread closes
 * the turnstile and waits until the serving thread is outside. The serving thread passes it once
 * per turn, so the loop thread waits for one turn at most. It is closed initially: threads are
 * created before there is anything to serve, and a thread that has not reached the turnstile yet
 * counts as outside.
 */

/** struct turnstile - one per serving thread */
struct turnstile {
	pthread_mutex_t lock;
	pthread_cond_t still, go;
	atomic_bool closed;
	bool inside; /* the serving thread may access what is changed while it is closed */
	bool quit;
	unsigned int depth; /* nested closings; loop thread only */
};

/** turnstile_init(), turnstile_deinit() - before the thread is created, and after it has ended */
void turnstile_init(struct turnstile *turnstile);
void turnstile_deinit(struct turnstile *turnstile);

/** turnstile_close() - request the thread to stop; nests. true: it is inside, and must be woken.
 * Loop thread. */
bool turnstile_close(struct turnstile *turnstile);
/** turnstile_wait() - wait until the thread is outside, after turnstile_close(). Loop thread. */
void turnstile_wait(struct turnstile *turnstile);
/** turnstile_open() - undo one turnstile_close(). Loop thread. */
void turnstile_open(struct turnstile *turnstile);
/** turnstile_quit() - make the thread end; it is outside (closed and waited for). Loop thread. */
void turnstile_quit(struct turnstile *turnstile);

/** turnstile_enter() - the thread's first call: wait until open; false: the thread must end */
bool turnstile_enter(struct turnstile *turnstile);
/** turnstile_stop() - wait at a closed turnstile until it opens; false: the thread must end */
bool turnstile_stop(struct turnstile *turnstile);

/** turnstile_pass() - called by the serving thread once per turn; false: the thread must end.
 * Cost: one load while open. */
static inline bool turnstile_pass(struct turnstile *turnstile)
{
	return likely(!atomic_load_explicit(&turnstile->closed, memory_order_acquire)) ||
		turnstile_stop(turnstile);
}
