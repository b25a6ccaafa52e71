/*
 * When a process is killed, the kernel tears its page tables down before it notifies the parent.
 * For 4 GiB of guest memory in 4 KiB pages that takes some 40 ms, during which nobody starts a
 * successor. A second process that shares the address space exits a few milliseconds after the
 * first, so that the tear-down falls to it. It is nice, and the successor starts meanwhile; but not
 * so nice that the memory of a guest that is gone stays in use for minutes on a host whose CPUs are
 * never idle.
 */
#include "proc/late-unmap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sanitizer.h"

#define STACK_BYTES 16384
#define NICENESS 10
#define NAME "(late-unmap)" /* systemd ignores left-over processes whose name has a parenthesis */

static uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));

/* errno and all other memory belong to the first process: only raw system calls, whose errors do
 * not matter. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int linger(void *parent)
{
	const struct timespec until_all_threads_are_gone = { .tv_nsec = 5000000 };
	const uint64_t orphaned = UINT64_C(1) << (SIGUSR1 - 1);

	(void)syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0);
	(void)syscall(SYS_prctl, PR_SET_NAME, NAME, 0, 0, 0);
	/* first of all, since its copies of a TAP and of connections would outlive the first
	 * process */
	(void)syscall(SYS_close_range, 0, ~0U, 0);
	(void)syscall(SYS_setpriority, PRIO_PROCESS, 0, NICENESS);
	while (syscall(SYS_getppid) == (pid_t)(intptr_t)parent)
		(void)syscall(SYS_rt_sigtimedwait, &orphaned, NULL, NULL, sizeof(orphaned));
	(void)syscall(SYS_nanosleep, &until_all_threads_are_gone, NULL);
	(void)syscall(SYS_exit_group, 0);
	return 0;
}

void late_unmap(void)
{
	sigset_t all, before;

	/* ThreadSanitizer aborts the first process because of a clone() that it does not know */
	if (SANITIZES_THREADS)
		return;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	if (clone(linger, stack + STACK_BYTES, CLONE_VM, (void *)(intptr_t)getpid()) < 0)
		log_warning("cannot start the process that delays unmapping, restarts will take longer: %s",
			strerror(errno));
	sigprocmask(SIG_SETMASK, &before, NULL);
}
