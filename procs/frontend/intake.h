#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "wire.h"

/*
 * A descriptor from a VMM does not enter this process's table until it is known to be harmless,
 * because closing it may block: close() of a file on FUSE asks the file server, and the last
 * close() of a TCP connection may wait for its peer. A separate process, the looker, inspects it
 * first. The looker is forked on demand, exits when idle, and is the one that blocks.
 */

enum {
	_INTAKE_E_OK = 0,
	INTAKE_E_FOREIGN, /* one of them is of no kind that is taken */
};

/** intake_open() - for the life of the process, whose only loop it is; may be called again */
void intake_open(sd_event *event);
/** intake_close() - whatever waits for a stranger is not waited for */
void intake_close(void);

/**
 * intake_look() - at the descriptors that come with a message of a VMM's connection
 * @conn_fd:  borrowed; its peek offset is moved
 * @at:       where the message begins, in bytes behind what comes first in the socket
 * @n_bytes:  of the message
 * @ret_n:    [out] on 0: so many are in sight, from the first on, and all are harmless
 * @ret_text: [out] on INTAKE_E_FOREIGN: what the first one is that is not, and what is taken
 *
 * Errors:  0 | INTAKE_E_FOREIGN: the looker holds them until intake_forget(), so that whoever takes
 *          the message out of the socket is not the last who had them | negative errno: no looker
 *          can be had; -EBUSY: too many of them wait for strangers.
 * Cost:    a local round trip, at most a second; the first one a fork().
 */
int intake_look(int conn_fd, size_t at, size_t n_bytes, size_t *ret_n,
	char ret_text[FD_KIND_TEXT_BYTES]);

/** intake_forget() - the message is out of the socket; nothing if nothing is held */
void intake_forget(void);

/**
 * intake_drain() - end a stream socket that a VMM may have filled: who closes it waits for nobody
 * @fd: borrowed; nothing can be sent or received on it any more, and it holds nothing
 */
void intake_drain(int fd);

#define INTAKE_TAKE_MAX 64

/**
 * intake_peek() - look at a message in a socket of which the VMM may have either end; it stays
 * there
 * @fd:       borrowed; on 0 its peek offset is n
 * @header:   what it must begin with, but for the request
 * @requests: bits of those that are possible
 * @buf:      [out] on 0: all of it
 * @n:        its bytes, up to INTAKE_TAKE_MAX
 *
 * Errors: 0 | -EAGAIN: it is not all there | INTAKE_E_FOREIGN: another message is, or descriptors
 *         came; nothing more is to be taken out of this socket | other negative errno: no looker
 *         can be had.
 * Cost:   as intake_look().
 */
int intake_peek(int fd, const struct header *header, uint32_t requests, void *buf, size_t n);

/** intake_take() - take the n bytes of such a message, which lowers the peek offset to 0 by the
 * same step. 0, also when they are gone | INTAKE_E_FOREIGN, negative errno: as above */
int intake_take(int fd, size_t n);

/** intake_is_peeked() - whether n bytes were looked at and not taken, by whichever process */
bool intake_is_peeked(int fd, size_t n);

/** intake_empty() - the same with the sockets that came with a message, if nobody made use of
 * them */
void intake_empty(const struct message *msg);
