/* The launcher reads the guest's file when it takes its own place. It starts and ends what came and
 * went; processes that have to read the new configuration are replaced one at a time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/force.h"
#include "job.h"
#include "upgrade.h"

static int replace(const struct job *job, const char *process)
{
	_cleanup_free_ char *which = NULL;

	check(asprintf(&which, "%s:%s", job->guest->name, process) >= 0);
	return upgrade_replace(job->runtime_dir, which);
}

static bool is_in_force(const struct job *job)
{
	struct config *now = force_load(job->runtime_dir, job->guest->name);
	bool is = now && force_is(now, job->config);

	config_free(now);
	return is;
}

int apply_launcher(const struct job *job)
{
	int r;

	if (plan_is_empty(&job->plan) && is_in_force(job))
		return 0;
	r = replace(job, "launcher");
	if (r == 0 && !is_in_force(job)) {
		fprintf(stderr, "%s: the launcher has not taken the file; see its log\n",
			job->guest->name);
		return -EIO;
	}
	for (size_t i = 0; r == 0 && i < job->plan.n_items; i++) {
		const struct plan_item *item = &job->plan.items[i];

		if (item->role && item->action == PLAN_RESTART && !item->second)
			r = replace(job, item->name);
	}
	return r;
}
