/*
 * Each process is killed again and again under a VMM whose frames flow, which hands over other
 * descriptors, and which goes and comes; afterwards nothing may be left of those that are gone: the
 * others, and the launcher with its fd stores, have no more descriptors than before, but for some
 * spare connections of the bus, and no more memory, and there are no more files.
 *
 * 	restarts [PROCESS]		150 times, with BULKHEAD_FULL=1 10,000 times
 */
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "config/roles.h"
#include "lib/patience.h"
#include "world.h"

#define TIMES 150
#define TIMES_FULL 10000
#define WARM 120  /* restarts before the first look: caches and arenas have their size then */
#define SESSION 5 /* restarts that a VMM sees */
#define SETTLE_MS test_ms(20000)
#define CALM_MS 500
#define GROWN_MAX_KIB 512 /* what an arena may grow by; 10,000 leaks of 64 bytes are more */
#define N_WHO (ROLES_PER_GUEST + 2) /* the processes of a guest with one device, and the launcher */

/* On a busy machine memory dials a peer again before its first attempt has come through, and both
 * connections stay: BUS_DIALERS, which is 4, for a peer at most. One is of one socket in memory and
 * three in the peer. */
#define SPARE_SOCKETS 9

/** struct look - what there is of everything */
struct look {
	struct suite_fds fds[N_WHO];
	size_t n_files;
	long rss_kib[N_WHO];
};

/* --- looking --- */

static const char *who(const struct world *w, size_t i)
{
	return i ? world_role(w, i - 1) : "launcher";
}

static long rss_of(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static size_t n_files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path, (void)st, (void)type, (void)at;
	n_files++;
	return 0;
}

static void look(const struct world *w, struct look *ret)
{
	*ret = (struct look){ 0 };
	for (size_t i = 0; i < N_WHO; i++) {
		pid_t pid = w->suite.pid;

		if (i && world_pids(w, who(w, i), &pid, 1) != 1)
			continue;
		suite_count_fds(pid, &ret->fds[i]);
		ret->rss_kib[i] = rss_of(pid);
	}
	n_files = 0;
	nftw(w->suite.dir, count_file, 16, FTW_PHYS);
	ret->n_files = n_files;
}

static bool same_counts(const struct look *a, const struct look *b)
{
	for (size_t i = 0; i < N_WHO; i++)
		if (b->fds[i].others != a->fds[i].others ||
			b->fds[i].sockets > a->fds[i].sockets + SPARE_SOCKETS ||
			a->fds[i].sockets > b->fds[i].sockets + SPARE_SOCKETS)
			return false;
	return a->n_files == b->n_files;
}

static bool leaks(const struct look *before, const struct look *after)
{
	for (size_t i = 0; i < N_WHO; i++)
		if (after->fds[i].others > before->fds[i].others ||
			after->fds[i].sockets > before->fds[i].sockets + SPARE_SOCKETS)
			return true;
	return after->n_files > before->n_files;
}

/* what a process still holds of one that has just gone, it soon lets go of */
static void look_settled(const struct world *w, const struct look *before, struct look *ret)
{
	for (int ms = 0; ms < SETTLE_MS; ms += 20) {
		look(w, ret);
		if (!leaks(before, ret))
			return;
		poll(NULL, 0, 20);
	}
}

/* what nobody lets go of any more: the same for CALM_MS */
static void look_calm(const struct world *w, struct look *ret)
{
	struct look next;
	int calm_ms = 0;

	look(w, ret);
	for (int ms = 0; ms < SETTLE_MS && calm_ms < CALM_MS; ms += 20) {
		poll(NULL, 0, 20);
		look(w, &next);
		calm_ms = same_counts(ret, &next) ? calm_ms + 20 : 0;
		*ret = next;
	}
}

/* --- restarting --- */

/* A descriptor that takes the place of another: that one must go, from the vault and from the
 * store. */
static int replace(struct world *w)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int e = fd < 0 ? -errno : vu_set_vring_fd(&w->vm.n.c, VU_SET_VRING_ERR, 1, fd);

	if (fd >= 0)
		close(fd);
	return world_fail(w, e, "another descriptor");
}

/* A VMM that goes takes all that it handed over with it. */
static int come_again(struct world *w)
{
	world_hang_up(w);
	return world_connect(w, VMM_SPLIT);
}

static int restart(struct world *w, const char *role, uint32_t times)
{
	int e = 0;

	for (uint32_t i = 0; !e && i < times; i++) {
		pid_t pid;

		e = world_wait(w);
		if (e || world_pids(w, role, &pid, 1) != 1)
			break;
		kill(pid, SIGKILL);
		e = world_move(w, 4);
		if (!e)
			e = replace(w);
		if (!e)
			e = world_change(w);
		if (!e && i % SESSION == SESSION - 1)
			e = come_again(w);
	}
	return e ? e : world_wait(w);
}

/* the process that was killed is a new one each time: its memory tells nothing */
static bool grew(const struct world *w, const struct look *before, const struct look *after,
	const char *role)
{
	for (size_t i = 0; i < N_WHO; i++)
		if (strcmp(who(w, i), role) != 0 &&
			after->rss_kib[i] > before->rss_kib[i] + GROWN_MAX_KIB)
			return true;
	return false;
}

static bool try_role(int number, struct world *w, const char *role, uint32_t times)
{
	struct look before = { 0 }, after = { 0 };
	int e = world_connect(w, VMM_SPLIT);
	bool good;

	if (!e)
		e = restart(w, role, WARM);
	look_calm(w, &before);
	if (!e)
		e = restart(w, role, times);
	look_settled(w, &before, &after);
	good = !e && !leaks(&before, &after) && !grew(w, &before, &after, role);
	printf("%s %d - %u restarts of %s%s%s\n", good ? "ok" : "not ok", number, times, role,
		e ? ": " : "", e ? w->why : "");
	for (size_t i = 0; i < N_WHO; i++)
		printf("#   %-8s descriptors %zu, then %zu; sockets %zu, then %zu; memory %ld KiB, then %ld\n",
			who(w, i), before.fds[i].others, after.fds[i].others, before.fds[i].sockets,
			after.fds[i].sockets, before.rss_kib[i], after.rss_kib[i]);
	printf("#   files %zu, then %zu\n", before.n_files, after.n_files);
	fflush(stdout);
	if (e && world_renew(w))
		printf("Bail out! the product does not start anew: %s\n", w->why);
	return good;
}

/* covers: P3 */
int main(int argc, char **argv)
{
	static struct world w;
	uint32_t times = getenv("BULKHEAD_FULL") ? TIMES_FULL : TIMES;
	bool good = true;
	int number = 0;

	if (world_open(&w, NULL)) {
		printf("Bail out! %s\n", w.why);
		return 1;
	}
	for (size_t i = 1; i < N_WHO; i++)
		if (argc < 2 || !strcmp(argv[1], who(&w, i)))
			good &= try_role(++number, &w, who(&w, i), times);
	printf("1..%d\n", number);
	if (world_close(&w)) {
		printf("Bail out! at the end: %s\n", w.why);
		return 1;
	}
	return !good;
}
