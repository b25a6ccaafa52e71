/*
 * All files are judged first. What each guest needs follows from the difference between its file
 * and the configuration in force (config/plan.h), and whatever should run and does not is started.
 */
#include "apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "bus/bus.h"
#include "check.h"
#include "job.h"
#include "query.h"
#include "systemctl.h"
#include "upgrade.h"

/* --- Which guests --- */

static int choose(struct host *host, char *guests[], size_t n)
{
	int r = 0;

	for (size_t i = 0; n == 0 && i < host->n_guests; i++)
		host->guests[i].chosen = true;
	for (size_t i = 0; i < n; i++) {
		struct host_guest *guest = host_find(host, guests[i]);

		if (guest) {
			guest->chosen = true;
			continue;
		}
		fprintf(stderr,
			"%s: there is no such guest; a guest is a file like " BULKHEAD_CONFDIR
			"/%s.conf\n",
			guests[i], guests[i]);
		r = -ENOENT;
	}
	return r;
}

static int judge(struct host *host)
{
	int r = 0;

	host_judge(host);
	for (size_t i = 0; i < host->n_guests; i++) {
		const struct host_guest *guest = &host->guests[i];

		if (guest->chosen && !guest->gone && check_report(guest))
			r = -EINVAL;
	}
	if (r < 0)
		fputs("nothing has been changed\n", stderr);
	return r;
}

/* --- What is to be done --- */

static int plan_guest(struct job *job)
{
	const struct host_guest *guest = job->guest;

	job->config = host_config(guest);
	job->launched = upgrade_is_launched(job->runtime_dir, guest->name);
	if (!job->launched && !systemctl_is_there()) {
		fprintf(stderr,
			"%s: no launcher serves it, and systemd does not run here; start it: bulkhead run %s\n",
			guest->name, guest->path);
		return -ESRCH;
	}
	if (job->launched && !job->config) {
		fprintf(stderr,
			"%s: its file %s is gone; put it back, or end the launcher that serves it\n",
			guest->name, guest->path);
		return -ENOENT;
	}
	plan_make(&job->plan, guest->runs || job->launched ? guest->copy : NULL, job->config);
	if (!job->launched && guest->runs)
		apply_look(job);
	return 0;
}

/* --- Saying it --- */

struct attached {
	const char *name;
	bool is;
};

static void look_at(const Bh__GetStatusReply *status, void *data)
{
	struct attached *device = data;

	for (size_t i = 0; i < status->n_devices; i++)
		if (strcmp(status->devices[i]->name, device->name) == 0)
			device->is = status->devices[i]->vmm_connected;
}

static bool has_vmm(const struct job *job, const struct plan_item *item)
{
	struct attached device = { .name = item->name };

	(void)query_status(job->runtime_dir, job->guest->name, BUS_TIMEOUT_MS, look_at, &device);
	return device.is;
}

static void say_process(const struct job *job, const struct plan_item *item)
{
	static const char *const verbs[] = { "", "stop", "restart", "start" };
	const char *cost = "";

	if (item->action == PLAN_STOP && item->role->per_device)
		cost = has_vmm(job, item) ? "; a VMM is connected, and loses the device" : "";
	if (item->action == PLAN_RESTART)
		cost = item->role->per_device ? "; its rings pause" : "; no VM notices";
	printf("%s:%s: %s%s\n", job->guest->name, item->name, verbs[item->action], cost);
}

static void say_socket(const struct job *job, const struct plan_item *item)
{
	static const char *const texts[] = { "", "no longer listen", "listen on", "listen on" };

	printf("%s:%s: %s%s%s\n", job->guest->name, item->name, texts[item->action],
		item->path ? " " : "", item->path ?: "");
}

static void say(const struct job *job)
{
	for (size_t i = 0; i < job->plan.n_items; i++) {
		const struct plan_item *item = &job->plan.items[i];

		if (item->action == PLAN_LEAVE)
			continue;
		if (item->role)
			say_process(job, item);
		else
			say_socket(job, item);
	}
	if (plan_is_empty(&job->plan))
		printf("%s: nothing to do\n", job->guest->name);
}

/* --- Doing it --- */

static int carry_out(struct job *jobs, size_t n, bool all)
{
	int r = 0, last;

	for (size_t i = 0; i < n; i++) {
		if (!jobs[i].launched)
			continue;
		last = apply_launcher(&jobs[i]);
		r = r ?: last;
	}
	last = systemctl_is_there() ? apply_systemd(jobs, n, all) : 0;
	return r ?: last;
}

static int apply(const char *runtime_dir, struct host *host, bool all, bool dry_run)
{
	struct job *jobs = calloc(host->n_guests + 1, sizeof(*jobs));
	size_t n = 0;
	int r = 0;

	check(jobs);
	for (size_t i = 0; r == 0 && i < host->n_guests; i++) {
		if (!host->guests[i].chosen)
			continue;
		jobs[n] = (struct job){ .runtime_dir = runtime_dir, .guest = &host->guests[i] };
		r = plan_guest(&jobs[n++]);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		say(&jobs[i]);
	if (r == 0 && !dry_run)
		r = carry_out(jobs, n, all);
	for (size_t i = 0; i < n; i++)
		plan_deinit(&jobs[i].plan);
	free(jobs);
	return r;
}

/* Of two at a time, one waits. */
static int lock(const char *runtime_dir)
{
	int fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		(void)flock(fd, LOCK_EX);
	return fd;
}

int apply_run(const char *runtime_dir, char *guests[], size_t n, bool dry_run)
{
	int lock_fd = dry_run ? -1 : lock(runtime_dir);
	struct host host = { 0 };
	int r;

	check_host(&host, runtime_dir, NULL);
	r = choose(&host, guests, n);
	if (r == 0)
		r = judge(&host);
	if (r == 0 && host.n_guests == 0)
		puts("there are no guests");
	if (r == 0)
		r = apply(runtime_dir, &host, n == 0, dry_run);
	host_deinit(&host);
	if (lock_fd >= 0)
		close(lock_fd);
	return r;
}
