/*
 * What one change takes that the VMM waits for, with all rings running and nothing in them: from
 * sending the message to its acknowledgement.
 *
 *   call   SET_VRING_CALL: another descriptor on a running ring
 *   stop   GET_VRING_BASE: the ring stops
 *   start  SET_VRING_KICK: the ring starts again, where it stopped
 *
 * bench-change [TIMES]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net.h"
#include "suite.h"

static struct net n;

struct step {
	const char *name;
	int (*do_it)(void);
	double *took_ms;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int change_call(void)
{
	return vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 1, n.rings[1].call_fd);
}

static int stop(void)
{
	return net_stop_ring(&n, 1);
}

static int start(void)
{
	return net_start_ring(&n, 1);
}

static struct step steps[] = { { "call", change_call, NULL }, { "stop", stop, NULL },
	{ "start", start, NULL } };

#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int measure(size_t times)
{
	int e = 0;

	for (size_t k = 0; k < N_STEPS && !e; k++)
		e = (steps[k].took_ms = calloc(times, sizeof(double))) ? 0 : -ENOMEM;
	for (size_t i = 0; i < times && !e; i++)
		for (size_t k = 0; k < N_STEPS && !e; k++) {
			double begun = now_ms();

			e = steps[k].do_it();
			steps[k].took_ms[i] = now_ms() - begun;
		}
	return e;
}

static void print(size_t times)
{
	printf("%-8s %9s %9s %9s   ms, %zu times\n", "change", "best", "median", "worst", times);
	for (size_t k = 0; k < N_STEPS; k++) {
		double *took = steps[k].took_ms;

		qsort(took, times, sizeof(*took), by_size);
		printf("%-8s %9.3f %9.3f %9.3f\n", steps[k].name, took[0], took[times / 2],
			took[times - 1]);
	}
}

int main(int argc, char **argv)
{
	static const struct suite_device net0 = { .name = "net0", .backend = "echo" };
	static const struct net_profile profile = { .ring_size = 256 };
	static struct suite suite;
	size_t times = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
	int e = suite_start(&suite, &net0, 1) ?: suite_wait_ready(&suite);

	if (!e)
		e = net_open(&n, suite_socket(&suite, "net0"), &profile);
	if (!e && times)
		e = measure(times);
	if (e)
		fprintf(stderr, "%s: %s %s\n", strerror(e < 0 ? -e : EPROTO), suite.why, n.why);
	else if (times)
		print(times);
	for (size_t k = 0; k < N_STEPS; k++)
		free(steps[k].took_ms);
	return suite_stop(&suite) || e;
}
