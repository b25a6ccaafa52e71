/*
 * The status of guests. Each is known by its file, its service manager and its memory manager. A
 * memory manager that is dead, or that we may not ask, is a fault to be told like any other, and
 * hides nothing of what the other two say.
 */
#include "status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alive.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "bus/bus.h"
#include "guests.h"
#include "launched.h"
#include "query.h"
#include "show.h"
#include "units.h"

/** struct look - at all guests */
struct look {
	const struct status_wish *wish;
	const char *config_dir; /* NULL = files are not looked for */
	const struct show *show;
	struct units units;
	int units_error; /* of units_read(); 0 = they are known */
	bool unhealthy, unclear;
};

static void show_nothing(void)
{
}

static void show_no_guest(const struct seen *seen)
{
}

static const struct show show_quiet = { show_nothing, show_no_guest, show_nothing };

/* --- One guest --- */

static char *file_of(const struct look *look, const char *guest)
{
	char *path;

	check(asprintf(&path, "%s/%s.conf", look->config_dir, guest) >= 0);
	return path;
}

static void look_at_file(struct look *look, struct seen *seen)
{
	_cleanup_free_ char *path = look->config_dir ? file_of(look, seen->name) : NULL;

	if (path && (access(path, F_OK) == 0 || errno == EACCES))
		seen_file(seen, path);
}

static bool look_at_units(struct look *look, struct seen *seen)
{
	if (look->units_error || !(seen->file || units_has(&look->units, seen->name)))
		return false;
	units_look(&look->units, seen);
	return true;
}

/* systemd runs here, and nobody serves what has a file: its units are to be started. */
static void judge_manager(struct look *look, struct seen *seen)
{
	bool known = seen->file || seen->n_processes ||
		query_answers(look->wish->runtime_dir, seen->name) != ANSWERS_NOBODY;

	if (!known)
		seen_fault(seen, "there is no such guest: no file of it%s%s, and nobody serves it",
			look->config_dir ? " in " : "", look->config_dir ?: "");
	else if (!seen->file && seen->manager == SEEN_SYSTEMD)
		seen_fault(seen, "its file is gone from %s, and its processes still run",
			look->config_dir);
	if (look->units_error && look->units_error != -ENOENT && seen->manager == SEEN_NOBODY)
		seen_unclear(seen, "systemd cannot be asked for its units: %s",
			strerror(-look->units_error));
}

static void on_reply(const Bh__GetStatusReply *reply, void *data)
{
	struct seen *seen = ((void **)data)[0];
	struct look *look = ((void **)data)[1];

	seen_reply(seen, reply);
	seen_judge(seen);
	look->show->guest(seen);
	seen->reply = NULL;
}

/* Asking a dead process takes until the time is over. */
static bool memory_runs(const struct seen *seen)
{
	for (size_t i = 0; i < seen->n_processes; i++)
		if (strcmp(seen->processes[i].name, "memory") == 0)
			return seen->processes[i].pid > 0 &&
				alive_ms(seen->processes[i].pid) != -ESRCH;
	return !seen->dead;
}

/* Returns 0: it has answered, and the guest was shown. */
static int ask_memory(struct look *look, struct seen *seen)
{
	const char *runtime_dir = look->wish->runtime_dir;
	void *data[] = { seen, look };
	int r = query_allowed(runtime_dir, seen->name);

	if (r == -EACCES)
		seen_unclear(seen,
			"user %u may not ask its memory manager; run this as root, or as the user who runs the launcher",
			geteuid());
	if (r < 0 || (seen->manager != SEEN_NOBODY && !memory_runs(seen)))
		return -ENOENT;
	r = query_status(runtime_dir, seen->name, BUS_TIMEOUT_MS, on_reply, data);
	if (r < 0)
		seen_fault(seen, "its memory manager: %s", query_why(r));
	return r;
}

static void look_at(struct look *look, const char *name)
{
	struct seen seen = { .name = strdup(name) };

	check(seen.name);
	if (!launched_look(look->wish->runtime_dir, &seen)) {
		look_at_file(look, &seen);
		(void)look_at_units(look, &seen);
	}
	judge_manager(look, &seen);
	if (ask_memory(look, &seen) < 0) {
		seen_judge(&seen);
		look->show->guest(&seen);
	}
	look->unhealthy |= seen.health == SEEN_UNHEALTHY;
	look->unclear |= seen.health == SEEN_UNCLEAR;
	seen_deinit(&seen);
}

/* --- All --- */

static int look_at_all(struct look *look)
{
	struct guests guests = { 0 };
	const struct units *units = look->units_error ? NULL : &look->units;
	int r = guests_find(look->wish->runtime_dir, look->config_dir, units, &guests);

	for (size_t i = 0; i < guests.n; i++)
		look_at(look, guests.names[i]);
	if (r < 0) {
		look->unclear = true;
		fprintf(stderr, "%s or %s cannot be read: %s; there may be more guests\n",
			look->wish->runtime_dir, look->config_dir ?: "the folder of files",
			strerror(-r));
	} else if (guests.n == 0 && !look->wish->quiet) {
		fprintf(stderr, "No guest: none is served under %s%s%s.\n", look->wish->runtime_dir,
			look->config_dir ? ", and no file is in " : "", look->config_dir ?: "");
	}
	guests_deinit(&guests);
	return r;
}

/* The files in /etc/bulkhead, and systemd's units, are served in the default folder. */
static void choose_sources(struct look *look)
{
	bool usual = strcmp(look->wish->runtime_dir, BULKHEAD_RUNDIR) == 0;

	look->config_dir = look->wish->config_dir ?: usual ? BULKHEAD_CONFDIR : NULL;
	look->units_error = usual ? units_read(&look->units) : -ENOENT;
}

int status_run(const struct status_wish *wish)
{
	struct look look = { .wish = wish,
		.show = wish->quiet  ? &show_quiet
			: wish->json ? &show_json
				     : &show_table };

	choose_sources(&look);
	look.show->begin();
	for (size_t i = 0; i < wish->n_names; i++)
		look_at(&look, wish->names[i]);
	if (wish->n_names == 0)
		(void)look_at_all(&look);
	look.show->end();
	units_deinit(&look.units);
	return look.unhealthy ? STATUS_UNHEALTHY : look.unclear ? STATUS_UNCLEAR : STATUS_HEALTHY;
}
