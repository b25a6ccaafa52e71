/*
 * What one core can do at a TAP with plain calls: the limit of every back-end on it.
 *
 *   bench-tap NAME out BYTES SECONDS   write() only; the kernel drops what comes
 *   bench-tap NAME turn BYTES SECONDS  write(), and read() of what the interface sends back
 *
 * Prints frames a second, and nanoseconds of CPU time for each. It runs in the TAP's network
 * namespace; the TAP is made with vnet_hdr.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

#define HDR_BYTES 12
#define FRAME_MAX 65536
#define BURST 32

static uint8_t frame[HDR_BYTES + FRAME_MAX], back[HDR_BYTES + FRAME_MAX];

static double seconds_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_tap(const char *name)
{
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), hdr_bytes = HDR_BYTES;
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	check(fd >= 0 && strlen(name) < sizeof(request.ifr_name));
	memcpy(request.ifr_name, name, strlen(name));
	check(ioctl(fd, TUNSETIFF, &request) == 0);
	check(ioctl(fd, TUNSETVNETHDRSZ, &hdr_bytes) == 0);
	return fd;
}

/* An IPv4 packet to somebody else, as testpmd sends it. */
static void make_frame(void)
{
	static const uint8_t head[] = { 0x02, 0, 0, 0, 0, 0, 0x52, 0x54, 0, 0, 0, 1, 8, 0, 0x45 };

	memcpy(frame + HDR_BYTES, head, sizeof(head));
}

static uint64_t write_burst(int fd, size_t n_bytes)
{
	uint64_t n = 0;

	for (int i = 0; i < BURST; i++)
		n += write(fd, frame, HDR_BYTES + n_bytes) > 0;
	return n;
}

static uint64_t read_all(int fd)
{
	uint64_t n = 0;

	while (read(fd, back, sizeof(back)) > 0)
		n++;
	return n;
}

int main(int argc, char **argv)
{
	bool turn = argc == 5 && strcmp(argv[2], "turn") == 0;
	size_t n_bytes = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
	double begun, end, cpu;
	uint64_t n = 0;
	int fd;

	if (argc != 5 || n_bytes < 60 || n_bytes > FRAME_MAX) {
		fprintf(stderr, "bench-tap NAME out|turn BYTES SECONDS\n");
		return 2;
	}
	fd = open_tap(argv[1]);
	make_frame();
	begun = seconds_of(CLOCK_MONOTONIC);
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
	end = begun + strtod(argv[4], NULL);
	while (seconds_of(CLOCK_MONOTONIC) < end) {
		uint64_t n_written = write_burst(fd, n_bytes);

		n += turn ? read_all(fd) : n_written;
	}
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%.0f %.1f\n", (double)n / (seconds_of(CLOCK_MONOTONIC) - begun),
		n ? cpu * 1e9 / (double)n : 0);
	close(fd);
	return 0;
}
