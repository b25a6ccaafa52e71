/*
 * PTRACE_SEIZE does not disturb: no signal is sent, and a tracer that ends lets its tracees run on.
 * The kernel reports a thread group's end to the tracer before its parent hears of it, so all that
 * dies is waited for at once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include "stepper.h"

#define REPORT_FD 3
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE)
#define CALLS 4096
#define SYSCALL_STOP (SIGTRAP | 0x80)

/** struct call - the last one that a thread began */
struct call {
	pid_t tid;
	uint32_t nr, last;
};

struct tracer {
	struct stepper_plan plan;
	struct call calls[CALLS];
	struct stepper_report report;
	unsigned int n_alive; /* of the plan's processes */
};

/* --- taking hold --- */

static void resume(const struct tracer *t, pid_t tid, int sig)
{
	(void)ptrace(tid == t->plan.parent ? PTRACE_CONT : PTRACE_SYSCALL, tid, 0, (long)sig);
}

/* 1 a new thread is held, 0 it was held already or has ended */
static int seize_thread(const struct tracer *t, pid_t tid, long options)
{
	int status;

	if (ptrace(PTRACE_SEIZE, tid, 0, options) < 0)
		return 0;
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || waitpid(tid, &status, __WALL) != tid)
		return 0;
	if (WIFSTOPPED(status))
		resume(t, tid, 0);
	return 1;
}

static int seize_process(const struct tracer *t, pid_t pid, long options)
{
	char path[64];
	int any = 0, found;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	do { /* until no thread has come up meanwhile */
		DIR *dir = opendir(path);
		struct dirent *entry;

		found = 0;
		while (dir && (entry = readdir(dir)))
			if (atoi(entry->d_name) > 0)
				found |= seize_thread(t, atoi(entry->d_name), options);
		if (dir)
			closedir(dir);
		any |= found;
	} while (found);
	return any ? 0 : -ESRCH;
}

static int seize_all(struct tracer *t)
{
	int e = 0;

	if (t->plan.parent)
		return seize_process(t, t->plan.parent, OPTIONS | PTRACE_O_TRACEFORK);
	for (unsigned int i = 0; !e && i < t->plan.n_pids; i++)
		e = seize_process(t, t->plan.pids[i], OPTIONS);
	t->n_alive = t->plan.n_pids;
	return e;
}

/* --- stops --- */

/* The killed one's call has not been carried out when it is killed before it. */
static bool accepting(const struct tracer *t, pid_t tid)
{
	for (size_t i = 0; i < CALLS; i++) {
		const struct call *call = &t->calls[i];

		if ((call->tid == tid && t->report.before ? call->last : call->nr) == SYS_accept4)
			return true;
	}
	return false;
}

static void kill_all(struct tracer *t, pid_t tid, uint32_t call)
{
	t->report.reached = true;
	t->report.call = call;
	t->report.pid = tid;
	t->report.accepting = accepting(t, tid);
	kill(tid, SIGKILL);
	for (unsigned int i = 0; i < t->plan.n_pids; i++)
		kill(t->plan.pids[i], SIGKILL);
}

/* true: killed, and must not be resumed */
static bool on_syscall(struct tracer *t, pid_t tid)
{
	struct __ptrace_syscall_info info;
	struct call *call;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0 || t->report.reached ||
		(info.op != PTRACE_SYSCALL_INFO_ENTRY && info.op != PTRACE_SYSCALL_INFO_EXIT))
		return false;
	call = &t->calls[tid % CALLS];
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		*call = (struct call){ tid, (uint32_t)info.entry.nr,
			call->tid == tid ? call->nr : 0 };
	if (++t->report.n_steps < t->plan.kill_at)
		return false;
	t->report.before = info.op == PTRACE_SYSCALL_INFO_ENTRY;
	kill_all(t, tid, call->tid == tid ? call->nr : UINT32_MAX);
	return true;
}

static void on_fork(struct tracer *t, pid_t tid)
{
	unsigned long child = 0;

	if (tid != t->plan.parent || t->plan.n_pids == STEPPER_MAX || t->report.reached ||
		ptrace(PTRACE_GETEVENTMSG, tid, 0, &child) < 0)
		return;
	t->plan.pids[t->plan.n_pids++] = (pid_t)child;
	t->n_alive++;
}

static void on_end(struct tracer *t, pid_t pid)
{
	for (unsigned int i = 0; i < t->plan.n_pids; i++) {
		if (t->plan.pids[i] != pid)
			continue;
		t->plan.pids[i] = t->plan.pids[--t->plan.n_pids];
		t->n_alive--;
		return;
	}
}

static void on_status(struct tracer *t, pid_t tid, int status)
{
	int sig = WSTOPSIG(status);
	int event = status >> 16;

	if (!WIFSTOPPED(status)) {
		t->calls[tid % CALLS] = (struct call){ 0 };
		on_end(t, tid);
	} else if (sig == SYSCALL_STOP) {
		if (!on_syscall(t, tid))
			resume(t, tid, 0);
	} else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP) {
		(void)ptrace(PTRACE_LISTEN, tid, 0, 0);
	} else if (event) {
		if (event == PTRACE_EVENT_FORK)
			on_fork(t, tid);
		resume(t, tid, 0);
	} else {
		resume(t, tid, sig);
	}
}

static void trace(struct tracer *t, const sigset_t *set)
{
	while (!t->report.reached || t->n_alive) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);

		if (tid > 0)
			on_status(t, tid, status);
		else if (tid < 0 && errno == ECHILD)
			return;
		else if (tid == 0 && sigwaitinfo(set, NULL) == SIGTERM)
			return;
	}
}

/* --- the tracer's life --- */

static void write_or_die(const void *bytes, size_t n)
{
	if (write(REPORT_FD, bytes, n) != (ssize_t)n)
		_exit(1);
}

__attribute__((noreturn)) static void run(const struct stepper_plan *plan, int fd)
{
	static struct tracer t;
	sigset_t set;
	int e;

	t.plan = *plan;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* a connection that the test closes must not live on here */
	if (fd != REPORT_FD && dup2(fd, REPORT_FD) < 0)
		_exit(1);
	if (close_range(REPORT_FD + 1, ~0u, 0) < 0)
		_exit(1);
	e = seize_all(&t);
	write_or_die(&e, sizeof(e));
	if (!e)
		trace(&t, &set);
	write_or_die(&t.report, sizeof(t.report));
	_exit(0);
}

int stepper_arm(struct stepper *s, const struct stepper_plan *plan)
{
	int fds[2], e;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	s->pid = fork();
	if (!s->pid)
		run(plan, fds[1]);
	close(fds[1]);
	s->fd = fds[0];
	if (s->pid > 0 && read(s->fd, &e, sizeof(e)) == sizeof(e) && !e)
		return 0;
	stepper_disarm(s, &(struct stepper_report){ 0 });
	return -ESRCH;
}

int stepper_disarm(struct stepper *s, struct stepper_report *ret)
{
	bool heard;

	kill(s->pid, SIGTERM);
	heard = read(s->fd, ret, sizeof(*ret)) == sizeof(*ret);
	close(s->fd);
	waitpid(s->pid, NULL, 0);
	return heard ? 0 : -EIO;
}
