#include "device/turnstile.h"

#include "base/check.h"

void turnstile_init(struct turnstile *turnstile)
{
	*turnstile = (struct turnstile){ 0 };
	atomic_store(&turnstile->closed, true);
	pthread_mutex_init(&turnstile->lock, NULL);
	pthread_cond_init(&turnstile->still, NULL);
	pthread_cond_init(&turnstile->go, NULL);
}

void turnstile_deinit(struct turnstile *turnstile)
{
	pthread_cond_destroy(&turnstile->still);
	pthread_cond_destroy(&turnstile->go);
	pthread_mutex_destroy(&turnstile->lock);
}

/* --- Loop thread --- */

bool turnstile_close(struct turnstile *turnstile)
{
	bool inside;

	if (turnstile->depth++)
		return false;
	pthread_mutex_lock(&turnstile->lock);
	atomic_store(&turnstile->closed, true);
	inside = turnstile->inside;
	pthread_mutex_unlock(&turnstile->lock);
	return inside;
}

void turnstile_wait(struct turnstile *turnstile)
{
	pthread_mutex_lock(&turnstile->lock);
	while (turnstile->inside)
		pthread_cond_wait(&turnstile->still, &turnstile->lock);
	pthread_mutex_unlock(&turnstile->lock);
}

void turnstile_open(struct turnstile *turnstile)
{
	check(turnstile->depth);
	if (--turnstile->depth)
		return;
	pthread_mutex_lock(&turnstile->lock);
	atomic_store(&turnstile->closed, false);
	pthread_cond_signal(&turnstile->go);
	pthread_mutex_unlock(&turnstile->lock);
}

void turnstile_quit(struct turnstile *turnstile)
{
	pthread_mutex_lock(&turnstile->lock);
	turnstile->quit = true;
	pthread_cond_signal(&turnstile->go);
	pthread_mutex_unlock(&turnstile->lock);
}

/* --- Serving thread --- */

/* The lock is held. */
static bool wait_until_open(struct turnstile *turnstile)
{
	while (atomic_load(&turnstile->closed) && !turnstile->quit)
		pthread_cond_wait(&turnstile->go, &turnstile->lock);
	turnstile->inside = !turnstile->quit;
	return turnstile->inside;
}

bool turnstile_enter(struct turnstile *turnstile)
{
	bool in;

	pthread_mutex_lock(&turnstile->lock);
	in = wait_until_open(turnstile);
	pthread_mutex_unlock(&turnstile->lock);
	return in;
}

bool turnstile_stop(struct turnstile *turnstile)
{
	bool in;

	pthread_mutex_lock(&turnstile->lock);
	turnstile->inside = false;
	pthread_cond_signal(&turnstile->still);
	in = wait_until_open(turnstile);
	pthread_mutex_unlock(&turnstile->lock);
	return in;
}
