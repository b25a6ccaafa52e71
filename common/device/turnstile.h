#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/bytes.h"

/*
 * Where a serving thread stands while the loop's thread changes what both use. The loop's thread
 * closes it, and waits until the other is outside; the serving thread passes it once a turn, so
 * that the loop's thread waits for a turn at most. It is closed at first: threads are made before
 * there is anything to serve, and one that has not come as far as the turnstile keeps nobody
 * waiting.
 */

/** struct turnstile - of one thread */
struct turnstile {
	pthread_mutex_t lock;
	pthread_cond_t still, go;
	atomic_bool closed;
	bool inside; /* the thread may touch what is changed while it is closed */
	bool quit;
	unsigned int depth; /* nested closings; the loop's thread alone */
};

/** turnstile_init(), turnstile_deinit() - of a thread that is not made yet, or has ended */
void turnstile_init(struct turnstile *turnstile);
void turnstile_deinit(struct turnstile *turnstile);

/** turnstile_close() - the thread is to stop; nests. true: it is inside, and to be woken. Loop's
 * thread. */
bool turnstile_close(struct turnstile *turnstile);
/** turnstile_wait() - until the thread is outside; behind turnstile_close() */
void turnstile_wait(struct turnstile *turnstile);
/** turnstile_open() - undo one turnstile_close(); loop's thread */
void turnstile_open(struct turnstile *turnstile);
/** turnstile_quit() - the thread is to end; it is outside (closed and waited for) */
void turnstile_quit(struct turnstile *turnstile);

/** turnstile_enter() - the thread comes, and waits until it is open; false: it is to end */
bool turnstile_enter(struct turnstile *turnstile);
/** turnstile_stop() - the thread stands before a closed one until it opens; false: it is to end */
bool turnstile_stop(struct turnstile *turnstile);

/** turnstile_pass() - once a turn; false: the thread is to end. Cost: one load while the turnstile
 * is open. */
static inline bool turnstile_pass(struct turnstile *turnstile)
{
	return likely(!atomic_load_explicit(&turnstile->closed, memory_order_acquire)) ||
		turnstile_stop(turnstile);
}
