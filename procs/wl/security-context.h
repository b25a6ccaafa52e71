#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * wp_security_context_v1, as far as a client speaks it that has nothing else to say: the compositor
 * is given a listening socket, and treats whoever connects there as a sandboxed client of that
 * name. For compositor.c alone.
 */

enum {
	_SECURITY_CONTEXT_E_OK = 0,         /* the compositor has not answered yet */
	SECURITY_CONTEXT_E_AGREED = 1,      /* from now on security_context_connect() may be used */
	SECURITY_CONTEXT_E_NOT_OFFERED = 2, /* the compositor has no such protocol */
	SECURITY_CONTEXT_E_FAILED = 3,      /* it hung up, refused, or speaks something else */
};

/** struct security_context_setting - borrowed for good */
struct security_context_setting {
	const char *folder; /* of this process alone, where a socket is made for a moment */
	const char *guest;
	const char *device;
};

struct security_context;

/** security_context_new() - begin on a new connection, whose other end has not been spoken to
 * @fd: consumed always
 * Returns: NULL: that is not possible, or no memory. */
struct security_context *security_context_new(const struct security_context_setting *setting,
	int fd);

/** security_context_free() - NULL is fine; returns NULL. Connections that were made stay, but
 * nobody can connect any more. */
struct security_context *security_context_free(struct security_context *context);

/** security_context_fd() - to be polled for reading: the connection */
int security_context_fd(const struct security_context *context);

/** security_context_read() - the connection is readable: read some of what has come. It goes on
 * after an agreement, too, and then tells by SECURITY_CONTEXT_E_FAILED when the compositor has
 * gone.
 * Errors: 0: nothing new | SECURITY_CONTEXT_E_*. */
int security_context_read(struct security_context *context);

/** security_context_connect() - connect a sandboxed client; never blocks: >= 0, the caller's |
 * negative errno, as of connect() */
int security_context_connect(const struct security_context *context);
