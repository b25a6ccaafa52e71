/* The start, the watchdog and the end of one process. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/user.h"
#include "launcher.pb-c.h"
#include "lock.h"
#include "notify.h"

#define LISTEN_FDS_START 3
#define START_USEC 90000000ULL /* from the start to the first sign of life */
#define ABORT_USEC 1000000     /* from SIGABRT to the end */
#define STORE_SEC 10           /* for the keeper to send what was stored */

static int pidfd_open_(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* --- Start --- */

/* In the forked process, before it executes the program. */

/** struct handed - the descriptors that the keeper hands over */
struct handed {
	char *names; /* in the form of LISTEN_FDNAMES */
	int *fds;
	size_t n;
};

static void take_part(struct handed *handed, const Bh__KeeperStore *part, struct fdset *fds)
{
	for (size_t i = 0; i < fds->n_fds; i++) {
		char *names;

		check(asprintf(&names, "%s%s%s", handed->names ?: "", handed->n ? ":" : "",
			      part->names[i]) >= 0);
		free(handed->names);
		handed->names = names;
		handed->fds = reallocarray(handed->fds, handed->n + 1, sizeof(*handed->fds));
		check(handed->fds);
		handed->fds[handed->n++] = fdset_steal(fds, i);
	}
}

/* The program must not run with only a part of them: it would give up what it does not find. */
static void take_store(int fd, struct handed *handed)
{
	const struct timeval limit = { .tv_sec = STORE_SEC };
	bool last = false;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (!last) {
		_cleanup_fdset_ struct fdset fds = FDSET_INIT;
		ProtobufCMessage *msg;
		const Bh__KeeperStore *part;

		if (fdlink_recv_any(fd, &bh__keeper_store__descriptor, &msg, &fds) < 0)
			_exit(EXIT_FAILURE);
		part = (Bh__KeeperStore *)(void *)msg;
		if (part->n_names != fds.n_fds)
			_exit(EXIT_FAILURE);
		take_part(handed, part, &fds);
		last = part->last;
		protobuf_c_message_free_unpacked(msg, NULL);
	}
}

static void move(int from, int to)
{
	if (dup2(from, to) < 0 || close(from) < 0)
		_exit(EXIT_FAILURE);
}

/* Move the descriptor that occupies a place out of the way, behind all places. */
static void clear_place(struct handed *handed, size_t i, int place)
{
	for (size_t k = i; k < handed->n; k++) {
		int to;

		if (handed->fds[k] != place)
			continue;
		to = fcntl(place, F_DUPFD_CLOEXEC, LISTEN_FDS_START + (int)handed->n);
		if (to < 0)
			_exit(EXIT_FAILURE);
		handed->fds[k] = to;
	}
}

/* Move the descriptors to 3, 4 ... in order. They are moved rather than copied, because there may
 * be as many as the descriptor table has room for. */
static void place(struct handed *handed)
{
	for (size_t i = 0; i < handed->n; i++) {
		int place = LISTEN_FDS_START + (int)i;

		if (handed->fds[i] == place) {
			(void)fcntl(place, F_SETFD, 0);
			continue;
		}
		clear_place(handed, i, place);
		move(handed->fds[i], place);
	}
}

static char *program_path(const struct child *child)
{
	const struct home *home = child->home;
	char *path;

	check(asprintf(&path, "%s/%s%sbulkhead-%s", home->libexec_dir,
		      home->build_tree ? child->role : "", home->build_tree ? "/" : "",
		      child->role) >= 0);
	return path;
}

static char *notify_path(const struct child *child)
{
	char *path;

	check(asprintf(&path, "%s/notify/%s.sock", child->home->runtime_dir, child->peer) >= 0);
	return path;
}

static void set_number(const char *name, unsigned long n)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", n);
	(void)setenv(name, text, 1);
}

static void set_environment(const struct child *child, const struct handed *handed)
{
	static const char *const ours[] = { "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
		"WATCHDOG_USEC", "WATCHDOG_PID" };
	_cleanup_free_ char *notify = notify_path(child);

	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		(void)unsetenv(ours[i]);
	(void)setenv("NOTIFY_SOCKET", notify, 1);
	if (child->home->watchdog_usec) {
		set_number("WATCHDOG_USEC", child->home->watchdog_usec);
		set_number("WATCHDOG_PID", (unsigned long)getpid());
	}
	if (handed->n == 0)
		return;
	set_number("LISTEN_FDS", handed->n);
	set_number("LISTEN_PID", (unsigned long)getpid());
	(void)setenv("LISTEN_FDNAMES", handed->names, 1);
}

