#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define BUS_PIPES_MAX 64

/** struct bus_pipe - a connection that was let in, and that nng has not taken down */
struct bus_pipe {
	uint32_t id;
	uint64_t left_usec; /* when we learnt of its end by other ways than nng; 0 = it is there */
};

/** struct bus_pipes - all of an endpoint; any thread, under the lock. See pipes.c */
struct bus_pipes {
	pthread_mutex_t lock;
	struct bus_pipe all[BUS_PIPES_MAX];
	unsigned int n;
};

/** pipes_init() - an empty list */
void pipes_init(struct bus_pipes *pipes);
/** pipes_destroy() - release the lock; no thread uses the list any more */
void pipes_destroy(struct bus_pipes *pipes);
/** pipes_add() - false: there is no room */
bool pipes_add(struct bus_pipes *pipes, uint32_t id);
/** pipes_remove() - nng has taken it down; whether that is news */
bool pipes_remove(struct bus_pipes *pipes, uint32_t id);
/** pipes_has() - whether that one is there */
bool pipes_has(struct bus_pipes *pipes, uint32_t id);
/** pipes_count() - how many are there */
unsigned int pipes_count(struct bus_pipes *pipes);
/** pipes_leave() - none is there any more; returns how many were, for nng to close */
unsigned int pipes_leave(struct bus_pipes *pipes, uint32_t ret_ids[BUS_PIPES_MAX]);
/** pipes_are_overdue() - whether one left longer ago than that, and nng still has it */
bool pipes_are_overdue(struct bus_pipes *pipes, uint64_t usec);
