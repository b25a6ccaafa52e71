/* The launcher's end: starts the process, sends it orders, and hears from it. */
#include "keeper.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "launcher.pb-c.h"
#include "proc/landlock.h"
#include "proc/sandbox.h"

#define CONTROL_FD 3 /* in the keeper: the first after the standard ones */

struct keeper {
	char *name;
	pid_t pid;
	int fd;
	sd_event_source *source;
	const struct keeper_events *events;
	void *data;
};

/* --- What it says --- */

static void lose(struct keeper *keeper)
{
	keeper->source = sd_event_source_disable_unref(keeper->source);
	keeper->fd = fd_close(keeper->fd);
	(void)kill(keeper->pid, SIGKILL);
	(void)waitpid(keeper->pid, NULL, WNOHANG);
	keeper->events->lost(keeper->data);
}

static void tell(struct keeper *keeper, const Bh__FromKeeper *msg)
{
	if (*msg->dropped)
		keeper->events->dropped(keeper->data, msg->child, msg->dropped, msg->listener_left);
	if (*msg->status)
		keeper->events->status(keeper->data, msg->child, msg->status);
	if (msg->silent)
		keeper->events->silent(keeper->data, msg->child);
	if (msg->ready)
		keeper->events->ready(keeper->data, msg->child);
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct keeper *keeper = data;
	_cleanup_fdset_ struct fdset none = FDSET_INIT;
	ProtobufCMessage *msg;
	int r = fdlink_recv_any(fd, &bh__from_keeper__descriptor, &msg, &none);

	if (r == -EAGAIN)
		return 0;
	if (r < 0) {
		lose(keeper);
		return 0;
	}
	tell(keeper, (Bh__FromKeeper *)(void *)msg);
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

/* --- Start and end --- */

/* Drop all rights. The kernel clears the parent-death signal when the user changes, so it is set
 * again. */
static int drop_rights(uid_t user, pid_t launcher)
{
	if (user &&
		(setgroups(0, NULL) < 0 || setresgid(user, user, user) < 0 ||
			setresuid(user, user, user) < 0))
		return -errno;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return getppid() == launcher ? 0 : -ESRCH;
}

/* Do not inherit the launcher's other descriptors, nor the signals that are meant for it. */
__attribute__((noreturn)) static void run(int fd, const char *name, uid_t user, pid_t launcher)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t none;
	int r = drop_rights(user, launcher);

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		(void)signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_NAME, "(keeper)", 0, 0, 0);
	if (r < 0 || dup3(fd, CONTROL_FD, SOCK_CLOEXEC) < 0)
		_exit(EXIT_FAILURE);
	(void)close_range(CONTROL_FD + 1, ~0U, 0);
	log_open("keeper", name, NULL);
	landlock_restrict(SANDBOX_KEEPER, NULL);
	if (sandbox_load(SANDBOX_KEEPER) < 0)
		_exit(EXIT_FAILURE);
	_exit(keep(CONTROL_FD, name));
}

static int spawn(const char *name, uid_t user, int *ret_fd)
{
	pid_t launcher = getpid(), pid;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	if (fds[1] == CONTROL_FD) { /* dup3() refuses to copy a descriptor onto itself */
		fds[1] = dup(CONTROL_FD);
		fd_close(CONTROL_FD);
	}
	pid = fork();
	if (pid == 0)
		run(fds[1], name, user, launcher);
	fd_close(fds[1]);
	if (pid < 0)
		fd_close(fds[0]);
	else
		*ret_fd = fds[0];
	return pid < 0 ? -errno : pid;
}

int keeper_adopt(struct keeper **ret_keeper, sd_event *event, const char *name, pid_t pid, int fd,
	const struct keeper_events *events, void *data)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));
	int r;

	if (!keeper) {
		fd_close(fd);
		return -ENOMEM;
	}
	*keeper = (struct keeper){
		.name = strdup(name), .pid = pid, .fd = fd, .events = events, .data = data
	};
	r = keeper->name ? sd_event_add_io(event, &keeper->source, fd, EPOLLIN, on_message, keeper)
			 : -ENOMEM;
	if (r < 0) {
		keeper_free(keeper);
		return r;
	}
	*ret_keeper = keeper;
	return 0;
}

int keeper_new(struct keeper **ret_keeper, sd_event *event, const char *name, uid_t user,
	const struct keeper_events *events, void *data)
{
	int fd = -1, pid = spawn(name, user, &fd);

	return pid < 0 ? pid : keeper_adopt(ret_keeper, event, name, pid, fd, events, data);
}

struct keeper *keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return NULL;
	sd_event_source_disable_unref(keeper->source);
	fd_close(keeper->fd);
	/* the keeper may be blocked in close(), so it is not waited for */
	(void)kill(keeper->pid, SIGKILL);
	(void)waitpid(keeper->pid, NULL, WNOHANG);
	free(keeper->name);
	free(keeper);
	return NULL;
}

pid_t keeper_pid(const struct keeper *keeper)
{
	return keeper->pid;
}

int keeper_fd(const struct keeper *keeper)
{
	return keeper->fd;
}

/* --- Orders --- */

static int order(struct keeper *keeper, const char *child, Bh__ToKeeper *msg, const int *fds,
	size_t n_fds)
{
	msg->child = (char *)child;
	if (keeper->fd < 0)
		return -ECONNRESET;
	return fdlink_send_any(keeper->fd, &msg->base, fds, n_fds, MSG_DONTWAIT);
}

int keeper_open(struct keeper *keeper, const char *child, int notify_fd)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperOpen body = BH__KEEPER_OPEN__INIT;

	msg.body_case = BH__TO_KEEPER__BODY_OPEN;
	msg.open = &body;
	return order(keeper, child, &msg, &notify_fd, 1);
}

int keeper_start(struct keeper *keeper, const char *child, int store_fd, uint64_t start_usec,
	uint64_t watchdog_usec)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperStart body = BH__KEEPER_START__INIT;

	body.start_usec = start_usec;
	body.watchdog_usec = watchdog_usec;
	msg.body_case = BH__TO_KEEPER__BODY_START;
	msg.start = &body;
	return order(keeper, child, &msg, &store_fd, 1);
}

int keeper_end(struct keeper *keeper, const char *child)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperEnd body = BH__KEEPER_END__INIT;

	msg.body_case = BH__TO_KEEPER__BODY_END;
	msg.end = &body;
	return order(keeper, child, &msg, NULL, 0);
}

int keeper_heard(struct keeper *keeper, const char *child, const char *text, const int *fds,
	size_t n_fds)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperHeard body = BH__KEEPER_HEARD__INIT;

	body.text = (char *)text;
	msg.body_case = BH__TO_KEEPER__BODY_HEARD;
	msg.heard = &body;
	return order(keeper, child, &msg, fds, n_fds);
}

int keeper_add(struct keeper *keeper, const char *child, const char *name, int fd)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperAdd body = BH__KEEPER_ADD__INIT;

	body.name = (char *)name;
	msg.body_case = BH__TO_KEEPER__BODY_ADD;
	msg.add = &body;
	return order(keeper, child, &msg, &fd, 1);
}

int keeper_forget(struct keeper *keeper, const char *child)
{
	Bh__ToKeeper msg = BH__TO_KEEPER__INIT;
	Bh__KeeperForget body = BH__KEEPER_FORGET__INIT;

	msg.body_case = BH__TO_KEEPER__BODY_FORGET;
	msg.forget = &body;
	return order(keeper, child, &msg, NULL, 0);
}
