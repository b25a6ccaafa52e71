#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/blame.h"
#include "config/config.h"
#include "door.h"
#include "exchange.h"

/*
 * A session: one device and the VMM that is connected to it, if one is. Its state is the desired
 * half of the device's record and nothing else; what stands here beside it can be made anew from
 * that, the sockets, and what the kernel says of them.
 */

struct session {
	/* set before session_open(); borrowed */
	const struct memory_ops *ops;
	void *context;           /* for the ops */
	struct blame_mark *mark; /* of this process's deaths by what this VMM says */
	/** start_anew() - end, to do what takes rights at the next start; false, or NULL: that
	 * has none either */
	bool (*start_anew)(struct session *session);

	sd_event *event; /* borrowed */
	const struct config_device *config;
	struct view view;
	struct exchange exchange; /* with the VMM, and the connection to it */
	uint64_t seen; /* observed's generation, as the memory manager that is there counts it */
	/* desired's generation when the watch that runs was begun; 0 while loading */
	uint64_t asked;
	uint64_t seen_transfer; /* the last one that was seen to have ended */
	uint64_t waited;        /* the one whose end the watch that runs waits for; 0 = none */

	struct door door; /* server mode */
	int next_fd;      /* client mode: is already connected; -1 = none */
	unsigned int connect_tries;
	sd_event_source *conn_source;
	sd_event_source *peer_source; /* client mode: the VMM's death */
	sd_event_source *connect;     /* client mode: the next try */
	/* client mode: for a VMM that listens while a dead one's connection stays open */
	sd_event_source *look;
	sd_event_source *limit; /* of the time for which the exchange waits */
	sd_event_source *defer; /* more messages are there, but it is the others' turn */

	bool quarantined;    /* no VMM is served until the operator says so */
	bool lost;           /* memory has forgotten what the VMM handed over */
	uint64_t begun_usec; /* when the VMM came; 0 = it came to a former process */
};

/** session_open() - take over what a former process had, or listen
 * @config: borrowed until session_close(), as the event loop is
 * Errors: 0 | negative errno, which is logged; session_close() is due all the same. */
int session_open(struct session *session, sd_event *event, const struct config_device *config);
/** session_close() - free what is the session's; the connection stays open where the fd store has
 * it */
void session_close(struct session *session);

/** session_is_loaded() - whether the record is known; until then nothing is read, and nobody
 * accepted */
bool session_is_loaded(const struct session *session);

/** session_loaded() - the record as memory has it; takes both halves */
void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed);

/** session_observed() - the worker reported; takes observed */
void session_observed(struct session *session, Bh__Observed *observed);

/** session_released() - the operator has released the quarantine that this generation of the
 * record began */
void session_released(struct session *session, uint64_t generation);

/** session_refused() - memory puts nothing more in force, and has this generation, which says
 * why */
void session_refused(struct session *session, uint64_t generation);

/** session_memory_back() - memory was away, and had this generation of the desired half when it
 * answered
 * @asked: the generation that was in force when it was asked: less than that is a loss, while
 *         what was committed since may have overtaken the answer */
void session_memory_back(struct session *session, uint64_t generation, uint64_t asked);

/** session_heard_positions() - what memory says of the worker when it answers a commit, before
 * the answer itself
 * @rings: stopped rings, by the ledger; borrowed */
void session_heard_positions(struct session *session, bool worker_gone, Bh__RingState *const *rings,
	size_t n);

/** session_committed() - the answer to a commit
 * @error:   0 | negative errno: -ECONNRESET and -ETIMEDOUT leave open whether it was done
 * @refused: the rule that was broken; empty = it is in force */
void session_committed(struct session *session, int error, const char *refused);

/** session_deposited() - the answer to deposit()
 * @error:  0 | negative errno: memory does not take them
 * @tokens: as many as there were descriptors; borrowed */
void session_deposited(struct session *session, int error, const uint64_t *tokens);

/** session_redeemed() - the answer to redeem(): the descriptor (taken over) | negative errno */
void session_redeemed(struct session *session, int fd);

/** session_fetched() - the answer to fetch(): the descriptor (taken over) | negative errno */
void session_fetched(struct session *session, int fd);

/** session_begun() - the answer to transfer(): 0 and the id, or why it is refused | negative errno:
 * memory cannot be asked
 * @refused: empty = it has begun; borrowed */
void session_begun(struct session *session, int error, uint64_t id, const char *refused);

/** session_heard_transfer() - memory speaks of the device's last transfer (borrowed; NULL = it
 * knows of none), in answer to a watch that waits for session->waited */
void session_heard_transfer(struct session *session, const Bh__Transfer *transfer);

/** session_attach() - a VMM is connected (fd consumed always) */
void session_attach(struct session *session, int fd);

/** session_run() - go on with what is in work, as far as it gets; for answers.c. A crash in here is
 * blamed on the message in work or, without one, on the next. */
void session_run(struct session *session);
