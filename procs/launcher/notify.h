#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Notifications, as systemd's children know them: datagrams of KEY=value lines, perhaps with descriptors. */

#define NOTIFY_TEXT_MAX 4096
#define NOTIFY_FDS_MAX 253
#define NOTIFY_NAME_MAX 255

struct notification {
	char text[NOTIFY_TEXT_MAX + 1];
	pid_t pid;                 /* who sent it, as the kernel says; 0 = it did not */
	int fds[NOTIFY_FDS_MAX];   /* owned, see notify_release() */
	size_t n_fds;
};

/** notify_bind() - a socket at that path, which that user alone may send to; the descriptor | negative errno */
int notify_bind(const char *path, uid_t user);

/** notify_receive() - the next one; 0 | -EAGAIN there is none | other negative errno */
int notify_receive(int fd, struct notification *ret);
/** notify_release() - close the descriptors that were not taken */
void notify_release(struct notification *n);

/** notify_says() - whether a line says KEY=value */
bool notify_says(const char *text, const char *key, const char *value);
/** notify_name() - the value of FDNAME=, if it is one that may be handed back in LISTEN_FDNAMES */
bool notify_name(const char *text, char *buf, size_t n);
