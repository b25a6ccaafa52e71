/* Starting a process, hearing from it, and its end. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"

#define LISTEN_FDS_START 3
#define START_USEC 90000000ULL /* from its start to its first sign of life */
#define ABORT_USEC 1000000 /* to come from SIGABRT to an end */

static int pidfd_open_(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* --- Start --- */

/* Descriptors 3 to 3 + n are those of the store, in order. First all are lifted out of the way, so that
 * none is overwritten before it was put in its place. */
static void place_stored(const struct store *store)
{
	int base = LISTEN_FDS_START + (int)store->n_items;

	for (size_t i = 0; i < store->n_items; i++) {
		int fd = fcntl(store->items[i]->fd, F_DUPFD_CLOEXEC, base);

		if (fd < 0)
			_exit(EXIT_FAILURE);
		store->items[i]->fd = fd; /* in the child's own memory */
	}
	for (size_t i = 0; i < store->n_items; i++)
		if (dup2(store->items[i]->fd, LISTEN_FDS_START + (int)i) < 0)
			_exit(EXIT_FAILURE);
}

static char *program_path(const struct child *child)
{
	const struct launcher *launcher = child->launcher;
	char *path;

	check(asprintf(&path, "%s/%s%sbulkhead-%s", launcher->libexec_dir,
		      launcher->build_tree ? child->role : "", launcher->build_tree ? "/" : "",
		      child->role) >= 0);
	return path;
}

static void set_number(const char *name, unsigned long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	(void)setenv(name, text, 1);
}

static void set_environment(const struct child *child)
{
	static const char *const ours[] = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC",
		"WATCHDOG_PID" };
	_cleanup_free_ char *names = store_names(&child->store);

	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		(void)unsetenv(ours[i]);
	(void)setenv("NOTIFY_SOCKET", child->launcher->notify_path, 1);
	if (child->launcher->watchdog_usec) {
		set_number("WATCHDOG_USEC", child->launcher->watchdog_usec);
		set_number("WATCHDOG_PID", (unsigned long)getpid());
	}
	if (child->store.n_items == 0)
		return;
	set_number("LISTEN_FDS", child->store.n_items);
	set_number("LISTEN_PID", (unsigned long)getpid());
	(void)setenv("LISTEN_FDNAMES", names, 1);
}

/* It dies with us; and if we died before that was arranged, its parent is another one by now. */
__attribute__((noreturn)) static void run(const struct child *child, const char *path, pid_t parent)
{
	_cleanup_free_ char *instance = NULL, *config = NULL, *dir = NULL;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	guest_note(child->guest, SLOT_CHILDREN + (size_t)(child - child->guest->children),
		(unsigned long)getpid());
	check(asprintf(&instance, "--instance=%s", child->instance) >= 0);
	check(asprintf(&config, "--config=%s", child->guest->config_path) >= 0);
	check(asprintf(&dir, "--runtime-dir=%s", child->launcher->runtime_dir) >= 0);
	set_environment(child);
	place_stored(&child->store);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execl(path, path, instance, config, dir, (char *)NULL);
	log_error("%s cannot be run: %s", path, strerror(errno));
	_exit(EXIT_FAILURE);
}

static int on_end(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct child *child = data;
	int status = 0;

	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return 0;
	child->source = sd_event_source_disable_unref(child->source);
	child->watchdog = sd_event_source_disable_unref(child->watchdog);
	child->pid_fd = fd_close(child->pid_fd);
	child->pid = 0;
	launcher_child_ended(child, status);
	return 0;
}

int child_adopt(struct child *child)
{
	child->pid_fd = pidfd_open_(child->pid);
	if (child->pid_fd < 0)
		return -errno;
	return sd_event_add_io(child->launcher->event, &child->source, child->pid_fd, EPOLLIN, on_end,
		child);
}

int child_start(struct child *child)
{
	_cleanup_free_ char *path = program_path(child);
	pid_t parent = getpid(), pid;

	child->ready = false;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run(child, path, parent);
	child->pid = pid;
	child_heard(child, START_USEC);
	return child_adopt(child);
}

/* --- Whether it is alive --- */

static int on_watchdog(sd_event_source *source, uint64_t usec, void *data)
{
	struct child *child = data;

	if (child->aborted) {
		child_kill(child, SIGKILL);
		return 0;
	}
	log_error("%s (pid %d) gives no sign of life: it is killed, and started again", child->title, child->pid);
	/* it may still say what it hangs in */
	child_kill(child, SIGABRT);
	child->aborted = true;
	(void)sd_event_source_set_time_relative(child->watchdog, ABORT_USEC);
	(void)sd_event_source_set_enabled(child->watchdog, SD_EVENT_ONESHOT);
	return 0;
}

void child_heard(struct child *child, uint64_t usec)
{
	sd_event *event = child->launcher->event;

	if (usec == 0 || child->pid == 0)
		return;
	child->aborted = false;
	if (!child->watchdog &&
		sd_event_add_time_relative(event, &child->watchdog, CLOCK_MONOTONIC, usec, 0, on_watchdog,
			child) < 0)
		return;
	(void)sd_event_source_set_time_relative(child->watchdog, usec);
	(void)sd_event_source_set_enabled(child->watchdog, SD_EVENT_ONESHOT);
}

void child_kill(struct child *child, int signal)
{
	if (child->pid > 0)
		(void)kill(child->pid, signal);
}

/* --- Life --- */

void child_init(struct child *child, struct guest *guest, const char *role, const char *instance)
{
	*child = (struct child){ .launcher = guest->launcher, .guest = guest, .role = strdup(role),
		.instance = strdup(instance), .pid_fd = -1 };
	check(child->role && child->instance);
	check(asprintf(&child->title, "%s %s", role, instance) >= 0);
	child->store.owner = child->title;
}

void child_free(struct child *child)
{
	store_deinit(&child->store);
	child->source = sd_event_source_disable_unref(child->source);
	child->timer = sd_event_source_disable_unref(child->timer);
	child->watchdog = sd_event_source_disable_unref(child->watchdog);
	fd_close(child->pid_fd);
	free(child->role);
	free(child->instance);
	free(child->title);
}
