#pragma once

#include <systemd/sd-event.h>

#include "exchange.h"

/*
 * The connection of an exchange, and what belongs to it: the back-end channel, the staged reply,
 * the process at the other end. All of it lies in the fd store as well, under the name of the
 * device, from before anything is read from it.
 */

/** connection_resume() - what a former process had of this VMM; conn_fd stays -1 where it had none
 * @event: borrowed, for the life of the session */
void connection_resume(struct exchange *exchange, sd_event *event);

/** connection_begin() - a VMM's socket (taken over) that is not in the fd store yet */
void connection_begin(struct exchange *exchange, int fd);

/** connection_accept() - the next VMM in the queue of a listening socket, if there is one; else
 * conn_fd stays -1 */
void connection_accept(struct exchange *exchange, int listen_fd);

/** connection_close() - end it, with all that belongs to it; nothing of it is in the fd store any
 * more */
void connection_close(struct exchange *exchange);

/** connection_pid() - of the process that connected a socket; 0 = it cannot be seen from here */
pid_t connection_pid(int fd);
