/*
 * The level is changed by a signal (proc/levels.h). It would end a process that does not know it,
 * one of a former release, so each is asked first: who handles the signal has blocked it. The
 * number is what the memory manager says, which may have been compromised: only a process that
 * bears one of our names is signalled.
 */
#include "level.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "bus/bus.h"
#include "proc/levels.h"
#include "query.h"

#define NAMES "bulkhead"

/** struct change - of one guest */
struct change {
	const char *guest;
	const char *process; /* NULL = all of them */
	int signal;
	unsigned int n_changed, n_failed;
};

static bool handles(pid_t pid, int signal)
{
	char path[64], line[128], name[16] = "";
	uint64_t blocked = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "SigBlk: %" SCNx64, &blocked) != 1)
		(void)sscanf(line, "Name: %15s", name);
	if (f)
		fclose(f);
	return strncmp(name, NAMES, strlen(NAMES)) == 0 && (blocked >> (signal - 1) & 1);
}

static void change_one(struct change *change, const Bh__PeerStatus *peer)
{
	pid_t pid = (pid_t)peer->pid;
	const char *why = NULL;

	if (pid == 0)
		why = "it does not run";
	else if (!handles(pid, change->signal))
		why = "it is of a release that cannot change its level, or not visible from here";
	else if (kill(pid, change->signal) < 0)
		why = strerror(errno);
	if (why)
		fprintf(stderr, "%s:%s: not changed: %s\n", change->guest, peer->name, why);
	change->n_failed += why != NULL;
	change->n_changed += why == NULL;
}

static void on_status(const Bh__GetStatusReply *status, void *data)
{
	struct change *change = data;

	for (size_t i = 0; i < status->n_peers; i++)
		if (!change->process || strcmp(change->process, status->peers[i]->name) == 0)
			change_one(change, status->peers[i]);
}

int level_run(const char *runtime_dir, const char *which, const char *level)
{
	_cleanup_free_ char *guest = strdup(which);
	struct change change = { 0 };
	char *process;
	int r;

	check(guest);
	process = strchr(guest, ':');
	if (process)
		*process++ = '\0';
	if (strcmp(level, "debug") != 0 && strcmp(level, "info") != 0) {
		fprintf(stderr, "log-level: '%s' is no level; it can be debug or info\n", level);
		return -EINVAL;
	}
	change = (struct change){ .guest = guest,
		.process = process,
		.signal = strcmp(level, "debug") == 0 ? LEVELS_DEBUG : LEVELS_USUAL };
	r = query_status(runtime_dir, guest, BUS_TIMEOUT_MS, on_status, &change);
	if (r < 0)
		fprintf(stderr, "guest %s: %s\n", guest, query_why(r));
	else if (change.n_changed + change.n_failed == 0)
		fprintf(stderr,
			"guest %s has no process %s; 'bulkheadctl status %s' shows which it has\n",
			guest, process, guest);
	return r < 0 ? r : change.n_changed && !change.n_failed ? 0 : -ESRCH;
}
