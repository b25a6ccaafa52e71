#pragma once

#include <stdbool.h>

/*
 * The locks of a ledger: whoever serves the device holds them, each thread its own, for as long as it lives.
 * They are robust: the kernel gives a dead thread's lock to the next in line, before it takes the process's
 * memory apart, and only after that thread has run its last instruction. Who holds all of them is thus
 * alone, whatever the former holder died of.
 *
 * They lie in the last part of the ledger's first page, outside of what its shape and version say.
 */

#define LEDGER_LOCKS_AT 912
#define LEDGER_LOCK_BYTES 48
#define LEDGER_LOCKS_MAX 66

enum ledger_lock {
	LOCK_SERVE,   /* whose turn it is; taken first */
	LOCK_LOOP,    /* the loop's thread */
	LOCK_THREAD,  /* the first of the threads that serve rings */
};

struct ledger_locks;

/** ledger_locks_create() - into a ledger file that nobody else has yet (borrowed); 0 | negative errno */
int ledger_locks_create(int ledger_fd);

/** ledger_locks_open() - map them; fd borrowed. 0 | -ENODATA: the file has none | other negative errno */
int ledger_locks_open(struct ledger_locks **ret_locks, int ledger_fd);

/** ledger_locks_close() - unmap; the caller holds none of them any more */
struct ledger_locks *ledger_locks_close(struct ledger_locks *locks);

/** ledger_lock_try() - true: the calling thread has it now */
bool ledger_lock_try(struct ledger_locks *locks, unsigned int i);
/** ledger_lock_take() - wait for it, however long */
void ledger_lock_take(struct ledger_locks *locks, unsigned int i);
/** ledger_lock_drop() - by the thread that has it */
void ledger_lock_drop(struct ledger_locks *locks, unsigned int i);
