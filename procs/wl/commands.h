#pragma once

#include "request.h"
#include "wl.h"

/* The guest's commands. */

/**
 * command_execute() - do what a command asks for, but for what follows when it is answered
 * @note: [out] the answer, and what follows; its step is stored by the caller. Set unless the
 *        command waits
 *
 * A successor that finds no note executes the command again: what was done before is found, or
 * undone.
 *
 * Returns false if the command waits, for the VMM or another process: the out ring is woken when it
 * is to be executed again.
 */
bool command_execute(struct wl *wl, const struct request *request, const struct virtq_chain *chain,
	struct wl_note *note);

/** command_refuse() - the answer of this code (VIRTIO_WL_RESP_*), with nothing that follows */
void command_refuse(struct wl_note *note, uint32_t code);

/** command_follow() - do what follows, if it was not done yet */
void command_follow(struct wl *wl, const struct wl_note *note);
