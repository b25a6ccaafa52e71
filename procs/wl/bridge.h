#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/*
 * The resource bridge: the GPU device of the same guest, in another process, gives the descriptor
 * of a virtio-gpu resource or fence (crosvm's protocol: one JSON text a packet). All functions
 * belong to the loop thread, and none blocks.
 */

enum bridge_what {
	BRIDGE_BUFFER, /* id: of a resource */
	BRIDGE_FENCE,  /* id: its number */
};

enum {
	_BRIDGE_E_OK = 0,
	BRIDGE_E_WAIT = 1, /* it was asked; on_answer() tells when to ask again */
	BRIDGE_E_NONE = 2, /* there is no such thing, or no bridge */
};

struct bridge;

/** bridge_new() - for the socket of that path (copied); NULL = no memory
 * @on_answer: a question that was BRIDGE_E_WAIT may be asked again */
struct bridge *bridge_new(sd_event *event, const char *path, void (*on_answer)(void *data),
	void *data);
/** bridge_free() - NULL is fine; returns NULL */
struct bridge *bridge_free(struct bridge *bridge);

/** bridge_ask() - ask for a descriptor. Asked again with the same arguments after BRIDGE_E_WAIT, it
 * returns the answer of the first time; the answer is given once.
 * @bridge: [in]  NULL: there is none
 * @ret_fd: [out] the caller's; set on 0 only
 *
 * Errors: 0 | BRIDGE_E_*. */
int bridge_ask(struct bridge *bridge, enum bridge_what what, uint64_t id, int *ret_fd);

/** bridge_forget() - the guest is gone: drop questions and answers */
void bridge_forget(struct bridge *bridge);
