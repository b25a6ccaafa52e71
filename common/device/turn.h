#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "virtq/locks.h"

/** struct turn - whether this instance serves, or stands by */
struct turn {
	struct ledger_locks *locks; /* NULL: the ledger has none, there is only one instance */
	bool ours;                  /* the locks are held by this process */
	bool waits;                 /* there is a thread that waits in line, or holds the turn */
	pthread_t waiter;
	sem_t give; /* tells it to give the turn up */
	int wake_fd;
	sd_event_source *wake_source;
	void (*on_turn)(void *data);
	void *data;
};

/** turn_open() - the locks of this ledger file (borrowed); 0 | negative errno */
int turn_open(struct turn *turn, int ledger_fd);
/** turn_take() - by the loop's thread: true: it is ours now; false: another instance serves */
bool turn_take(struct turn *turn);
/** turn_wait() - stand in line; on_turn is called from the loop when the turn is ours */
int turn_wait(struct turn *turn, sd_event *event, void (*on_turn)(void *data), void *data);
/** turn_give() - let the next one serve; no thread of the device serves rings any more */
void turn_give(struct turn *turn);
