#pragma once

#include "bus/endpoint.h"

#define LINE_HELLO_BYTES 8

enum line_state {
	LINE_SILENT,   /* its hello is not complete */
	LINE_GREETING, /* nng has it, and has not said its own: not to be ended now */
	LINE_OPEN,     /* bytes are carried to and fro */
	LINE_ENDING,   /* it is gone, and nng is to notice */
};

struct gate_line;

/** struct gate_lines - all who came through one gate; filled by the gate, but for the list and its length */
struct gate_lines {
	struct bus_endpoint *endpoint;
	uint8_t hello[LINE_HELLO_BYTES]; /* what a peer of ours begins with */
	TAILQ_HEAD(, gate_line) all;     /* in the order in which they came */
	unsigned int n;
	/** on_room() - a place has become free, or could be made; it may end any of the lines */
	void (*on_room)(struct gate_lines *lines);
};

/** line_new() - somebody has connected; fd is the line's when 0 is returned | -ENOMEM, ... */
int line_new(struct gate_lines *lines, int fd, uid_t uid);

/** line_end() - for our part: at once, or as soon as nng has noticed; the line may be gone then */
void line_end(struct gate_line *line);

/** line_free() - at once, whatever nng thinks of it; returns NULL */
struct gate_line *line_free(struct gate_line *line);

/** line_next() - the one that came after that one (NULL: the first); or NULL */
struct gate_line *line_next(const struct gate_lines *lines, const struct gate_line *line);

/** line_uid() - the user of whoever connected, as the kernel names it */
uid_t line_uid(const struct gate_line *line);
/** line_state() - how far it has come */
enum line_state line_state(const struct gate_line *line);
/** line_has_spoken() - whether anything came from it after its hello */
bool line_has_spoken(const struct gate_line *line);
