/*
 * The service manager where there is no systemd. It starts the processes of each guest and restarts
 * whatever ends. A process that fails before it was ready for the first time has a wrong
 * configuration, and its guest is given up. After that a guest is never given up. Guests do not
 * affect each other.
 */
#include "launcher.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "build-config.h"
#include "former.h"
#include "guest.h"
#include "proc/landlock.h"
#include "rlimits.h"
#include "state.h"
#include "told.h"

#define KEEPERS_END_USEC 1000000
#define LATER_USEC 1000000ULL
#define STOP_USEC 5000000ULL

/* --- Where the programs are --- */

/* The path that we were started from; by now the next release may be there. */
static char *own_path(void)
{
	static const char gone[] = " (deleted)";
	char path[PATH_MAX] = "";
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *copy;

	check(len > 0 && *path == '/');
	if (len > (ssize_t)strlen(gone) && strcmp(path + len - strlen(gone), gone) == 0)
		path[len - (ssize_t)strlen(gone)] = '\0';
	copy = strdup(path);
	check(copy);
	return copy;
}

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
	_cleanup_free_ char *self = own_path();

	if (n == 0) {
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

static int on_start_again(sd_event_source *source, uint64_t usec, void *data);

static void start_later(struct child *child)
{
	child->timer = sd_event_source_disable_unref(child->timer);
	(void)sd_event_add_time_relative(child->guest->launcher->event, &child->timer,
		CLOCK_MONOTONIC, LATER_USEC, 0, on_start_again, child);
}

static int on_start_again(sd_event_source *source, uint64_t usec, void *data)
{
	struct child *child = data;

	if (child->pid == 0 && !child->guest->launcher->stopping && child_start(child) < 0)
		start_later(child);
	told_write(child->guest);
	return 0;
}

/* A process that is not ready may be waiting for one that is gone, and has nothing to lose. */
static void stop_child(struct child *child)
{
	child_kill(child, child->ready ? SIGTERM : SIGKILL);
}

static void stop_guest(struct guest *guest)
{
	guest->failed = true;
	for (size_t i = 0; i < guest->n_children; i++)
		stop_child(&guest->children[i]);
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
			if (!launcher->guests[i].failed &&
				!launcher->guests[i].children[j].was_ready)
				return;
	if (launcher->announced || launcher->stopping)
		return;
	launcher->announced = true;
	for (size_t i = 0; i < launcher->n_guests; i++)
		if (!launcher->guests[i].failed)
			log_notice("guest %s is served: %zu device(s), %zu processes",
				launcher->guests[i].home.name, launcher->guests[i].n_devices,
				launcher->guests[i].n_children);
	(void)sd_notify(0, "READY=1");
}

static void note_ready(struct child *child)
{
	child->ready = child->was_ready = true;
	told_write(child->guest);
	announce(child->guest->launcher);
}

static void give_up_guest(struct child *child)
{
	struct launcher *launcher = child->guest->launcher;

	LOG_EVENT(GIVEN_UP,
		log_error("guest %s is not served: its %s process could not start",
			child->guest->home.name, child->role));
	launcher->status = EXIT_FAILURE;
	stop_guest(child->guest);
	told_write(child->guest);
	announce(launcher);
	end_if_done(launcher);
}

/* log_limited() limits each process by itself. */
static unsigned int kind_of(const struct child *child)
{
	return (unsigned int)((child->guest - child->guest->launcher->guests) * GUEST_CHILDREN_MAX +
		(child - child->guest->children));
}

/* A process that is killed again and again before it is ready delays its own start
 * (proc/backoff.c). One that ended with an error before it was ready is started again later. */
static void on_ended(struct child *child, int wait_status)
{
	struct launcher *launcher = child->guest->launcher;
	bool exited = WIFEXITED(wait_status);
	bool gave_up = exited && WEXITSTATUS(wait_status) && !child->ready;

	told_note_end(child, wait_status);
	if (launcher->stopping || child->guest->failed) {
		end_if_done(launcher);
		return;
	}
	if (child->unwanted) {
		(void)keeper_forget(child->guest->home.keeper, child->title);
		return;
	}
	if (!child->was_ready && gave_up) {
		give_up_guest(child);
		return;
	}
	child->restarts++;
	log_limited(LOG_NOTICE, NULL, kind_of(child), "%s %s %d; starting it again", child->title,
		exited ? "ended with status" : "was killed by signal",
		exited ? WEXITSTATUS(wait_status) : WTERMSIG(wait_status));
	if (gave_up || child_start(child) < 0)
		start_later(child);
	told_write(child->guest);
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

static void stop(struct launcher *launcher)
{
	if (launcher->stopping)
		return;
	launcher->stopping = true;
	(void)sd_notify(0, "STOPPING=1");
	for (size_t i = 0; i < launcher->n_guests; i++)
		for (size_t j = launcher->guests[i].n_children; j-- > 0;)
			stop_child(&launcher->guests[i].children[j]);
	(void)sd_event_add_time_relative(launcher->event, NULL, CLOCK_MONOTONIC, STOP_USEC, 0,
		on_stop_timeout, launcher);
	end_if_done(launcher);
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	stop(data);
	return 0;
}

/* --- What keepers say --- */

static struct child *find_child(const struct guest *guest, const char *title)
{
	for (size_t i = 0; i < guest->n_children; i++)
		if (strcmp(guest->children[i].title, title) == 0)
			return &guest->children[i];
	return NULL;
}

static void on_ready(void *data, const char *title)
{
	struct child *child = find_child(data, title);

	if (child && child->pid)
		note_ready(child);
}

static void on_status(void *data, const char *title, const char *text)
{
	struct child *child = find_child(data, title);

	if (child && child->pid)
		told_note_status(child, text);
}

static void on_silent(void *data, const char *title)
{
	struct child *child = find_child(data, title);

	if (child)
		child_silent(child);
}

/* If a connection was passed to us, there will never be another one. */
static void on_dropped(void *data, const char *title, const char *name, bool listener_left)
{
	const struct guest *guest = data;

	if (guest->launcher->fd_passed && strcmp(name, LAUNCH_CONNECTION) == 0 && !listener_left)
		stop(guest->launcher);
}

/* For the guest this is as if the launcher was killed: what was stored is lost, and its processes
 * start anew. */
static void on_lost(void *data)
{
	struct guest *guest = data;

	if (guest->launcher->stopping || guest->failed)
		return;
	log_error("guest %s: its keeper was killed, and everything its processes had stored is lost; the VMMs have lost their devices and must reconnect",
		guest->home.name);
	guest->home.keeper = keeper_free(guest->home.keeper);
	if (guest_keep(guest) < 0) {
		guest->launcher->status = EXIT_FAILURE;
		stop_guest(guest);
		return;
	}
	for (size_t i = 0; i < guest->n_children; i++)
		child_kill(&guest->children[i], SIGKILL);
}

static const struct keeper_events keeper_events = { .ready = on_ready,
	.status = on_status,
	.silent = on_silent,
	.dropped = on_dropped,
	.lost = on_lost };

/* --- Our own place --- */

static int on_hand_over(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	struct launcher *launcher = data;

	if (launcher->stopping)
		return 0;
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_us());
	state_hand_over(launcher);
	(void)sd_notify(0, "READY=1");
	return 0;
}

/* --- Life --- */

static struct child *first_of(const struct guest *guest, const char *role)
{
	for (size_t i = 0; i < guest->n_children; i++)
		if (strcmp(guest->children[i].role, role) == 0)
			return &guest->children[i];
	check(!"each role has a process of the guest that options describe");
	return NULL;
}

static void hand_over(struct guest *guest, const struct launch *launch)
{
	for (size_t i = 0; i < launch->n_fds; i++) {
		const struct launch_fd *passed = &launch->fds[i];
		const struct child *child = first_of(guest, passed->role);

		(void)keeper_add(guest->home.keeper, child->title, passed->name, passed->fd);
		fd_close(passed->fd);
	}
}

static void open_guests(struct launcher *launcher, const struct launch *launch)
{
	launcher->guests = calloc(launch->n_files, sizeof(*launcher->guests));
	check(launcher->guests);
	for (size_t i = 0; i < launch->n_files; i++) {
		struct guest *guest = &launcher->guests[launcher->n_guests];

		if (guest_open(launcher, guest, launch->files[i]) < 0) {
			launcher->status = EXIT_FAILURE;
			guest_close(guest);
			continue;
		}
		if (launcher->n_guests++ == 0)
			hand_over(guest, launch);
	}
}

/* Children that a former launcher started run already, and some may have become unwanted. */
static void start_guest(struct guest *guest)
{
	for (size_t i = 0; !guest->failed && i < guest->n_children; i++) {
		struct child *child = &guest->children[i];

		if (child->unwanted)
			stop_child(child);
		else if (child->pid == 0 && child_start(child) < 0)
			log_error("cannot start the %s process: %s", child->role, strerror(errno));
	}
	told_write(guest);
}

static int make_loop(struct launcher *launcher)
{
	static const struct {
		int signal;
		sd_event_signal_handler_t handler;
	} signals[] = { { SIGTERM, on_stop }, { SIGINT, on_stop }, { SIGHUP, on_hand_over } };
	sigset_t mask;
	int r = sd_event_default(&launcher->event);

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&mask, signals[i].signal);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(signals); i++)
		r = sd_event_add_signal(launcher->event, NULL, signals[i].signal,
			signals[i].handler, launcher);
	if (r >= 0)
		r = sd_event_set_watchdog(launcher->event, true);
	if (r < 0)
		log_error("cannot make the event loop: %s", strerror(-r));
	return r;
}

