/*
 * O_NONBLOCK belongs to the open file description, which the VMM shares: the VMM may clear it
 * between a check and the write. So a write cannot be kept from blocking, but it can be
 * interrupted: while a thread makes such calls, a per-thread timer sends it a signal at intervals,
 * and the signal ends a blocked call.
 *
 * The timer is armed by the first call, and disarmed by a tick that finds no call in progress. A
 * busy thread pays two stores per call and one signal per tick; an idle thread pays nothing.
 */
#include "device/foreign.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

#define TICK_SIGNAL SIGURG /* unused by others, and ignored without a handler */

/** struct pacer - the timer of one thread */
struct pacer {
	timer_t timer;
	bool made;
	bool failed; /* no timer could be created: check before each call */
	volatile sig_atomic_t runs;
	volatile sig_atomic_t inside; /* a call is in progress */
};

static _Thread_local struct pacer pacer __attribute__((tls_model("initial-exec")));
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;

static void set_timer(long ms)
{
	struct itimerspec time = { .it_value.tv_nsec = ms * 1000000,
		.it_interval.tv_nsec = ms * 1000000 };

	(void)timer_settime(pacer.timer, 0, &time, NULL);
}

static void on_tick(int sig)
{
	int saved = errno;

	if (!pacer.inside) {
		pacer.runs = 0;
		set_timer(0);
	}
	errno = saved;
}

static void install_handler(void)
{
	struct sigaction action = {
		.sa_handler = on_tick
	}; /* no SA_RESTART: the signal must interrupt the call */

	sigemptyset(&action.sa_mask);
	(void)sigaction(TICK_SIGNAL, &action, NULL);
}

static bool make_timer(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL };
	sigset_t mask;

	if (pacer.made || pacer.failed)
		return pacer.made;
	event._sigev_un._tid = gettid();
	pthread_once(&handler_once, install_handler);
	pacer.made = timer_create(CLOCK_MONOTONIC, &event, &pacer.timer) == 0;
	pacer.failed = !pacer.made;
	sigemptyset(&mask);
	sigaddset(&mask, TICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	return pacer.made;
}

/* Runs before each call. false: the call would block, or no timer would interrupt it. */
static bool begin(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (likely(pacer.runs) || make_timer()) {
		pacer.inside = 1;
		atomic_signal_fence(memory_order_seq_cst);
		if (unlikely(!pacer.runs)) {
			pacer.runs = 1;
			set_timer(FOREIGN_TICK_MS);
		}
		return true;
	}
	return poll(&p, 1, 0) == 1 && p.revents & events;
}

static void end(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	pacer.inside = 0;
}

bool foreign_write(int fd)
{
	static const uint64_t one = 1;
	bool done;

	if (!begin(fd, POLLOUT))
		return false;
	done = write(fd, &one, sizeof(one)) >= 0 || (errno != EINTR && errno != EAGAIN);
	end();
	return done;
}

bool foreign_read(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;
	struct iovec iov = { .iov_base = &n, .iov_len = sizeof(n) };
	bool done;

	if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) > 0)
		return true;
	if (errno != EOPNOTSUPP || poll(&p, 1, 0) != 1 || !(p.revents & POLLIN) ||
		!begin(fd, POLLIN))
		return false;
	done = read(fd, &n, sizeof(n)) > 0;
	end();
	return done;
}

void foreign_end(void)
{
	if (pacer.made)
		(void)timer_delete(pacer.timer);
	pacer = (struct pacer){ 0 };
}
