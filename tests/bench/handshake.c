/*
 * What a VMM's handshake takes: the message logs of real front-ends, played as fast as their
 * front-end would (it waits where an answer is owed, and nowhere else), each over a connection of
 * its own.
 *
 *   handshake      from connect() to the first descriptor that is served
 *   last message   from sending the last message of the handshake to that descriptor
 *
 * bench-handshake [TIMES]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "suite.h"
#include "wire/replay.h"

#define SERVED_MS 5000

static const char *const logs[] = { "qemu72-tp-tap22", "qemu11-tp-tap22", "uml-passt",
	"virtio_user22", "virtio_user25" };

struct taken {
	double *handshake_ms, *last_ms;
	size_t n_messages;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* How many events there are before the log stops its rings, or hangs up. */
static size_t count_handshake(const struct log_event *events, size_t n)
{
	bool kicked = false;
	size_t i;

	for (i = 0; i < n && !(kicked && replay_ends(&events[i])); i++)
		kicked |= events[i].request == VU_SET_VRING_KICK;
	return i;
}

static int post(struct replay *r, uint16_t index, bool write)
{
	struct ring_seg seg = { .len = NET_HDR_BYTES + 60, .write = write };
	int e;

	seg.gpa = guest_alloc(&r->n.g, seg.len, 1);
	memset(guest_at(&r->n.g, seg.gpa, seg.len), 0, seg.len);
	e = ring_post(&r->n.rings[index], &seg, 1, NULL);
	if (!e)
		ring_kick(&r->n.rings[index]);
	return e;
}

/* A frame for the driver needs a buffer, and one from it to be echoed. */
static int serve_one(struct replay *r)
{
	return post(r, 0, true) ?: post(r, 1, false) ?: ring_poll(&r->n.rings[0], SERVED_MS);
}

static int shake_hands(const char *socket, const struct log_event *events, size_t n,
	struct taken *taken, size_t i)
{
	static struct replay r;
	double begun, last = 0;
	int e;

	memset(&r, 0, sizeof(r));
	begun = now_ms();
	e = replay_open(&r, socket);
	for (size_t k = 0; !e && k < n; k++) {
		last = now_ms();
		e = replay_event(&r, &events[k]);
	}
	if (!e)
		e = serve_one(&r);
	taken->handshake_ms[i] = now_ms() - begun;
	taken->last_ms[i] = now_ms() - last;
	if (e)
		fprintf(stderr, "%s: %s\n", strerror(e < 0 ? -e : EPROTO), r.why ? r.why : "");
	replay_close(&r);
	return e;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_figures(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_size);
	printf("%10.2f %8.2f %8.2f", values[0], values[n / 2], values[n - 1]);
}

static int measure(const char *socket, const char *name, size_t times)
{
	static struct log_event events[LOG_MAX_EVENTS];
	const char *source = getenv("BULKHEAD_SOURCE");
	struct taken taken = { calloc(times, sizeof(double)), calloc(times, sizeof(double)), 0 };
	char path[512];
	int n, e = 0;

	snprintf(path, sizeof(path), "%s/tests/data/messages/%s.log", source ? source : ".", name);
	n = log_read(path, events, LOG_MAX_EVENTS);
	if (n < 0)
		return n;
	taken.n_messages = count_handshake(events, (size_t)n);
	for (size_t i = 0; !e && i < times; i++)
		e = shake_hands(socket, events, taken.n_messages, &taken, i);
	if (!e) {
		printf("%-18s %8zu", name, taken.n_messages);
		print_figures(taken.handshake_ms, times);
		print_figures(taken.last_ms, times);
		printf(" %6zu\n", times);
		fflush(stdout);
	}
	free(taken.handshake_ms);
	free(taken.last_ms);
	return e;
}

int main(int argc, char **argv)
{
	static const struct suite_device net0 = {
		.name = "net0", .backend = "echo", .queue_pairs = 2
	};
	static struct suite suite;
	size_t times = argc > 1 ? strtoul(argv[1], NULL, 10) : 50;
	int e = suite_start(&suite, &net0, 1) ?: suite_wait_ready(&suite);

	printf("%-18s %8s %28s%28s\n%-18s %8s %10s %8s %8s%10s %8s %8s %6s\n", "", "",
		"handshake ms", "last message ms", "log", "messages", "best", "median", "worst",
		"best", "median", "worst", "n");
	for (size_t i = 0; !e && times && i < sizeof(logs) / sizeof(logs[0]); i++)
		e = measure(suite_socket(&suite, "net0"), logs[i], times);
	if (e)
		fprintf(stderr, "%s: %s\n", strerror(-e), suite.why);
	return suite_stop(&suite) || e;
}
