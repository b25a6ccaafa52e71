#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Notifications as in sd_notify(3): datagrams of KEY=value lines, which may carry descriptors. */

#define NOTIFY_TEXT_MAX 4096
#define NOTIFY_FDS_MAX 253
#define NOTIFY_NAME_MAX 255
#define NOTIFY_STATUS_MAX 400 /* of a text for the operator, which is cut */

struct notification {
	char text[NOTIFY_TEXT_MAX + 1];
	pid_t pid;               /* who sent it, as the kernel says; 0 = it did not */
	int fds[NOTIFY_FDS_MAX]; /* owned, see notify_release() */
	size_t n_fds;
};

/** notify_bind() - make a socket at that path, to which that user alone may send, in the place of
 * an older one
 * Returns: the descriptor | negative errno. */
int notify_bind(const char *path, uid_t user);

/** notify_receive() - receive the next notification, without waiting
 * Errors: 0: notify_release() closes what is not taken | -EAGAIN: there is none | another negative
 *         errno. */
int notify_receive(int fd, struct notification *ret);
/** notify_release() - close the descriptors that were not taken */
void notify_release(struct notification *n);

/** notify_says() - whether a line of the text is KEY=value; a value of 16 characters or more
 * matches nothing */
bool notify_says(const char *text, const char *key, const char *value);
/** notify_status() - copy the value of STATUS=, cut at n bytes; false: there is none */
bool notify_status(const char *text, char *buf, size_t n);
/** notify_name() - copy the value of FDNAME=; false: there is none, or LISTEN_FDNAMES could not
 * carry it */
bool notify_name(const char *text, char *buf, size_t n);