static void say_who(const struct launcher *launcher)
{
	if (geteuid() != 0)
		log_notice("started by user %u: the processes of all guests run as that user and are not isolated from each other or from its other processes; start as root to give each a user of its own",
			geteuid());
	if (landlock_version() < 0)
		log_notice("this kernel has no landlock: what the processes may write is limited by owners and modes alone");
}

static int open_all(struct launcher *launcher, const struct launch *launch)
{
	int r = make_loop(launcher);

	if (r < 0)
		return r;
	if (launch->state_fd >= 0) {
		r = state_take_over(launcher, launch->state_fd);
		return r < 0 || launcher->notify_fd < 0 ? r : former_watch(launcher);
	}
	if (mkdir(launcher->runtime_dir, 0755) < 0 && errno != EEXIST) {
		r = -errno;
		log_error("cannot use the directory %s: %s; choose another with --runtime-dir=DIR",
			launcher->runtime_dir, strerror(errno));
		return r;
	}
	open_guests(launcher, launch);
	if (launcher->n_guests)
		say_who(launcher);
	return 0;
}

/* Sockets that a keeper still holds look in use to whoever starts the guest again. One that is
 * blocked in close() is not waited for. */
static void await_keepers(void)
{
	const struct timespec tick = { .tv_nsec = 2000000 };
	uint64_t end = clock_us() + KEEPERS_END_USEC;
	pid_t pid;

	while (clock_us() < end) {
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0)
			return;
		(void)nanosleep(&tick, NULL);
	}
}

