/*
 * The order matters. What ends is stopped while its unit still exists, since systemd forgets the
 * sockets of a unit that is gone. A socket can be started only while its service does not run, so
 * the frontend is restarted and takes its sockets along.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/force.h"
#include "config/unit.h"
#include "job.h"
#include "systemctl.h"

static char *unit_of(const struct plan_item *item)
{
	return item->role ? unit_name(item->role->name, item->instance, "service")
			  : unit_name("frontend", item->instance, "socket");
}

/* --- What is not as it should be --- */

void apply_look(struct job *job)
{
	struct unit_names units = { 0 };
	bool *active = calloc(job->plan.n_items + 1, sizeof(*active));

	check(active);
	for (size_t i = 0; i < job->plan.n_items; i++)
		unit_names_add(&units, unit_of(&job->plan.items[i]));
	systemctl_active(&units, active);
	for (size_t i = 0; i < job->plan.n_items; i++) {
		struct plan_item *item = &job->plan.items[i];

		if (!active[i] && item->action != PLAN_STOP)
			plan_start(&job->plan, item);
	}
	free(active);
	unit_names_deinit(&units);
}

/* --- The steps --- */

typedef bool (*wanted_fn)(const struct plan_item *item);

static bool ends(const struct plan_item *item)
{
	return item->action == PLAN_STOP || (!item->role && item->action == PLAN_RESTART);
}

static bool is_shared_and_restarts(const struct plan_item *item)
{
	return item->role && !item->role->per_device && item->action == PLAN_RESTART;
}

static bool is_worker_and_restarts(const struct plan_item *item)
{
	return item->role && item->role->per_device && item->action == PLAN_RESTART;
}

static bool starts(const struct plan_item *item)
{
	return item->role && item->action == PLAN_START;
}

static bool is_touched(const struct plan_item *item)
{
	return item->action == PLAN_START || item->action == PLAN_RESTART;
}

static void collect(struct unit_names *units, const struct job *jobs, size_t n, wanted_fn wanted)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; !jobs[i].launched && j < jobs[i].plan.n_items; j++)
			if (wanted(&jobs[i].plan.items[j]))
				unit_names_add(units, unit_of(&jobs[i].plan.items[j]));
}

static int step(const char *verb, const struct job *jobs, size_t n, wanted_fn wanted)
{
	struct unit_names units = { 0 };
	int r;

	collect(&units, jobs, n, wanted);
	r = systemctl_run(verb, &units);
	unit_names_deinit(&units);
	return r;
}

static int put_in_force(const struct job *jobs, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (!jobs[i].launched)
			r = job_put_in_force(&jobs[i]);
	return r;
}

static int start_target(void)
{
	struct unit_names units = { 0 };
	char *name = strdup("bulkhead.target");
	int r;

	unit_names_add(&units, name);
	r = systemctl_run("start", &units);
	unit_names_deinit(&units);
	return r;
}

/* --- The outcome --- */

static int report(const struct job *jobs, size_t n)
{
	struct unit_names units = { 0 };
	bool *active;
	int r = 0;

	collect(&units, jobs, n, is_touched);
	active = calloc(units.n + 1, sizeof(*active));
	check(active);
	systemctl_active(&units, active);
	for (size_t i = 0; i < units.n; i++) {
		if (active[i])
			continue;
		fprintf(stderr, "%s does not run; see why: systemctl status '%s'\n",
			unit_names_at(&units, i), unit_names_at(&units, i));
		r = -EIO;
	}
	free(active);
	unit_names_deinit(&units);
	return r;
}

static bool is_in_force(const struct job *job)
{
	const struct config *copy = job->guest->copy;

	return job->config ? copy && force_is(job->config, copy) : !copy;
}

/* Nothing to do for any of them: then not even the units are read again. */
static bool is_idle(const struct job *jobs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!jobs[i].launched && (!plan_is_empty(&jobs[i].plan) || !is_in_force(&jobs[i])))
			return false;
	return true;
}

int apply_systemd(struct job *jobs, size_t n, bool all)
{
	int r;

	if (is_idle(jobs, n))
		return all ? start_target() : 0;
	r = step("stop", jobs, n, ends);
	if (r == 0)
		r = put_in_force(jobs, n);
	if (r == 0)
		r = systemctl_reload();
	if (r < 0)
		return r;
	/* a failure shows in the outcome, and more exactly */
	(void)step("restart", jobs, n, is_shared_and_restarts);
	(void)step("restart", jobs, n, is_worker_and_restarts);
	(void)step("start", jobs, n, starts);
	if (all)
		(void)start_target();
	return report(jobs, n);
}
