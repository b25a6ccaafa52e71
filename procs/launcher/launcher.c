/*
 * The service manager for where there is no systemd: it starts the processes of each guest, starts again
 * whatever ends, and keeps what they store. A process that ends before it was ever ready is a mistake in
 * the set-up, and ends its guest; after that, nothing does. One guest's trouble is no other's.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "child.h"

#define QUICK_USEC 1000000ULL     /* a life shorter than this is a quick death */
#define QUICK_FREE 5              /* so many in a row are restarted at once */
#define BACKOFF_MAX_USEC 5000000ULL
#define STOP_USEC 5000000ULL

/* --- Where the programs are --- */

static bool is_program(const char *dir, const char *rest)
{
	_cleanup_free_ char *path = NULL;

	check(asprintf(&path, "%s/%s", dir, rest) >= 0);
	return access(path, X_OK) == 0;
}

static int find_programs(struct launcher *launcher, const char *given)
{
	_cleanup_free_ char *build = NULL, *installed = NULL;
	const char *dirs[5] = { given ?: getenv("BULKHEAD_LIBEXEC") };
	size_t n = dirs[0] ? 1 : 0;
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len > 0 && n == 0) {
		self[len] = '\0';
		*strrchr(self, '/') = '\0';
		check(asprintf(&build, "%s/..", self) >= 0);
		check(asprintf(&installed, "%s/../libexec/bulkhead", self) >= 0);
		dirs[n++] = installed;
		dirs[n++] = build;
		dirs[n++] = self;
		dirs[n++] = BULKHEAD_LIBEXECDIR;
	}
	for (size_t i = 0; i < n; i++) {
		launcher->build_tree = is_program(dirs[i], "memory/bulkhead-memory");
		if (!launcher->build_tree && !is_program(dirs[i], "bulkhead-memory"))
			continue;
		launcher->libexec_dir = strdup(dirs[i]);
		check(launcher->libexec_dir);
		return 0;
	}
	log_error("the programs of the suite are not in %s; say where with --libexec-dir=DIR",
		dirs[0] ?: BULKHEAD_LIBEXECDIR);
	return -ENOENT;
}

/* --- Start and restart --- */

static int on_backoff(sd_event_source *source, uint64_t usec, void *data)
{
	struct child *child = data;

	if (child->pid == 0 && !child->launcher->stopping)
		(void)child_start(child);
	return 0;
}

static uint64_t backoff_usec(struct child *child)
{
	uint64_t now;

	sd_event_now(child->launcher->event, CLOCK_MONOTONIC, &now);
	child->quick_deaths = now - child->started_usec < QUICK_USEC ? child->quick_deaths + 1 : 0;
	if (child->quick_deaths <= QUICK_FREE)
		return 0;
	return MIN(1000ULL << MIN(child->quick_deaths - QUICK_FREE, 20u), BACKOFF_MAX_USEC);
}

static void restart(struct child *child)
{
	uint64_t usec = backoff_usec(child);

	child->restarts++;
	if (usec == 0) {
		if (child_start(child) == 0)
			return;
		usec = QUICK_USEC;
	}
	child->timer = sd_event_source_disable_unref(child->timer);
	(void)sd_event_add_time_relative(child->launcher->event, &child->timer, CLOCK_MONOTONIC, usec, 0,
		on_backoff, child);
}

static void stop_guest(struct guest *guest)
{
	guest->failed = true;
	for (size_t i = 0; i < guest->n_children; i++)
		child_kill(&guest->children[i], SIGTERM);
}

static bool any_running(const struct launcher *launcher)
{
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = 0; j < launcher->guests[i].n_children; j++)
			if (launcher->guests[i].children[j].pid)
				return true;
	return false;
}

static void end_if_done(struct launcher *launcher)
{
	if (!any_running(launcher))
		sd_event_exit(launcher->event, 0);
}

static void announce(struct launcher *launcher)
{
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = 0; j < launcher->guests[i].n_children; j++)
			if (!launcher->guests[i].failed && !launcher->guests[i].children[j].ready)
				return;
	if (launcher->announced || launcher->stopping)
		return;
	launcher->announced = true;
	for (size_t i = 0; i < launcher->n_guests; i++)
		if (!launcher->guests[i].failed)
			log_notice("guest %s is served: %zu device(s), %zu processes",
				launcher->guests[i].config->guest,
				launcher->guests[i].config->n_devices, launcher->guests[i].n_children);
	(void)sd_notify(0, "READY=1");
}

void launcher_child_ready(struct child *child)
{
	child->ready = true;
	announce(child->launcher);
}

void launcher_child_ended(struct child *child, int wait_status)
{
	struct launcher *launcher = child->launcher;

	if (launcher->stopping || child->guest->failed) {
		end_if_done(launcher);
		return;
	}
	if (!child->ready && WIFEXITED(wait_status) && WEXITSTATUS(wait_status)) {
		log_error("guest %s is not served: its %s process could not start",
			child->guest->config->guest, child->role);
		launcher->status = EXIT_FAILURE;
		stop_guest(child->guest);
		announce(launcher);
		end_if_done(launcher);
		return;
	}
	log_notice("%s %s (pid gone) %s %d; starting it again", child->role, child->instance,
		WIFSIGNALED(wait_status) ? "was killed by signal" : "ended with status",
		WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
	restart(child);
}

/* --- The end: workers and frontend first, memory last --- */

static int on_stop_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	struct launcher *launcher = data;

	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = 0; j < launcher->guests[i].n_children; j++)
			child_kill(&launcher->guests[i].children[j], SIGKILL);
	return 0;
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct launcher *launcher = data;

	if (launcher->stopping)
		return 0;
	launcher->stopping = true;
	(void)sd_notify(0, "STOPPING=1");
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = launcher->guests[i].n_children; j-- > 0;)
			child_kill(&launcher->guests[i].children[j], SIGTERM);
	(void)sd_event_add_time_relative(launcher->event, NULL, CLOCK_MONOTONIC, STOP_USEC, 0,
		on_stop_timeout, launcher);
	end_if_done(launcher);
	return 0;
}

