#pragma once

#include <stdarg.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "config/config.h"
#include "record.pb-c.h"
#include "wire.h"

/*
 * A session: one device and the VMM that is connected to it, if one is. Its state is the desired half of
 * the device's record and nothing else; what stands here beside it can be made anew from that, the
 * sockets, and what the kernel says of them.
 */

struct frontend;

enum phase {
	PHASE_LOADING, /* the record is not known yet: nothing is read, nothing accepted */
	PHASE_IDLE,
	PHASE_COMMIT,  /* a change is on its way to memory */
	PHASE_WAIT,    /* committed; the answer is due when the worker has applied it */
};

struct session {
	struct frontend *frontend;
	const struct config_device *config;
	enum phase phase;
	Bh__Desired *desired;       /* as committed */
	Bh__Observed *observed;     /* as last heard; NULL: no worker has offered anything yet */

	int listen_fd;              /* server mode */
	int conn_fd;                /* the VMM; -1 = none */
	int pending_fd;             /* a VMM that came while the last one was being cleared away */
	int backend_req_fd;
	pid_t peer_pid;
	sd_event_source *listen_source;
	sd_event_source *conn_source;
	sd_event_source *timer;     /* connecting again, or the end of a wait, or a commit to repeat */
	unsigned int connect_tries;
	bool hung_up;               /* the VMM went away while a change was on its way */

	struct message msg;         /* in work */
	const struct request_row *row; /* its row; NULL: it has none */
	Bh__Desired *next;          /* what is being committed */
	bool wait;                  /* answer when applied */
	bool is_message;            /* the commit belongs to msg (else to a coming or going VMM) */
	char why[256];              /* why msg is refused; empty = it is not */
	struct log_limit limit;
};

int session_open(struct session *session, struct frontend *frontend,
	const struct config_device *config);
void session_close(struct session *session);

/** session_loaded() - the record as memory has it; takes both halves */
void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed);

/** session_observed() - the worker reported; takes observed */
void session_observed(struct session *session, Bh__Observed *observed);

/** session_attach() - a VMM is connected (fd consumed always) */
void session_attach(struct session *session, int fd, pid_t pid);

/** session_offered() - protocol features that this device may use */
uint64_t session_offered(const struct session *session);

/** session_refuse() - note why the message in work is refused; returns OUTCOME_REFUSED */
int session_refuse(struct session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** session_log() - what a peer did, rate-limited */
void session_log(struct session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** session_deposit() - the message's descriptors into the vault; fills n_fds tokens; 0 | refused */
int session_deposit(struct session *session, uint64_t *ret_tokens);

/* What a handler decides. */
enum {
	OUTCOME_REFUSED = -1,
	OUTCOME_DONE,    /* nothing to commit */
	OUTCOME_CHANGED, /* commit `next` */
	OUTCOME_WAIT,    /* commit it, and answer when the worker has applied it */
};

/** struct request_row - a row of the request table (requests.c) */
struct request_row {
	enum request request;
	const char *name;
	uint32_t size_min, size_max;    /* payload bytes */
	uint8_t fds_min, fds_max;
	enum protocol_feature needs;    /* must be acked; PF_NONE = nothing */
	enum {
		INDEX_NONE,
		INDEX_VRING,            /* u32 at the beginning */
		INDEX_VRING_FD,         /* bits 0-7 of a u64, bit 8 = no descriptor */
	} index;
	/* judges meaning, changes next; absent: OUTCOME_DONE */
	int (*handle)(struct session *session, const struct message *msg, Bh__Desired *next);
	/* the answer that is always owed: its bytes; absent: none is owed */
	size_t (*reply)(struct session *session, const struct message *msg, uint8_t *buf);
};

extern const struct request_row request_table[];

/** requests_find() - by number; NULL = unknown */
const struct request_row *requests_find(uint32_t request);

/** requests_check() - is the message right in form; 0 | OUTCOME_REFUSED */
int requests_check(struct session *session, const struct request_row *row, struct message *msg);

/** ring_get() - the ring of that index in a record, made if it is not there; NULL without memory */
Bh__Ring *ring_get(Bh__Desired *desired, uint32_t index);
/** ring_find() - or NULL */
Bh__Ring *ring_find(const Bh__Desired *desired, uint32_t index);
/** region_add() - an empty region at the end; NULL without memory */
Bh__Region *region_add(Bh__Desired *desired);
void regions_clear(Bh__Desired *desired);
/** desired_copy() - with the next generation */
Bh__Desired *desired_next(const Bh__Desired *desired);
