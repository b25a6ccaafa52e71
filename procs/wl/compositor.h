#pragma once

#include <stddef.h>
#include <systemd/sd-event.h>

/*
 * The compositors' sockets. A compositor that offers wp_security_context_v1 is told, on a
 * connection of our own, that what follows comes from a guest, and gives it only what sandboxed
 * clients get; contexts are then connected through the socket that was agreed on there.
 * All functions belong to the loop thread, and none blocks.
 */

#define COMPOSITOR_WAIT_MSEC 5000
#define COMPOSITOR_NAME_MAX 32 /* as in NEW_CTX_NAMED, without a closing 0 at the full length */

enum {
	_COMPOSITOR_E_OK = 0,
	COMPOSITOR_E_UNKNOWN = 1, /* no compositor has this name */
	COMPOSITOR_E_WAIT = 2, /* it is busy, or being asked: on_ready() tells when to try again */
	COMPOSITOR_E_GONE = 3, /* nobody listens, or it does not answer */
};

struct compositors;

/** struct compositors_setting - how they begin; all texts are borrowed for good */
struct compositors_setting {
	sd_event *event;
	const char *folder; /* of this process alone: a socket is made there for a moment */
	const char *guest;  /* what the compositor is told */
	const char *device;
	void (*on_ready)(void *data); /* a connect that was COMPOSITOR_E_WAIT may succeed now */
	void *data;
};

/** compositors_new() - none yet: NULL = no memory */
struct compositors *compositors_new(const struct compositors_setting *setting);
/** compositors_free() - NULL is fine; returns NULL. Connections stay with whoever has them. */
struct compositors *compositors_free(struct compositors *compositors);

/** compositors_add() - a socket's path and name (both are copied); "" is the unnamed one. A later
 * one of the same name replaces it.
 * Errors: 0 | -EINVAL: the name is too long | -ENAMETOOLONG: the path is | -ENOMEM. */
int compositors_add(struct compositors *compositors, const char *name, const char *path);

/**
 * compositors_connect() - connect to the compositor of that name
 * @name:   [in]  n_name bytes, without a 0
 * @ret_fd: [out] a connection, the caller's; set on 0 only
 *
 * Errors: 0 | COMPOSITOR_E_*; a compositor that stays busy for COMPOSITOR_WAIT_MSEC is _GONE.
 */
int compositors_connect(struct compositors *compositors, const char *name, size_t n_name,
	int *ret_fd);
