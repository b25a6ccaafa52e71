/*
 * Numbered frames, through an echo device and through a TAP with a mirror behind it, while the
 * worker is killed, ended in good order, and upgraded: what came back is counted. A planned restart
 * loses and repeats nothing; a kill at most the batch in hand.
 *
 * 	loss [echo|tap]
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/patience.h"
#include "mirror.h"
#include "world.h"

#define TIMES 100
#define BATCH 64   /* frames that a worker has in hand at most */
#define FRAMES 256 /* of a run; the end comes within one */
#define WITHIN_US 5000

enum way { WAY_KILL, WAY_END, WAY_UPGRADE };

static const char *const ways[] = { "SIGKILL", "SIGTERM", "bulkheadctl upgrade" };

/** struct count - of one way in one ring layout */
struct count {
	uint64_t n_sent, n_lost, n_repeated;
	uint64_t most_lost, most_repeated; /* over one end of the worker */
};

/* --- one end of the worker, in the midst of frames --- */

static void upgrade(const struct world *w)
{
	char program[512], run[128];

	snprintf(program, sizeof(program), "%s/procs/ctl/bulkheadctl", getenv("BULKHEAD_BUILD"));
	snprintf(run, sizeof(run), "--runtime-dir=%s/run", w->suite.dir);
	if (!freopen("/dev/null", "w", stdout))
		_exit(1);
	execl(program, "bulkheadctl", run, "upgrade", "guest:net0", (char *)NULL);
	_exit(1);
}

static pid_t begin_end(const struct world *w, enum way way, pid_t worker)
{
	useconds_t wait_us = (useconds_t)(random() % WITHIN_US);
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	usleep(wait_us);
	if (way == WAY_UPGRADE)
		upgrade(w);
	_exit(kill(worker, way == WAY_KILL ? SIGKILL : SIGTERM) < 0);
}

static pid_t worker_of(const struct world *w)
{
	pid_t pids[SUITE_MAX_PROCESSES];

	return world_pids(w, "net", pids, SUITE_MAX_PROCESSES) == 1 ? pids[0] : 0;
}

static int end_once(struct world *w, enum way way)
{
	pid_t worker, ender;
	int status = 0, e = world_wait(w);
	bool ended = false;

	if (e)
		return e;
	worker = worker_of(w);
	ender = begin_end(w, way, worker);
	do {
		e = world_move(w, FRAMES);
		ended = ended || waitpid(ender, &status, e ? 0 : WNOHANG) == ender;
	} while (!e && !(ended && worker_of(w) && worker_of(w) != worker));
	if (!e && (!WIFEXITED(status) || WEXITSTATUS(status)))
		e = world_fail(w, -ECHILD, "the end of the worker");
	/* through every process: the next end finds a worker that serves */
	if (!e)
		e = world_change(w);
	return e ? e : world_move(w, FRAMES);
}

static void add(struct count *count, const struct traffic *now, const struct traffic *before)
{
	uint64_t lost = now->n_lost - before->n_lost,
		 repeated = now->n_repeated - before->n_repeated;

	count->n_sent += now->n_sent - before->n_sent;
	count->n_lost += lost;
	count->n_repeated += repeated;
	count->most_lost = lost > count->most_lost ? lost : count->most_lost;
	count->most_repeated = repeated > count->most_repeated ? repeated : count->most_repeated;
}

/* --- counting --- */

static int count_way(struct world *w, enum way way, enum vmm vmm, struct count *count)
{
	int e = world_connect(w, vmm);

	*count = (struct count){ 0 };
	for (int i = 0; !e && i < TIMES / 2; i++) {
		struct traffic before = w->traffic;

		e = end_once(w, way);
		add(count, &w->traffic, &before);
	}
	return e;
}

static bool is_good(enum way way, const struct count *count)
{
	uint64_t bound = way == WAY_KILL ? BATCH : 0;

	return count->most_lost <= bound && count->most_repeated <= bound;
}

static bool report(int number, const struct world *w, enum way way, enum vmm vmm, int e,
	const struct count *count)
{
	bool good = !e && is_good(way, count);

	printf("%s %d - %s, %s, %d times %s: %lu frames sent, %lu lost (at most %lu at once), "
	       "%lu repeated (at most %lu)%s%s\n",
		good ? "ok" : "not ok", number, w->device.backend,
		vmm == VMM_SPLIT ? "split" : "packed", TIMES / 2, ways[way], count->n_sent,
		count->n_lost, count->most_lost, count->n_repeated, count->most_repeated,
		e ? ": " : "", e ? w->why : "");
	fflush(stdout);
	return good;
}

static bool count_backend(const struct suite_device *device, int *number)
{
	static struct world w;
	struct count count;
	bool good = true;

	if (world_open(&w, device)) {
		printf("Bail out! %s\n", w.why);
		return false;
	}
	for (enum way way = WAY_KILL; way <= WAY_UPGRADE; way++)
		for (enum vmm vmm = VMM_SPLIT; vmm <= VMM_PACKED; vmm++) {
			int e = count_way(&w, way, vmm, &count);

			good &= report(++*number, &w, way, vmm, e, &count);
			if (e && world_renew(&w))
				printf("Bail out! the product does not start anew: %s\n", w.why);
		}
	if (world_close(&w)) {
		printf("Bail out! at the end: %s\n", w.why);
		return false;
	}
	return good;
}

/* covers: P2 */
int main(int argc, char **argv)
{
	struct suite_device echo = { .backend = "echo" };
	struct suite_device tap = { .backend = "tap", .tap = MIRROR_TAP };
	bool both = argc < 2, good = true;
	int number = 0, e;
	pid_t mirror;

	srandom(test_seed());
	if (both || !strcmp(argv[1], "echo"))
		good &= count_backend(&echo, &number);
	if (both || !strcmp(argv[1], "tap")) {
		e = mirror_open(&mirror);
		if (e) {
			good &= e == -EPERM || e == -ENOENT;
			printf("%s %d - tap # SKIP no TAP can be made: %s\n",
				good ? "ok" : "not ok", ++number, strerror(-e));
		} else {
			good &= count_backend(&tap, &number);
			mirror_close(mirror);
		}
	}
	printf("1..%d\n", number);
	return !good;
}
