#pragma once

#include "bus/endpoint.h"

#define LINE_HELLO_BYTES 8

enum line_state {
	LINE_SILENT,   /* the peer's hello is incomplete */
	LINE_GREETING, /* waiting for nng's hello; must not end now */
	LINE_OPEN,     /* relaying */
	LINE_ENDING,   /* the peer is gone, and nng has not noticed yet */
};

struct gate_line;

/** struct gate_lines - the connections of one gate; the gate fills all but the list and its
 * length */
struct gate_lines {
	struct bus_endpoint *endpoint;
	uint8_t hello[LINE_HELLO_BYTES];           /* that a peer must send */
	TAILQ_HEAD(gate_line_list, gate_line) all; /* oldest first */
	unsigned int n;
	/** on_room() - a place is free, or a line can be evicted now; may end any line */
	void (*on_room)(struct gate_lines *lines);
};

/** line_new() - relay for a new connection
 * @fd: the line's if 0 is returned, else the caller's
 * Errors: 0 | negative errno. */
int line_new(struct gate_lines *lines, int fd, uid_t uid);

/** line_end() - disconnect the peer; the line is freed now, or when nng has noticed */
void line_end(struct gate_line *line);

/** line_free() - disconnect both sides at once and free the line; returns NULL */
struct gate_line *line_free(struct gate_line *line);

/** line_next() - the next younger line; the oldest for NULL; NULL at the end */
struct gate_line *line_next(const struct gate_lines *lines, const struct gate_line *line);

/** line_uid() - the peer's user, from SO_PEERCRED */
uid_t line_uid(const struct gate_line *line);
/** line_state() - the state of the line */
enum line_state line_state(const struct gate_line *line);
/** line_has_spoken() - whether the peer has sent anything after its hello */
bool line_has_spoken(const struct gate_line *line);
