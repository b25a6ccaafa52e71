/*
 * Robust mutexes in shared memory. The processes that share them are instances of one worker with
 * the same rights, so they trust what lies in the file. memory, which keeps the file, creates the
 * locks and takes none (procs/memory/ledgers.c).
 */
#include "virtq/locks.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/check.h"
#include "virtq/ledger.h"

#define PAGE_BYTES LEDGER_SHAPED_AT
#define MAGIC 0x534b434f4c4b4842ULL /* "BHKLOCKS" */

/** union slot - one lock, with the same room whatever the C library's mutex needs */
union slot {
	pthread_mutex_t mutex;
	uint8_t room[LEDGER_LOCK_BYTES];
};

struct part {
	uint64_t magic;
	uint64_t pad;
	union slot slots[LEDGER_LOCKS_MAX];
};

_Static_assert(sizeof(struct ledger_header) <= LEDGER_LOCKS_AT, "the locks follow the header");
_Static_assert(sizeof(union slot) == LEDGER_LOCK_BYTES, "a mutex fits its slot");
_Static_assert(LEDGER_LOCKS_AT + sizeof(struct part) == PAGE_BYTES, "the part ends with the page");

static struct part *part_of(struct ledger_locks *locks)
{
	return (struct part *)(void *)((uint8_t *)locks + LEDGER_LOCKS_AT);
}

static int map_page(int fd, struct ledger_locks **ret_locks)
{
	struct stat st;
	void *mem;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < PAGE_BYTES)
		return -ENODATA;
	mem = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	*ret_locks = mem;
	return 0;
}

static int init_all(struct part *part)
{
	pthread_mutexattr_t attr;
	int r = -pthread_mutexattr_init(&attr);

	if (r == 0)
		r = -pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (r == 0)
		r = -pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (r ==
		/* the kernel itself hands it on: a process that has just started overtakes
		 * nobody */
		0)
		r = -pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	for (unsigned int i = 0; r == 0 && i < LEDGER_LOCKS_MAX; i++)
		r = -pthread_mutex_init(&part->slots[i].mutex, &attr);
	if (r == 0)
		part->magic = MAGIC;
	pthread_mutexattr_destroy(&attr);
	return r;
}

int ledger_locks_create(int ledger_fd)
{
	struct ledger_locks *locks = NULL;
	int r = map_page(ledger_fd, &locks);

	if (r < 0)
		return r;
	r = init_all(part_of(locks));
	ledger_locks_close(locks);
	return r;
}

int ledger_locks_open(struct ledger_locks **ret_locks, int ledger_fd)
{
	struct ledger_locks *locks = NULL;
	int r = map_page(ledger_fd, &locks);

	if (r < 0)
		return r;
	if (part_of(locks)->magic != MAGIC) {
		ledger_locks_close(locks);
		return -ENODATA;
	}
	*ret_locks = locks;
	return 0;
}

struct ledger_locks *ledger_locks_close(struct ledger_locks *locks)
{
	if (locks)
		(void)munmap(locks, PAGE_BYTES);
	return NULL;
}

/* The holder died with the lock: what it served is recovered by the process that takes the lock
 * over. */
static int take_over(pthread_mutex_t *mutex, int r)
{
	return r == EOWNERDEAD ? pthread_mutex_consistent(mutex) : r;
}

bool ledger_lock_try(struct ledger_locks *locks, unsigned int i)
{
	pthread_mutex_t *mutex = &part_of(locks)->slots[i].mutex;

	check(i < LEDGER_LOCKS_MAX);
	return take_over(mutex, pthread_mutex_trylock(mutex)) == 0;
}

void ledger_lock_take(struct ledger_locks *locks, unsigned int i)
{
	pthread_mutex_t *mutex = &part_of(locks)->slots[i].mutex;

	check(i < LEDGER_LOCKS_MAX);
	check(take_over(mutex, pthread_mutex_lock(mutex)) == 0);
}

void ledger_lock_drop(struct ledger_locks *locks, unsigned int i)
{
	check(i < LEDGER_LOCKS_MAX);
	check(pthread_mutex_unlock(&part_of(locks)->slots[i].mutex) == 0);
}
