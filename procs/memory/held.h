#pragma once

#include "peers.h"

/*
 * Commits whose answer waits for the worker. A frontend that has to wait until its commit is
 * applied says so, and gets both in one answer: what is in force, and the worker's report. A worker
 * that is not there, or takes longer, is not waited for: the report then comes with the frontend's
 * watch.
 */

/** held_open() - make the timer
 * Errors: 0 | negative errno. */
int held_open(struct memory *memory);

/** held_answer() - answer a commit
 * @refused: the rule that it breaks; "" = it is in force
 * @stale:   it was before it came */
void held_answer(struct bus_request *request, const struct served *device, const char *refused,
	bool stale);

/** held_begin() - hold the answer to a commit that is in force now; an older one is given
 * Returns: false: it is not held, and is due at once. */
bool held_begin(struct memory *memory, struct served *device, struct bus_request *request);

/** held_applied() - the worker has reported: give the answer, if one is held and it has applied
 * what is in force */
void held_applied(struct memory *memory, struct served *device);

/** held_is_applied() - whether the worker has applied what is in force */
static inline bool held_is_applied(const struct served *device)
{
	return device->observed->generation &&
		device->observed->applied >= device->desired->generation;
}
