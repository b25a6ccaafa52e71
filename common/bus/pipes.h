#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define BUS_PIPES_MAX 64

/** struct bus_pipe - a connection that was admitted and that nng has not taken down yet */
struct bus_pipe {
	uint32_t id;
	uint64_t left_usec; /* when it ended, as we know from elsewhere than nng; 0 = it is open */
};

/** struct bus_pipes - the connections of an endpoint (pipes.c); its functions may run in any
 * thread */
struct bus_pipes {
	pthread_mutex_t lock;
	struct bus_pipe all[BUS_PIPES_MAX];
	unsigned int n;
	unsigned int n_removed;
};

/** pipes_init() - an empty list */
void pipes_init(struct bus_pipes *pipes);
/** pipes_destroy() - release the lock; no thread uses the list any more */
void pipes_destroy(struct bus_pipes *pipes);
/** pipes_add() - add an open connection; false if the list is full */
bool pipes_add(struct bus_pipes *pipes, uint32_t id);
/** pipes_remove() - nng has taken a connection down; true unless its end was known already */
bool pipes_remove(struct bus_pipes *pipes, uint32_t id);
/** pipes_n_removed() - how often pipes_remove() was called, refused connections included */
unsigned int pipes_n_removed(struct bus_pipes *pipes);
/** pipes_has() - whether that connection is open */
bool pipes_has(struct bus_pipes *pipes, uint32_t id);
/** pipes_count() - the number of open connections */
unsigned int pipes_count(struct bus_pipes *pipes);
/** pipes_leave() - mark all open connections as ended; returns their number, and their ids for nng
 * to close */
unsigned int pipes_leave(struct bus_pipes *pipes, uint32_t ret_ids[BUS_PIPES_MAX]);
/** pipes_are_overdue() - whether a connection ended usec ago or earlier, and nng still has it */
bool pipes_are_overdue(struct bus_pipes *pipes, uint64_t usec);
