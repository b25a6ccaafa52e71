/*
 * Numbered frames through an echo device whose worker is ended again and again: killed, or told to end as a restart, a
 * reload or an upgrade does. What is planned loses no frame and repeats none; a kill at most the batch in hand.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"
#include "traffic.h"

#define ENDS 100
#define FRAMES 2048
#define FRAME_BYTES 200
#define BATCH 64	/* chains that a worker takes in one turn at most */
#define LINE_WORKER 4	/* of the launcher's lock file */
#define LIVES_MS 20	/* at least, so that most of them serve */

static const struct {
	const char *name;
	int signal;
	uint64_t features;
} cases[] = {
	{ "planned, split", SIGTERM, 0 },
	{ "planned, packed", SIGTERM, VU_BIT(VU_F_PACKED) },
	{ "killed, split", SIGKILL, 0 },
	{ "killed, packed", SIGKILL, VU_BIT(VU_F_PACKED) },
};

static pid_t worker(const struct suite *s)
{
	char path[160];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/run/guest/lock", s->dir);
	f = fopen(path, "re");
	if (!f)
		return 0;
	for (int i = 0; i <= LINE_WORKER; i++)
		if (fscanf(f, "%ld", &pid) != 1)
			pid = 0;
	fclose(f);
	return (pid_t)pid;
}

static void nap(unsigned int ms)
{
	struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&pause, NULL);
}

/* A process of its own: it ends each worker once, and counts. */
static pid_t start_ender(const struct suite *s, int signal, uint32_t *n_ended)
{
	pid_t pid = fork(), last = 0, now;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (*n_ended < ENDS) {
		nap(LIVES_MS + (unsigned int)random() % LIVES_MS);
		now = worker(s);
		if (now <= 0 || now == last || kill(now, signal) < 0)
			continue;
		last = now;
		__atomic_add_fetch(n_ended, 1, __ATOMIC_RELAXED);
	}
	_exit(0);
}

static int move(struct traffic *t, struct net *n, const uint32_t *n_ended)
{
	int e = 0;

	while (!e && __atomic_load_n(n_ended, __ATOMIC_RELAXED) < ENDS)
		e = traffic_run(t, n, FRAMES, FRAME_BYTES);
	return e ? e : traffic_run(t, n, FRAMES, FRAME_BYTES);
}

static int run(struct suite *s, size_t i, struct traffic *t, char *why, size_t n_why)
{
	struct net_profile profile = { .features = cases[i].features };
	uint32_t *n_ended = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct net n;
	pid_t ender;
	int e = net_open(&n, suite_socket(s, "net0"), &profile);

	if (!e) {
		ender = start_ender(s, cases[i].signal, n_ended);
		e = move(t, &n, n_ended);
		kill(ender, SIGKILL);
		waitpid(ender, NULL, 0);
	}
	snprintf(why, n_why, "%s", n.why);
	net_close(&n);
	munmap(n_ended, 4096);
	return e;
}

static bool within(size_t i, const struct traffic *t)
{
	uint64_t most = cases[i].signal == SIGKILL ? (uint64_t)BATCH * ENDS : 0;

	return t->n_lost <= most && t->n_repeated <= most;
}

int main(void)
{
	static const struct suite_device devices[] = { { .name = "net0", .backend = "echo" } };
	const size_t n_cases = sizeof(cases) / sizeof(cases[0]);
	bool failed = false;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", n_cases);
	for (size_t i = 0; i < n_cases; i++) {
		struct traffic t = { 0 };
		char why[256] = "";
		struct suite s;
		int e = suite_start(&s, devices, 1);

		if (!e)
			e = suite_wait_ready(&s);
		if (!e)
			e = run(&s, i, &t, why, sizeof(why));
		if (suite_stop(&s) && !e)
			e = -ECHILD;
		failed |= e || !within(i, &t);
		printf("%s %zu - %s, %d times: %llu frames, %llu lost, %llu repeated\n", e || !within(i, &t) ? "not ok" : "ok",
			i + 1, cases[i].name, ENDS, (unsigned long long)t.n_sent, (unsigned long long)t.n_lost,
			(unsigned long long)t.n_repeated);
		if (e)
			printf("# %s: %s %s\n", strerror(e < 0 ? -e : EPROTO), why, s.why);
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
