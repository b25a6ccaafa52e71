/*
 * A signal handler records the fatal input: it writes a few numbers to shared memory, restores the
 * previous handler and lets the signal happen again. SIGKILL and SIGTERM leave no mark, because a
 * process that others kill has not died of its input. A service manager whose watchdog expires
 * sends SIGABRT. The signal arrives in an arbitrary thread, most likely an idle one, so the handler
 * looks at all threads for a busy one.
 *
 * A process that faults died of the input in hand. A process that hangs may hang on one input after
 * another, and the watchdog catches it on any of them: only the kind of input repeats.
 */
#include "base/blame.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

#define THREADS_MAX 128
#define STACK_BYTES 32768

_Thread_local struct blame_here blame_here;

static const int signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS };
static struct sigaction former[ARRAY_SIZE(signals)];
static struct blame_here *_Atomic threads[THREADS_MAX];
static atomic_flag spoken = ATOMIC_FLAG_INIT;

static const struct blame_here *busy_thread(void)
{
	if (blame_here.mark)
		return &blame_here;
	for (size_t i = 0; i < THREADS_MAX; i++) {
		const struct blame_here *here = atomic_load(&threads[i]);

		if (here && here->mark)
			return here;
	}
	return NULL;
}

/* A SIGABRT from another process comes from a watchdog. */
static bool was_ended(int sig, const siginfo_t *info)
{
	return sig == SIGABRT && info->si_code <= 0 && info->si_pid != getpid();
}

static bool is_recent(const struct blame_mark *mark, const struct timespec *now)
{
	return (uint64_t)now->tv_sec - mark->when_usec / 1000000 < BLAME_HUNG_SEC;
}

/* Whether this death adds to those that the mark counts. */
static bool goes_on(const struct blame_mark *mark, const struct blame_here *here, bool hung,
	const struct timespec *now)
{
	if (mark->what != here->what)
		return false;
	return mark->which == here->which ||
		(hung && mark->signal & BLAME_HUNG && is_recent(mark, now));
}

static void speak(int sig, bool hung)
{
	const struct blame_here *here = busy_thread();
	struct blame_mark *mark = here ? here->mark : NULL;
	struct timespec now;

	if (!mark || atomic_flag_test_and_set(&spoken))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if (!goes_on(mark, here, hung, &now)) {
		mark->deaths = 0;
		mark->which = here->which;
	} else if (mark->which != here->which) {
		mark->which = BLAME_WHICH_ANY;
	}
	mark->what = here->what;
	mark->signal = (uint32_t)sig | (hung ? BLAME_HUNG : 0);
	mark->when_usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	mark->deaths++;
}

/* The call itself was not made (proc/sandbox.h). */
static void name_call(const siginfo_t *info)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "system call %d is not in this process's list\n",
		info->si_syscall);

	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody listens */
}

static void on_death(int sig, siginfo_t *info, void *context)
{
	size_t i = 0;

	if (sig == SIGSYS)
		name_call(info);
	speak(sig, was_ended(sig, info));
	while (i + 1 < ARRAY_SIZE(signals) && signals[i] != sig)
		i++;
	(void)sigaction(sig, &former[i], NULL);
	if (info->si_code <= 0 || sig == SIGSYS)
		(void)raise(sig); /* returning would not repeat it */
}

/* The fault may be an overflow of the ordinary stack. */
static void make_stack(void)
{
	stack_t stack = { .ss_size = STACK_BYTES };

	stack.ss_sp =
		mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp != MAP_FAILED)
		(void)sigaltstack(&stack, NULL);
}

int blame_install(void)
{
	struct sigaction action = { .sa_sigaction = on_death, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	blame_thread_begin();
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], &action, &former[i]) < 0)
			return -errno;
	return 0;
}

void blame_thread_begin(void)
{
	sigset_t mask;

	make_stack();
	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&mask, signals[i]);
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL); /* a blocked one would kill without a mark */
	for (size_t i = 0; i < THREADS_MAX; i++) {
		struct blame_here *none = NULL;

		if (atomic_compare_exchange_strong(&threads[i], &none, &blame_here))
			return;
	}
}

void blame_thread_end(void)
{
	const stack_t none = { .ss_flags = SS_DISABLE };
	stack_t stack;

	for (size_t i = 0; i < THREADS_MAX; i++) {
		struct blame_here *mine = &blame_here;

		(void)atomic_compare_exchange_strong(&threads[i], &mine, NULL);
	}
	if (sigaltstack(&none, &stack) == 0 && !(stack.ss_flags & SS_DISABLE))
		(void)munmap(stack.ss_sp, stack.ss_size);
}

void blame_finish(void)
{
	if (blame_here.mark)
		blame_acquit(blame_here.mark, blame_here.what, blame_here.which);
	blame_unset();
}

void blame_acquit(struct blame_mark *mark, uint64_t what, uint64_t which)
{
	if (mark->deaths && mark->deaths < BLAME_LIMIT && mark->what == what &&
		mark->which == which)
		*mark = (struct blame_mark){ 0 };
}

bool blame_may_acquit(const struct blame_mark *mark)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return !(mark->signal & BLAME_HUNG) || !is_recent(mark, &now);
}

const char *blame_describe(const struct blame_mark *mark, char *buf, unsigned int n)
{
	const char *name = sigabbrev_np((int)(mark->signal & ~BLAME_HUNG));

	snprintf(buf, n, "killed it %u times running, last by SIG%s", mark->deaths, name ?: "?");
	return buf;
}