int launcher_run(const struct launch *launch)
{
	struct launcher launcher = { .notify_fd = -1,
		.argv = launch->argv,
		.keeper_events = &keeper_events,
		.child_ended = on_ended,
		.fd_passed = launch->fd_passed,
		.from_options = launch->from_options,
		.watchdog_usec = launch->watchdog_sec * 1000000ULL };
	int r;

	launcher.runtime_dir = strdup(launch->runtime_dir);
	launcher.program = own_path();
	check(launcher.runtime_dir);
	r = rlimits_raise();
	if (r == 0)
		r = find_programs(&launcher, launch->libexec_dir);
	if (r == 0)
		r = open_all(&launcher, launch);
	if (r >= 0) {
		for (size_t i = 0; i < launcher.n_guests; i++)
			start_guest(&launcher.guests[i]);
		announce(&launcher);
		if (launch->state_fd >= 0)
			(void)sd_notify(0, "READY=1");
		if (launcher.n_guests)
			(void)sd_event_loop(launcher.event);
	}
	for (size_t i = 0; i < launcher.n_guests; i++)
		guest_close(&launcher.guests[i]);
	await_keepers();
	former_close(&launcher);
	sd_event_unref(launcher.event);
	free(launcher.guests);
	free(launcher.runtime_dir);
	free(launcher.libexec_dir);
	free(launcher.program);
	return r < 0 ? EXIT_FAILURE : launcher.status;
}
