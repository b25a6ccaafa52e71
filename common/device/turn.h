#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "virtq/locks.h"

/** struct turn - whether this instance serves or stands by */
struct turn {
	struct ledger_locks *locks; /* NULL: the ledger has no locks, this is the only instance */
	bool ours;                  /* this process holds the locks */
	bool waits;                 /* a thread waits for the turn or holds it */
	pthread_t waiter;
	sem_t give; /* makes the thread release the turn */
	int wake_fd;
	sd_event_source *wake_source;
	void (*on_turn)(void *data);
	void *data;
};

/** turn_open() - open the locks of this ledger file (borrowed); 0 | negative errno */
int turn_open(struct turn *turn, int ledger_fd);
/** turn_take() - try to take the turn; false: another instance serves. Loop thread. */
bool turn_take(struct turn *turn);
/** turn_wait() - wait for the turn in a thread, then call on_turn in the loop; 0 | negative
 * errno */
int turn_wait(struct turn *turn, sd_event *event, void (*on_turn)(void *data), void *data);
/** turn_give() - release the turn; the device's threads must have stopped serving */
void turn_give(struct turn *turn);
