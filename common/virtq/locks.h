#pragma once

#include <stdbool.h>

/*
 * The locks of a ledger. Each thread of the process that serves the device holds one for as long as
 * it lives. They are robust: when a thread dies, the kernel gives its lock to the next waiter, and
 * it does so after that thread's last instruction. A process that holds all locks is therefore
 * alone, whatever its predecessor died of.
 *
 * The locks lie at the end of the ledger's first page, which its shape and version do not cover.
 */

#define LEDGER_LOCKS_AT 912
#define LEDGER_LOCK_BYTES 48
#define LEDGER_LOCKS_MAX 66

enum ledger_lock {
	LOCK_SERVE,  /* whose turn it is; taken first */
	LOCK_LOOP,   /* the loop's thread */
	LOCK_THREAD, /* the first of the threads that serve rings */
};

struct ledger_locks;

/** ledger_locks_create() - make them in a new ledger file that no other process has yet; the
 * descriptor is borrowed. 0 | -ENODATA: the file is shorter than a page | other negative errno */
int ledger_locks_create(int ledger_fd);

/** ledger_locks_open() - map them; the descriptor is borrowed. Owner: the caller, until
 * ledger_locks_close(). 0 | -ENODATA: the file has none | other negative errno */
int ledger_locks_open(struct ledger_locks **ret_locks, int ledger_fd);

/** ledger_locks_close() - unmap; no thread of the process holds one any more. NULL is fine; returns
 * NULL */
struct ledger_locks *ledger_locks_close(struct ledger_locks *locks);

/** ledger_lock_try() - take a lock without waiting; i is below LEDGER_LOCKS_MAX; false: another
 * thread has it */
bool ledger_lock_try(struct ledger_locks *locks, unsigned int i);

/** ledger_lock_take() - take a lock, and wait for it however long. Thread: one that may block */
void ledger_lock_take(struct ledger_locks *locks, unsigned int i);

/** ledger_lock_drop() - release a lock. Thread: the one that took it */
void ledger_lock_drop(struct ledger_locks *locks, unsigned int i);
