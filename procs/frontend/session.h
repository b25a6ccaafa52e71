#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/blame.h"
#include "base/log.h"
#include "config/config.h"
#include "desired.h"
#include "peer.h"
#include "replay.h"
#include "rings.h"
#include "socket-file.h"
#include "wire.h"

/*
 * A session: one device and the VMM that is connected to it, if one is. Its state is the desired half of
 * the device's record and nothing else; what stands here beside it can be made anew from that, the
 * sockets, and what the kernel says of them.
 */

struct session;

/** struct session_ops - what a session needs of the memory manager */
struct session_ops {
	/** commit() - ask for `next` to be put in force; session_committed() brings the answer, later
	 * Errors: 0 | negative errno: not sent, ask again in a while. */
	int (*commit)(struct session *session, const Bh__Desired *next);
	/** deposit() - the same for descriptors (borrowed) to be put into the vault, and session_deposited() */
	int (*deposit)(struct session *session, const int *fds, size_t n);
	/** redeem() - the same for a copy of what lies under a token, and session_redeemed() */
	int (*redeem)(struct session *session, uint64_t token);
	/** start_anew() - end, to do what takes rights at the next start; false, or NULL: that has none either */
	bool (*start_anew)(struct session *session);
	/** forget() - neither answer is waited for any more */
	void (*forget)(struct session *session);
};

enum phase {
	PHASE_LOADING, /* the record is not known yet: nothing is read, nothing accepted */
	PHASE_IDLE,
	PHASE_DEPOSIT, /* the descriptors of the message in work are on their way to memory */
	PHASE_COMMIT,  /* a change is on its way to memory */
	PHASE_WAIT,    /* committed; the answer is due when the worker has applied it */
	PHASE_SEND,    /* the VMM has no room for the answer yet, or the descriptor that goes with it is still to come */
};

/** enum purpose - what a commit is for */
enum purpose {
	FOR_MESSAGE,   /* the message in work */
	FOR_PROBE,     /* the message in work waits for the worker: is it memory that is away? */
	FOR_UNDO,      /* the message in work was committed, and could not be put in force */
	FOR_VMM,       /* a VMM came or went */
};

struct session {
	const struct session_ops *ops;
	void *context;              /* for the ops */
	sd_event *event;            /* borrowed */
	const struct config_device *config;
	enum phase phase;
	Bh__Desired *desired;       /* as committed; NULL while loading */
	Bh__Observed *observed;     /* as last heard; NULL while loading */
	struct heard heard;         /* of rings, beside observed */
	uint64_t seen;              /* observed's generation, as the memory manager that is there counts it */
	uint64_t asked;             /* desired's generation when the watch that runs was begun; 0 while loading */
	struct replay replay;

	int listen_fd;              /* server mode */
	bool listener_passed;       /* by whoever started us */
	struct socket_file file;    /* listen_fd's */
	int conn_fd;                /* the VMM; -1 = none */
	int backend_req_fd;
	struct peer peer;           /* whose conn_fd is */
	sd_event_source *listen_source;
	sd_event_source *conn_source;
	sd_event_source *timer;     /* see on_timer() */
	sd_event_source *peer_source; /* client mode: the VMM's death */
	sd_event_source *look;      /* client mode: for a VMM that listens while a dead one's connection stays open */
	int next_fd;                /* client mode: is already connected; -1 = none */
	sd_event_source *defer;     /* more messages are there, but it is the others' turn */
	unsigned int connect_tries;
	bool hung_up;               /* the VMM went away while a change was on its way */
	struct blame_mark *mark;    /* of this process's deaths by what this VMM says; borrowed */
	bool quarantined;           /* no VMM is served until the operator says so */
	bool lost;                  /* memory has forgotten what the VMM handed over */
	uint64_t told_config_seq;   /* of the last change that the VMM was told of */
	uint64_t begun_usec;        /* when the VMM came; 0 = it came to a former process */
	bool asked_queues;          /* how many there are */

	struct message msg;         /* in work */
	const struct request_row *row; /* its row; NULL: it has none */
	uint64_t tokens[FDS_MAX];   /* under which msg's descriptors lie in the vault ... */
	size_t n_tokens;            /* ... if they do */
	int deposit_error;          /* why they do not; 0 = it is not known that they cannot */
	unsigned int n_deposits;    /* of msg: memory may die after it took them */
	int reply_fd;               /* goes with the answer; -1 = not redeemed yet, or none does */
	bool redeeming;             /* reply_fd is on its way */
	bool wait;                  /* answer when applied */
	bool probed;                /* waited for the worker, and memory has answered since */
	uint64_t probe_usec;        /* when memory was asked */
	char why[256];              /* why msg is refused; empty = it is not */
	enum purpose purpose;
	Bh__Desired *next;          /* what is being committed */
	Bh__Desired *before;        /* what was in force before msg; or NULL */
	bool worker_gone;           /* there was none at the last commit */
	bool waited_in_vain;        /* for one that was gone, and has not come back since */
	bool commit_late;           /* memory does not answer; said once */
};

/** session_open() - take over what a former process had, or listen; errors are logged */
int session_open(struct session *session, sd_event *event, const struct config_device *config);
void session_close(struct session *session);

/** session_loaded() - the record as memory has it; takes both halves */
void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed);

/** session_observed() - the worker reported; takes observed */
void session_observed(struct session *session, Bh__Observed *observed);

/** session_released() - the operator has released the quarantine that this generation of the record began */
void session_released(struct session *session, uint64_t generation);

/** session_refused() - memory puts nothing more in force, and has this generation, which says why */
void session_refused(struct session *session, uint64_t generation);

/** session_memory_back() - memory was away, and had this generation of the desired half when it answered
 * @asked: the generation that was in force when it was asked: less than that is a loss, while what was committed since
 *         may have overtaken the answer */
void session_memory_back(struct session *session, uint64_t generation, uint64_t asked);

/** session_heard_positions() - what memory says of the worker when it answers a commit, before the answer itself
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

/** session_attach() - a VMM is connected (fd consumed always) */
void session_attach(struct session *session, int fd);