/* --- Setting up a guest --- */

static int lock_guest(struct guest *guest)
{
	_cleanup_free_ char *path = NULL;

	if (mkdir(guest->runtime_dir, 0755) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", guest->runtime_dir, strerror(errno));
		return -errno;
	}
	check(asprintf(&path, "%s/lock", guest->runtime_dir) >= 0);
	guest->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (guest->lock_fd >= 0 && flock(guest->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	log_error("guest %s is already being served (%s is locked); stop the other instance first",
		guest->config->guest, path);
	return -EBUSY;
}

static void add_child(struct guest *guest, const char *role, const char *device)
{
	struct child *child = &guest->children[guest->n_children++];

	*child = (struct child){ .launcher = guest->launcher, .guest = guest, .role = role, .pid_fd = -1 };
	check(asprintf(&child->instance, "%s%s%s", guest->config->guest, device ? ":" : "",
		      device ?: "") >= 0);
}

/* The first instances come first: what whoever started us passed goes to the first of them. */
static void add_workers(struct guest *guest)
{
	const struct config *config = guest->config;

	for (size_t i = 0; i < config->n_devices; i++)
		add_child(guest, config->devices[i].type, config->devices[i].name);
	for (size_t i = 0; i < config->n_devices; i++) {
		_cleanup_free_ char *second = NULL;

		check(asprintf(&second, "%s:standby", config->devices[i].name) >= 0);
		if (config->devices[i].standby)
			add_child(guest, config->devices[i].type, second);
	}
}

static int open_guest(struct launcher *launcher, struct guest *guest, const char *file)
{
	_cleanup_free_ char *error = NULL;
	char *line, *rest;
	int r;

	*guest = (struct guest){ .launcher = launcher, .lock_fd = -1 };
	r = config_load(file, &guest->config, &error);
	if (r < 0) {
		for (rest = error; (line = strsep(&rest, "\n"));)
			log_error("%s", line);
		return r;
	}
	guest->config_path = realpath(file, NULL);
	check(guest->config_path);
	check(asprintf(&guest->runtime_dir, "%s/%s", launcher->runtime_dir, guest->config->guest) >= 0);
	r = lock_guest(guest);
	if (r < 0)
		return r;
	guest->children = calloc(2 * guest->config->n_devices + 2, sizeof(*guest->children));
	check(guest->children);
	add_child(guest, "memory", NULL);
	add_child(guest, "frontend", NULL);
	add_workers(guest);
	return 0;
}

static void close_guest(struct guest *guest)
{
	for (size_t i = 0; i < guest->n_children; i++)
		child_free(&guest->children[i]);
	free(guest->children);
	fd_close(guest->lock_fd);
	free(guest->runtime_dir);
	free(guest->config_path);
	config_free(guest->config);
	guest->n_children = 0;
}

static void hand_over(struct guest *guest, const struct launch *launch)
{
	for (size_t i = 0; i < launch->n_fds; i++) {
		const struct launch_fd *passed = &launch->fds[i];

		child_store(&guest->children[passed->for_frontend ? 1 : 2], passed->name, passed->fd);
	}
}

static void open_guests(struct launcher *launcher, const struct launch *launch)
{
	launcher->guests = calloc(launch->n_files, sizeof(*launcher->guests));
	check(launcher->guests);
	for (size_t i = 0; i < launch->n_files; i++) {
		struct guest *guest = &launcher->guests[launcher->n_guests];

		if (open_guest(launcher, guest, launch->files[i]) < 0) {
			launcher->status = EXIT_FAILURE;
			close_guest(guest);
			continue;
		}
		if (launcher->n_guests++ == 0)
			hand_over(guest, launch);
	}
}

static void start_guest(struct guest *guest)
{
	for (size_t i = 0; i < guest->n_children; i++)
		if (child_start(&guest->children[i]) < 0)
			log_error("cannot start the %s process: %s", guest->children[i].role, strerror(errno));
}

static int make_loop(struct launcher *launcher)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	if ((r = sd_event_default(&launcher->event)) < 0 ||
		(r = sd_event_add_signal(launcher->event, NULL, SIGTERM, on_stop, launcher)) < 0 ||
		(r = sd_event_add_signal(launcher->event, NULL, SIGINT, on_stop, launcher)) < 0)
		return r;
	if (mkdir(launcher->runtime_dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return notify_open(launcher);
}

int launcher_run(const struct launch *launch)
{
	struct launcher launcher = { .notify_fd = -1 };
	int r;

	launcher.runtime_dir = strdup(launch->runtime_dir);
	check(launcher.runtime_dir);
	r = find_programs(&launcher, launch->libexec_dir);
	if (r == 0) {
		r = make_loop(&launcher);
		if (r < 0)
			log_error("cannot use the directory %s: %s", launcher.runtime_dir, strerror(-r));
	}
	if (r == 0) {
		open_guests(&launcher, launch);
		for (size_t i = 0; i < launcher.n_guests; i++)
			start_guest(&launcher.guests[i]);
		if (launcher.n_guests)
			(void)sd_event_loop(launcher.event);
	}
	for (size_t i = 0; i < launcher.n_guests; i++)
		close_guest(&launcher.guests[i]);
	notify_close(&launcher);
	sd_event_unref(launcher.event);
	free(launcher.guests);
	free(launcher.runtime_dir);
	free(launcher.libexec_dir);
	return r < 0 ? EXIT_FAILURE : launcher.status;
}