/* The process dies with the launcher. If the launcher died before prctl(), the parent is another
 * process by now. */
__attribute__((noreturn)) static void run(const struct child *child, const char *path, pid_t parent,
	int store_fd)
{
	_cleanup_free_ char *instance = NULL, *config = NULL, *dir = NULL;
	struct handed handed = { 0 };
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	lock_note(child->home->lock_fd, child->slot, (unsigned long)getpid(), child->home->name);
	check(asprintf(&instance, "--instance=%s", child->instance) >= 0);
	check(asprintf(&config, "--config=%s",
		      child->home->copy_path ?: child->home->config_path) >= 0);
	check(asprintf(&dir, "--runtime-dir=%s", child->home->runtime_base) >= 0);
	take_store(store_fd, &handed);
	set_environment(child, &handed);
	place(&handed);
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
	child->abort = sd_event_source_disable_unref(child->abort);
	child->pid_fd = fd_close(child->pid_fd);
	child->pid = 0;
	(void)keeper_end(child->home->keeper, child->title);
	child->home->ended(child, status);
	return 0;
}

int child_adopt(struct child *child)
{
	child->pid_fd = pidfd_open_(child->pid);
	if (child->pid_fd < 0)
		return -errno;
	return sd_event_add_io(child->home->event, &child->source, child->pid_fd, EPOLLIN, on_end,
		child);
}

static int fork_it(struct child *child, int store_fd)
{
	_cleanup_free_ char *path = program_path(child);
	pid_t parent = getpid(), pid;

	child->ready = false;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run(child, path, parent, store_fd);
	child->pid = pid;
	return child_adopt(child);
}

/* The keeper sends what was stored directly to the new process, so the launcher never has it. */
int child_start(struct child *child)
{
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	r = keeper_start(child->home->keeper, child->title, fds[1], START_USEC,
		child->home->watchdog_usec);
	fd_close(fds[1]);
	if (r == 0)
		r = fork_it(child, fds[0]);
	fd_close(fds[0]);
	return r;
}

/* --- Whether it is alive --- */

static int on_abort_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	child_kill(data, SIGKILL);
	return 0;
}

void child_silent(struct child *child)
{
	if (child->pid == 0 || child->abort)
		return;
	log_limited(LOG_ERR, NULL, (unsigned int)child->pid,
		"%s (pid %d) gives no sign of life; killing and restarting it", child->title,
		child->pid);
	/* SIGABRT lets it name the input that it hangs in */
	child_kill(child, SIGABRT);
	(void)sd_event_add_time_relative(child->home->event, &child->abort, CLOCK_MONOTONIC,
		ABORT_USEC, 0, on_abort_timeout, child);
}

void child_kill(struct child *child, int signal)
{
	if (child->pid > 0)
		(void)kill(child->pid, signal);
}

/* --- Life --- */

void child_init(struct child *child, const struct home *home, const char *role,
	const char *instance)
{
	char peer[sizeof(((struct process *)NULL)->peer)];

	*child = (struct child){
		.home = home, .role = strdup(role), .instance = strdup(instance), .pid_fd = -1
	};
	check(child->role && child->instance);
	check(asprintf(&child->title, "%s %s", role, instance) >= 0);
	process_peer(role, instance, peer, sizeof(peer));
	child->peer = strdup(peer);
	check(child->peer);
}

int child_open(struct child *child)
{
	_cleanup_free_ char *path = notify_path(child);
	uid_t user = geteuid() == 0 ? user_of(child->home->name, child->peer) : geteuid();
	_cleanup_close_ int fd = notify_bind(path, user);

	return fd < 0 ? fd : keeper_open(child->home->keeper, child->title, fd);
}

void child_free(struct child *child)
{
	child->source = sd_event_source_disable_unref(child->source);
	child->timer = sd_event_source_disable_unref(child->timer);
	child->abort = sd_event_source_disable_unref(child->abort);
	fd_close(child->pid_fd);
	free(child->role);
	free(child->instance);
	free(child->title);
	free(child->peer);
	free(child->said);
	free(child->end);
}
