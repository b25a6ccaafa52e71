/*
 * The service manager hands back what was stored, by name, at the next start. What nobody takes by the end
 * of start-up is stale, and is dropped from the store as well: it would pin guest memory for good.
 */
#include "fd/fdstore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/log.h"

static struct {
	char **names;
	int *fds;
	int n;
} store;

int fdstore_init(void)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return n;
	store.names = names;
	store.n = n;
	store.fds = calloc((size_t)n + 1, sizeof(int));
	if (!store.fds)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		store.fds[i] = SD_LISTEN_FDS_START + i;
	return 0;
}

bool fdstore_available(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

int fdstore_take(const char *name)
{
	for (int i = 0; i < store.n; i++)
		if (store.fds[i] >= 0 && strcmp(store.names[i], name) == 0)
			return fd_steal(&store.fds[i]);
	return -ENOENT;
}

const char *fdstore_next(const char *prefix)
{
	for (int i = 0; i < store.n; i++)
		if (store.fds[i] >= 0 && strncmp(store.names[i], prefix, strlen(prefix)) == 0)
			return store.names[i];
	return NULL;
}

int fdstore_push(const char *name, int fd)
{
	char text[512];
	int r;

	if (!fdstore_available())
		return 0;
	/* FDPOLL=0: a hung-up connection is ours to judge, not the service manager's */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	r = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
	if (r < 0)
		log_warning("cannot store the descriptor '%s': %s", name, strerror(-r));
	return r < 0 ? r : 0;
}

int fdstore_remove(const char *name)
{
	char text[512];

	if (!fdstore_available())
		return 0;
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return sd_notify(0, text) < 0 ? -EIO : 0;
}

void fdstore_close_rest(void)
{
	for (int i = 0; i < store.n; i++) {
		store.fds[i] = fd_close(store.fds[i]);
		free(store.names[i]);
	}
	free(store.names);
	free(store.fds);
	store.names = NULL;
	store.fds = NULL;
	store.n = 0;
}

void fdstore_drop_rest(void)
{
	for (int i = 0; i < store.n; i++)
		if (store.fds[i] >= 0)
			(void)fdstore_remove(store.names[i]);
	fdstore_close_rest();
}
