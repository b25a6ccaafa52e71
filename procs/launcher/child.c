/* Starting a process, and what is kept for it while it is away. */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"

#define LISTEN_FDS_START 3

static int pidfd_open_(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* --- The store --- */

void child_store(struct child *child, const char *name, int fd)
{
	struct stored *list;

	if (child->n_stored == STORE_MAX) {
		log_warning("%s %s stores more than %d descriptors; '%s' is not kept", child->role,
			child->instance, STORE_MAX, name);
		fd_close(fd);
		return;
	}
	list = reallocarray(child->stored, child->n_stored + 1, sizeof(*list));
	check(list);
	child->stored = list;
	list[child->n_stored].name = strdup(name);
	check(list[child->n_stored].name);
	list[child->n_stored++].fd = fd;
}

void child_unstore(struct child *child, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < child->n_stored; i++) {
		if (strcmp(child->stored[i].name, name) != 0) {
			child->stored[n++] = child->stored[i];
			continue;
		}
		free(child->stored[i].name);
		fd_close(child->stored[i].fd);
	}
	child->n_stored = n;
}

/* --- Start --- */

static char *join_names(const struct child *child)
{
	size_t n = 1;
	char *text, *at;

	for (size_t i = 0; i < child->n_stored; i++)
		n += strlen(child->stored[i].name) + 1;
	at = text = malloc(n);
	check(text);
	*at = '\0';
	for (size_t i = 0; i < child->n_stored; i++)
		at += sprintf(at, "%s%s", i ? ":" : "", child->stored[i].name);
	return text;
}

/* Descriptors 3 to 3 + n are those of the store, in order. First all are lifted out of the way, so that
 * none is overwritten before it was put in its place. */
static void place_stored(const struct child *child)
{
	int base = LISTEN_FDS_START + (int)child->n_stored;

	for (size_t i = 0; i < child->n_stored; i++) {
		int fd = fcntl(child->stored[i].fd, F_DUPFD_CLOEXEC, base);

		if (fd < 0)
			_exit(EXIT_FAILURE);
		child->stored[i].fd = fd; /* in the child's own memory */
	}
	for (size_t i = 0; i < child->n_stored; i++)
		if (dup2(child->stored[i].fd, LISTEN_FDS_START + (int)i) < 0)
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

__attribute__((noreturn)) static void run(const struct child *child, const char *path, const char *names,
	pid_t parent)
{
	_cleanup_free_ char *instance = NULL, *config = NULL, *dir = NULL;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	check(asprintf(&instance, "--instance=%s", child->instance) >= 0);
	check(asprintf(&config, "--config=%s", child->guest->config_path) >= 0);
	check(asprintf(&dir, "--runtime-dir=%s", child->launcher->runtime_dir) >= 0);
	place_stored(child);
	(void)setenv("NOTIFY_SOCKET", child->launcher->notify_path, 1);
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	if (child->n_stored) {
		set_number("LISTEN_FDS", child->n_stored);
		set_number("LISTEN_PID", (unsigned long)getpid());
		(void)setenv("LISTEN_FDNAMES", names, 1);
	} else {
		(void)unsetenv("LISTEN_FDS");
	}
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
	child->pid_fd = fd_close(child->pid_fd);
	child->pid = 0;
	launcher_child_ended(child, status);
	return 0;
}

int child_start(struct child *child)
{
	_cleanup_free_ char *path = program_path(child), *names = join_names(child);
	pid_t parent = getpid(), pid;

	sd_event_now(child->launcher->event, CLOCK_MONOTONIC, &child->started_usec);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run(child, path, names, parent);
	child->pid = pid;
	child->pid_fd = pidfd_open_(pid);
	if (child->pid_fd < 0)
		return -errno;
	return sd_event_add_io(child->launcher->event, &child->source, child->pid_fd, EPOLLIN, on_end,
		child);
}

void child_kill(struct child *child, int signal)
{
	if (child->pid > 0)
		(void)kill(child->pid, signal);
}

void child_free(struct child *child)
{
	for (size_t i = 0; i < child->n_stored; i++) {
		free(child->stored[i].name);
		fd_close(child->stored[i].fd);
	}
	free(child->stored);
	child->source = sd_event_source_disable_unref(child->source);
	child->timer = sd_event_source_disable_unref(child->timer);
	fd_close(child->pid_fd);
	free(child->instance);
}
