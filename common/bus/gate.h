#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "bus/internal.h"

/* What gate.c (the door) and line.c (who came through it) share. */

#define GATE_HELLO_BYTES 8

enum line_state {
	LINE_SILENT,   /* its hello is not complete */
	LINE_GREETING, /* nng has it, and has not said its own: not to be ended now */
	LINE_OPEN,     /* bytes are carried to and fro */
	LINE_ENDING,   /* it is gone, and nng is to notice */
};

struct gate_line;

struct bus_gate {
	struct bus_endpoint *endpoint;
	uint8_t hello[GATE_HELLO_BYTES]; /* what a peer of ours begins with */
	int listen_fd;
	sd_event_source *listen_source; /* off: there is no place, or no descriptor */
	sd_event_source *pause;         /* on: until then there is no descriptor */
	sd_event_source *removal;       /* a file of that directory was taken away */
	TAILQ_HEAD(gate_lines, gate_line) lines; /* in the order in which they came */
	unsigned int n_lines;
};

/** gate_look() - a place has become free, or could be made; whichever line it was may be gone after this */
void gate_look(struct bus_gate *gate);

/** line_new() - somebody has connected; fd is the line's when 0 is returned | -ENOMEM, ... */
int line_new(struct bus_gate *gate, int fd, uid_t uid);

/** line_end() - for our part: at once, or as soon as nng has noticed; the line may be gone then */
void line_end(struct gate_line *line);

/** line_free() - at once, whatever nng thinks of it; returns NULL */
struct gate_line *line_free(struct gate_line *line);

/** line_next() - the one that came after that one (NULL: the first); or NULL */
struct gate_line *line_next(const struct bus_gate *gate, const struct gate_line *line);

uid_t line_uid(const struct gate_line *line);
enum line_state line_state(const struct gate_line *line);
/** line_has_spoken() - whether anything came from it after its hello */
bool line_has_spoken(const struct gate_line *line);
