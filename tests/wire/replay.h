#ifndef TESTS_WIRE_REPLAY_H
#define TESTS_WIRE_REPLAY_H

/*
 * Message logs of real front-ends, read and played again. A log line is
 *
 *	MILLISECONDS F>B NAME (NUMBER) [NEED_REPLY] size=N field=value ...
 *
 * with B>F for replies (not used: a reply is checked against the protocol, not against the back-end
 * of that day), an indented line for the region of a memory table, and "frontend closed".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net.h"

#define LOG_MAX_EVENTS 256

struct log_event {
	bool closed; /* the front-end hung up; nothing else is set */
	uint32_t request;
	bool need_reply;
	uint32_t size;
	uint32_t n_fds;
	bool fd_is_socket;
	uint64_t value; /* u64= or the bare number of a feature message */
	struct vu_state state;
	struct vu_addr addr;
	struct vu_region region;
	struct vu_config_head config;
};

/* the front-end's side of the log; the number of events or a negative errno */
int log_read(const char *path, struct log_event *ret_events, size_t max);

struct replay_ring {
	struct vu_addr addr;
	uint32_t num, base;
	int call_fd, call_peer_fd, err_fd; /* until the ring takes them over; owned */
	bool addressed, started, enabled;
	bool socket_call;
};

/* what was peculiar about a front-end, seen while its log was played */
enum {
	SAW_ENABLE_FIRST = 1 << 0, /* a ring was enabled before SET_FEATURES */
	SAW_SOCKET_CALL = 1
		<< 1, /* a socket was handed over as call descriptor, and the device called on it */
	SAW_FEATURES_DROPPED = 1 << 2, /* PROTOCOL_FEATURES was given and taken back */
	SAW_REM_FD = 1 << 3,           /* REM_MEM_REG came with a descriptor, and was obeyed */
	SAW_HALF_BASE = 1 << 4,        /* a packed ring with the base of one half */
};

struct replay {
	struct net n;
	struct replay_ring rings[2 * NET_MAX_PAIRS];
	bool lax;           /* a peer is tested */
	uint32_t generated; /* bytes of the frames that the device makes up; 0: it is an echo */
	bool moved;         /* traffic was put through in this connection */
	uint64_t status;
	uint32_t n_frames; /* moved in all connections */
	uint32_t saw;      /* in all connections */
	bool features_set; /* in this connection */
	const char *why;
};

/* the steps of replay_connection(); all but the last return 0 or a negative errno */
int replay_open(struct replay *r, const char *socket);
int replay_event(struct replay *r, const struct log_event *event);
void replay_close(struct replay *r);
/* from this event on the log stops its rings or hangs up */
bool replay_ends(const struct log_event *event);

/* one connection's events, up to and with `closed`; how many were played or a negative errno */
int replay_connection(struct replay *r, const char *socket, const struct log_event *events,
	size_t n);

#endif
