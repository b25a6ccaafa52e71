#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/blame.h"
#include "config/config.h"

#include "copies.h"
#include "pauses.h"
#include "transfer.h"
#include "vault.h"

/* What is remembered of one device: its record, ledger and vault, and the mark that counts our own
 * deaths by it. */

struct bus_request;
struct peer;

/** struct holders - who may hold locks in a ledger: every process that was attached since the locks
 * were made */
struct holders {
	pid_t pids[8];
	size_t n;
	bool complete; /* there is no holder that is not in the list */
};

/** struct suspended - the state that the worker has saved with its last report, since the VMM is
 * about to ask for it */
struct suspended {
	uint8_t *state; /* NULL = none */
	size_t n_state;
	uint64_t generation; /* of the record that was in force */
};

/** struct served - a device of the guest */
struct served {
	const struct config_device *config;
	struct vault *vault;
	struct copies *copies;
	int ledger_fd; /* -1 until a worker has attached */
	uint64_t ledger_bytes;
	struct holders holders;  /* of locks in the ledger */
	unsigned int n_attached; /* instances of its worker whose link is up; written by links.c */
	Bh__Desired *desired;    /* never NULL */
	Bh__Observed *observed;  /* never NULL; generation 0 = no worker has reported yet */
	struct blame_mark *mark; /* counts our deaths by requests about this device */
	uint64_t released;       /* Record.released */
	bool wake;               /* the worker's next question is answered at once */
	struct bus_request *commit; /* the frontend's, whose answer is held; NULL = none */
	/* of two instances the one that reported last; NULL = none yet */
	const struct peer *serving;
	struct pauses pauses;
	struct transfer transfer; /* of its state */
	uint64_t transfer_seq;    /* counts the changes that concern its workers; never 0 */
	struct suspended suspended;
};

#define SERVED_LEDGER_BYTES_MAX (INT64_C(1) << 30)

/**
 * served_open() - take back what the fd store has of the device, or begin it anew
 * @device: [in, out] config and mark are set; all else is zero
 *
 * Errors: 0 | negative errno: served_close() releases what there is.
 */
int served_open(struct served *device);

/** served_close() - release all; what the fd store has stays there */
void served_close(struct served *device);

/**
 * served_commit() - put the frontend's half in force. The record file is written first: it decides
 * what was committed
 * @desired: [in] judged; the device's on 0, the caller's otherwise
 *
 * Errors: 0 | -EMSGSIZE too large, and nothing has changed.
 */
int served_commit(struct served *device, Bh__Desired *desired);

/** served_settle() - drop what the frontend's half names no more, after served_commit(): a death in
 * between leaves that to the next memory manager. Cost: some system calls for each descriptor, for
 * which nobody who waits for the record need wait */
void served_settle(struct served *device);

/** served_report() - take a worker's report (judged; borrowed); its generation is counted here, not
 * by the worker
 * Errors: 0 | -EMSGSIZE, -ENOMEM: nothing has changed. */
int served_report(struct served *device, const Bh__Observed *report);

/** served_suspend() - keep the state that came with a report, or drop the former one
 * @state: [in] borrowed; of 0 bytes or too many = none */
void served_suspend(struct served *device, uint64_t generation, const ProtobufCBinaryData *state);

/** served_is_deadly() - whether requests about this device have killed this process so often that
 * none is served any more */
bool served_is_deadly(const struct served *device);

/** served_quarantine() - why the device is in quarantine, whichever process put it there; "" = it
 * is not. Borrowed until the record changes */
const char *served_quarantine(const struct served *device);
