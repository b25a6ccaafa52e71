/*
 * The turn: which instance serves. The instance that holds the ledger's locks serves, all others
 * stand by. In each standby, a thread blocks on the lock, and wakes the loop when it gets it
 * because the holder has died or released it. That thread keeps the lock: a lock belongs to a
 * thread, not to a process.
 */
#include "device/core.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "device/foreign.h"
#include "device/thread.h"

int turn_open(struct turn *turn, int ledger_fd)
{
	int r = ledger_locks_open(&turn->locks, ledger_fd);

	/* written by a release without locks: no other instance can exist */
	return r == -ENODATA ? 0 : r;
}

/* Threads of the previous holder may still be exiting: the kernel releases the lock of each when
 * it is gone. Only the holder of LOCK_SERVE, with its threads, ever takes another lock. */
static void take_others(struct turn *turn)
{
	for (unsigned int i = LOCK_THREAD; i < LEDGER_LOCKS_MAX; i++) {
		ledger_lock_take(turn->locks, i);
		ledger_lock_drop(turn->locks, i);
	}
	ledger_lock_take(turn->locks, LOCK_LOOP);
	turn->ours = true;
}

bool turn_take(struct turn *turn)
{
	if (!turn->locks)
		return true;
	if (!ledger_lock_try(turn->locks, LOCK_SERVE))
		return false;
	take_others(turn);
	return true;
}

static void *wait_main(void *data)
{
	struct turn *turn = data;
	uint64_t one = 1;

	ledger_lock_take(turn->locks, LOCK_SERVE);
	check(write(turn->wake_fd, &one, sizeof(one)) == sizeof(one));
	sem_wait(&turn->give);
	ledger_lock_drop(turn->locks, LOCK_SERVE);
	return NULL;
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct turn *turn = data;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	take_others(turn);
	turn->on_turn(turn->data);
	return 0;
}

int turn_wait(struct turn *turn, sd_event *event, void (*on_turn)(void *data), void *data)
{
	int r;

	turn->on_turn = on_turn;
	turn->data = data;
	turn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (turn->wake_fd < 0)
		return -errno;
	r = sd_event_add_io(event, &turn->wake_source, turn->wake_fd, EPOLLIN, on_wake, turn);
	if (r < 0)
		return r;
	/* before the watch of the record, because the guest is waiting */
	r = sd_event_source_set_priority(turn->wake_source, SD_EVENT_PRIORITY_IMPORTANT);
	if (r < 0)
		return r;
	sem_init(&turn->give, 0, 0);
	r = device_thread_start(&turn->waiter, wait_main, turn);
	turn->waits = r == 0;
	return r;
}

void turn_give(struct turn *turn)
{
	if (turn->ours) {
		ledger_lock_drop(turn->locks, LOCK_LOOP);
		if (turn->waits) {
			sem_post(&turn->give);
			pthread_join(turn->waiter, NULL);
			turn->waits = false;
		} else {
			ledger_lock_drop(turn->locks, LOCK_SERVE);
		}
		turn->ours = false;
	}
	turn->wake_source = sd_event_source_disable_unref(turn->wake_source);
	/* a waiting thread lives until the process exits, and uses these until then */
	if (turn->waits)
		return;
	turn->wake_fd = fd_close(turn->wake_fd);
	turn->locks = ledger_locks_close(turn->locks);
}

int device_thread_start(pthread_t *ret_thread, void *(*main)(void *data), void *data)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(ret_thread, NULL, main, data);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

void device_thread_begin(struct device *device, unsigned int i)
{
	struct turn *turn = &device->core->turn;

	blame_thread_begin();
	if (turn->locks)
		ledger_lock_take(turn->locks, LOCK_THREAD + i);
}

void device_thread_end(struct device *device, unsigned int i)
{
	struct turn *turn = &device->core->turn;

	foreign_end();
	blame_thread_end();
	if (turn->locks)
		ledger_lock_drop(turn->locks, LOCK_THREAD + i);
}
