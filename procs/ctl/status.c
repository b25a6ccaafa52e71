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
#include "base/check.h"
#include "base/cleanup.h"
#include "bus/bus.h"
#include "look.h"
#include "query.h"
#include "show.h"

/** struct view - of all guests */
struct view {
	const struct status_wish *wish;
	const struct show *show;
	struct look look;
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

static void judge_unknown(const struct look *look, struct seen *seen)
{
	if (look->guests_error < 0)
		seen_unclear(seen, "its file cannot be looked for in %s: %s", look->config_dir,
			strerror(-look->guests_error));
	else
		seen_fault(seen, "there is no such guest: no file of it%s%s, and nobody serves it",
			look->config_dir ? " in " : "", look->config_dir ?: "");
}

/* systemd runs here, and nobody serves what has a file: its units are to be started. */
static void judge_manager(const struct look *look, struct seen *seen)
{
	if (!seen->file && !seen->n_processes &&
		query_answers(look->runtime_dir, seen->name) == ANSWERS_NOBODY)
		judge_unknown(look, seen);
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
	struct view *view = ((void **)data)[1];

	seen_reply(seen, reply);
	seen_judge(seen);
	view->show->guest(seen);
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
static int ask_memory(struct view *view, struct seen *seen)
{
	const char *runtime_dir = view->wish->runtime_dir;
	void *data[] = { seen, view };
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

static void look_at(struct view *view, const char *name)
{
	struct seen seen;

	look_guest(&view->look, name, &seen);
	judge_manager(&view->look, &seen);
	if (ask_memory(view, &seen) < 0) {
		seen_judge(&seen);
		view->show->guest(&seen);
	}
	view->unhealthy |= seen.health == SEEN_UNHEALTHY;
	view->unclear |= seen.health == SEEN_UNCLEAR;
	seen_deinit(&seen);
}

/* --- All --- */

static void look_at_all(struct view *view)
{
	const struct look *look = &view->look;

	for (size_t i = 0; i < look->guests.n; i++)
		look_at(view, look->guests.names[i]);
	if (look->guests_error < 0) {
		view->unclear = true;
		fprintf(stderr, "%s or %s cannot be read: %s; there may be more guests\n",
			look->runtime_dir, look->config_dir ?: "the folder of files",
			strerror(-look->guests_error));
	} else if (look->guests.n == 0 && !view->wish->quiet) {
		fprintf(stderr, "No guest: none is served under %s%s%s.\n", look->runtime_dir,
			look->config_dir ? ", and no file is in " : "", look->config_dir ?: "");
	}
}

int status_run(const struct status_wish *wish)
{
	struct view view = { .wish = wish,
		.show = wish->quiet  ? &show_quiet
			: wish->json ? &show_json
				     : &show_table };

	look_open(&view.look, wish->runtime_dir, wish->config_dir);
	view.show->begin();
	for (size_t i = 0; i < wish->n_names; i++)
		look_at(&view, wish->names[i]);
	if (wish->n_names == 0)
		look_at_all(&view);
	view.show->end();
	look_close(&view.look);
	return view.unhealthy ? STATUS_UNHEALTHY : view.unclear ? STATUS_UNCLEAR : STATUS_HEALTHY;
}
