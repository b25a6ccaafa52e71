#include "job.h"

#include <stdio.h>
#include <string.h>

#include "config/force.h"

bool job_changes(const struct job *job)
{
	const struct config *former = job->guest->copy;

	return job->config && former ? !force_is(job->config, former) : job->config != former;
}

int job_put_in_force(const struct job *job)
{
	int r = 0;

	if (!job->config)
		force_drop(job->runtime_dir, job->guest->name);
	else if (job_changes(job))
		r = force_put(job->runtime_dir, job->config);
	if (r < 0)
		fprintf(stderr, "%s: the configuration in force cannot be written below %s: %s\n",
			job->guest->name, job->runtime_dir, strerror(-r));
	return r;
}
