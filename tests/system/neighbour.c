/*
 * neighbour - an innocent guest: moves frames through an echo device for as long as it is let
 *
 * neighbour SOCKET [packed]
 *
 * Says "moves" once the first frames are back, and goes on until its standard input ends. Then it
 * prints how many frames it has moved, in how many milliseconds, and the longest time that a burst
 * took. A frame that is lost, changed, repeated or late ends it with status 1 and a line.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "net.h"

#define BURST 32
#define FRAME_BYTES 600
#define REST_MS 1 /* the others need a processor as well */

static struct net n;

static bool is_over(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	return poll(&p, 1, REST_MS) == 1;
}

static int move(uint64_t *ret_longest_ms)
{
	uint64_t start = clock_ms();
	int e = net_pump(&n, 0, BURST, FRAME_BYTES);
	uint64_t took_ms = clock_ms() - start;

	if (took_ms > *ret_longest_ms)
		*ret_longest_ms = took_ms;
	return e;
}

int main(int argc, char **argv)
{
	struct net_profile p = { .features = VU_BIT(VU_F_EVENT_IDX) };
	uint64_t longest_ms = 0, start = clock_ms();
	unsigned long n_frames = 0;
	int e;

	if (argc > 2 && strcmp(argv[2], "packed") == 0)
		p.features |= VU_BIT(VU_F_PACKED);
	e = argc > 1 ? net_open(&n, argv[1], &p) : -1;
	for (; !e; n_frames += BURST) {
		e = move(&longest_ms);
		if (!n_frames && !e) {
			printf("moves\n");
			fflush(stdout);
			longest_ms = 0;
			start = clock_ms();
		}
		if (is_over())
			break;
	}
	e = e ? e : net_check(&n);
	if (e)
		printf("the neighbour: %s\n", n.why);
	else
		printf("%lu %lu %lu\n", n_frames, (unsigned long)(clock_ms() - start),
			(unsigned long)longest_ms);
	net_close(&n);
	return e ? 1 : 0;
}
