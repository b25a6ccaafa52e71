/*
 * A front-end that keeps one frame under way through an echo device and looks at the clock, while a
 * process of the product is killed. Obeys lines on standard input, and answers each with a line:
 *
 *   touch the device reads one byte of every 64 KiB of the big region, and maps all of it thereby;
 *                        answers "touched N"
 *   cut PID SIGNAL MS the signal to PID (0: to nobody), a question, and frames one after the other
 *                        for MS milliseconds and until the answer is there; answers in ns, "FRAME
 *                        SLOWEST REPLY": signal to the return of the first frame, the longest that
 *                        any frame took, signal to the answer
 *
 * bench-outage SOCKET MIB [huge]
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

#define BIG_GPA (UINT64_C(4) << 30)
#define BIG_UVA UINT64_C(0x7e0000000000)
#define TOUCH_STEP 65536
#define TOUCH_BYTES 64
#define WINDOW 64
#define DYING_NS 200000 /* a frame sent earlier might still be served by the one who is killed */

static struct net n;
static uint64_t big_bytes;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int add_big(bool huge)
{
	struct vu_region at = { .gpa = BIG_GPA, .size = big_bytes, .uva = BIG_UVA };
	int fd = memfd_create("big", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	int e;

	if (fd < 0)
		return -errno;
	e = ftruncate(fd, (off_t)big_bytes) < 0 ? -errno : guest_adopt_region(&n.g, &at, fd);
	if (e) {
		close(fd);
		return e;
	}
	if (madvise(guest_at(&n.g, BIG_GPA, big_bytes), big_bytes, MADV_POPULATE_WRITE) < 0)
		return -errno;
	return 0;
}

static int open_all(const char *path, bool huge)
{
	struct net_profile p = { .features = VU_BIT(VU_F_EVENT_IDX) };
	int e = net_init(&n, &p) ?: vu_connect(&n.c, path);

	if (!e)
		e = net_negotiate(&n) ?: net_make_rings(&n) ?: add_big(huge) ?: net_set_memory(&n);
	for (uint16_t i = 0; !e && i < n.n_rings; i++)
		e = net_start_ring(&n, i) ?: net_enable(&n, i, true);
	return e ?: net_fill(&n, 0);
}

/* a header and Ethernet addresses of our own, the payload where the big region is to be read */
static int post_touch(uint64_t gpa)
{
	struct ring *r = &n.rings[1];
	uint64_t head = n.free_tx[0][--n.n_free_tx[0]];
	struct ring_seg segs[2] = {
		{ .gpa = head, .len = NET_HDR_BYTES + 14 },
		{ .gpa = gpa, .len = TOUCH_BYTES },
	};
	uint8_t *p = guest_at(&n.g, head, segs[0].len);

	memset(p, 0, NET_HDR_BYTES);
	net_frame_make(p + NET_HDR_BYTES, 14, 0);
	return ring_post(r, segs, 2, (void *)(uintptr_t)head);
}

static int reap(void)
{
	struct ring_used used;
	int e;

	while ((e = ring_reap(&n.rings[1], &used)) == 1)
		n.free_tx[0][n.n_free_tx[0]++] = (uint64_t)(uintptr_t)used.cookie;
	return e;
}

static int touch(void)
{
	uint64_t steps = big_bytes / TOUCH_STEP;
	uint64_t sent = 0;
	uint64_t received = 0;
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t got;
	int e = 0;

	while (!e && received < steps) {
		if (sent < steps && sent - received < WINDOW) {
			e = reap();
			if (!e)
				e = post_touch(BIG_GPA + sent * TOUCH_STEP);
			sent++;
			if (sent % 16 == 0 || sent == steps || sent - received == WINDOW)
				ring_kick(&n.rings[1]);
		} else {
			e = net_recv(&n, 0, frame, &got, 20000);
			received++;
		}
	}
	if (!e)
		printf("touched %llu\n", (unsigned long long)received);
	return e;
}

struct cut {
	uint64_t from;
	uint64_t frame_ns; /* from the signal to the first frame's return */
	uint64_t slowest_ns;
	uint64_t reply_ns;
};

static int ask(void)
{
	struct vu_header h = { .request = VU_GET_FEATURES, .flags = 1 };

	return vu_send(&n.c, &h, NULL, NULL, 0);
}

static int hear(struct cut *cut)
{
	struct pollfd p = { .fd = n.c.fd, .events = POLLIN };
	struct vu_msg msg;
	int e;

	if (cut->reply_ns || poll(&p, 1, 0) != 1)
		return 0;
	cut->reply_ns = now_ns() - cut->from;
	e = vu_recv_reply(&n.c, VU_GET_FEATURES, 8, &msg);
	if (!e)
		vu_msg_deinit(&msg);
	return e;
}

static int one_frame(struct cut *cut, uint32_t seq)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint64_t sent_at = now_ns();
	uint64_t took;
	uint32_t got;
	int e;

	net_frame_make(frame, 60, seq);
	e = net_send(&n, 0, frame, 60) ?: net_recv(&n, 0, frame, &got, 20000);
	took = now_ns() - sent_at;
	if (!e && !net_frame_is_echo(frame, got, seq))
		e = -EBADMSG;
	if (!cut->frame_ns)
		cut->frame_ns = sent_at + took - cut->from;
	if (took > cut->slowest_ns)
		cut->slowest_ns = took;
	return e;
}

static int cut(pid_t pid, int number, uint64_t ms)
{
	struct cut cut = { 0 };
	uint32_t seq = 1;
	int e = one_frame(&cut, 0);

	cut = (struct cut){ .from = now_ns() };
	if (pid && kill(pid, number) < 0)
		return -errno;
	if (!e)
		e = ask();
	while (now_ns() - cut.from < DYING_NS)
		;
	while (!e && (now_ns() - cut.from < ms * 1000000 || !cut.reply_ns))
		e = one_frame(&cut, seq++) ?: hear(&cut);
	if (!e)
		printf("%llu %llu %llu\n", (unsigned long long)cut.frame_ns,
			(unsigned long long)cut.slowest_ns, (unsigned long long)cut.reply_ns);
	return e;
}

static int obey(const char *line)
{
	int pid;
	int number;
	unsigned int ms;

	if (!strncmp(line, "touch", 5))
		return touch();
	if (sscanf(line, "cut %d %d %u", &pid, &number, &ms) == 3)
		return cut(pid, number, ms);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	char line[128];
	int e;

	if (argc < 3) {
		fprintf(stderr, "bench-outage SOCKET MIB [huge]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	big_bytes = strtoull(argv[2], NULL, 10) << 20;
	e = open_all(argv[1], argc > 3 && !strcmp(argv[3], "huge"));
	if (!e)
		printf("ready\n");
	while (!e && fgets(line, sizeof(line), stdin))
		e = obey(line);
	if (e)
		printf("error %d (%s): %s\n", e, strerror(e < 0 ? -e : 0), n.why);
	net_close(&n);
	return e ? 1 : 0;
}
