/* A file is replaced by a rename. Processes that speak much are heard a few times a second. */
#include "told.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "guest.h"

#define SOON_USEC 100000

/* --- The file --- */

static const char *state_of(const struct child *child)
{
	if (child->guest->failed)
		return "given-up";
	return child->ready ? "running" : child->pid ? "starting" : "ended";
}

/* What a process said before it ended says more than its status does. */
static const char *reason_of(const struct child *child)
{
	return child->said ?: child->ready ? "" : child->end ?: "";
}

static void write_child(FILE *f, const struct child *child)
{
	if (!child->unwanted || child->pid)
		fprintf(f, "%s %s %d %s %u %s\n", child->peer, child->role, (int)child->pid,
			state_of(child), child->restarts, reason_of(child));
}

static int write_to(const struct guest *guest, const char *path)
{
	FILE *f = fopen(path, "we");
	int r;

	if (!f)
		return -errno;
	fprintf(f, "config %s\n", guest->home.config_path);
	for (size_t i = 0; i < guest->n_children; i++)
		write_child(f, &guest->children[i]);
	r = ferror(f) ? -EIO : 0;
	return fclose(f) == 0 ? r : -errno;
}

static char *path_of(const struct guest *guest, const char *suffix)
{
	char *path;

	check(asprintf(&path, "%s/%s%s", guest->home.runtime_dir, TOLD_FILE, suffix) >= 0);
	return path;
}

void told_write(struct guest *guest)
{
	_cleanup_free_ char *path = path_of(guest, ""), *draft = path_of(guest, ".new");
	int r = write_to(guest, draft);

	guest->note = sd_event_source_disable_unref(guest->note);
	if (r == 0 && rename(draft, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(draft);
	if (r < 0 && !guest->untold)
		log_warning("cannot write %s: %s; 'bulkheadctl status' does not show news of guest %s until there is room",
			path, strerror(-r), guest->home.name);
	guest->untold = r < 0;
}

void told_remove(struct guest *guest)
{
	_cleanup_free_ char *path = guest->home.runtime_dir ? path_of(guest, "") : NULL;

	guest->note = sd_event_source_disable_unref(guest->note);
	if (path && guest->home.lock_fd >= 0)
		(void)unlink(path);
}

/* --- Notes --- */

static int on_note(sd_event_source *source, uint64_t usec, void *data)
{
	told_write(data);
	return 0;
}

void told_note_status(struct child *child, const char *text)
{
	struct guest *guest = child->guest;

	if (child->said && strcmp(child->said, text) == 0)
		return;
	free(child->said);
	child->said = strdup(text);
	check(child->said);
	if (!guest->note)
		(void)sd_event_add_time_relative(guest->launcher->event, &guest->note,
			CLOCK_MONOTONIC, SOON_USEC, 0, on_note, guest);
}

/* What the process said of its state holds for it alone, but for why it gave up. */
void told_note_end(struct child *child, int wait_status)
{
	bool exited = WIFEXITED(wait_status);
	bool gave_up = exited && WEXITSTATUS(wait_status);

	free(child->end);
	if (exited)
		check(asprintf(&child->end, "%s%s(status %d)",
			      gave_up && child->said ? child->said : "it ended", " ",
			      WEXITSTATUS(wait_status)) >= 0);
	else
		check(asprintf(&child->end, "it was killed by signal %d (%s)",
			      WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status))) >= 0);
	free(child->said);
	child->said = NULL;
	child->ready = false;
}
