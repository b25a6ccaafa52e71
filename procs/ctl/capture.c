/*
 * The frames of a network device are captured at its TAP, by libpcap, and not in the worker. So
 * they cost nothing while nobody captures, the data path has no code for it, and a worker that was
 * taken over can neither forge nor hide what it exchanges with the host. The host's kernel makes
 * copies, filters them (the expression is compiled to BPF), and drops copies, never frames, if they
 * are not read in time. What a worker drops is not seen here: bulkhead_queue_drops_total counts it.
 *
 * The TAP is the one of the configuration in force, in the network namespace of the device's
 * worker, which this process enters. That takes root, whose rights end when the TAP and the file
 * are open.
 *
 * The direction of a frame is not in what libpcap delivers: there is a handle for each, and of two
 * frames the older one is written first.
 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "look.h"
#include "pcapng.h"
#include "query.h"
#include "rights.h"
#include "target.h"

#define SNAP_MAX 262144
#define BUFFER_BYTES (8 << 20) /* of copies that wait, each way */
#define ANSWER_MS 3000

/** struct way - the frames of one direction */
struct way {
	pcap_t *pcap;
	bool outbound;
	struct pcap_pkthdr *head; /* of the frame that is next; NULL = there is none now */
	const uint8_t *bytes;
};

/** struct capture - all of it */
struct capture {
	const struct arguments *args;
	struct target target;
	struct seen seen; /* without a reply */
	char interface[64];
	uint32_t worker; /* its pid */
	bool has_device;
	FILE *to;
	struct way ways[2];
	uint64_t n;
};

static volatile sig_atomic_t over;

/* --- What is captured --- */

static void on_status(const Bh__GetStatusReply *status, void *data)
{
	struct capture *c = data;

	for (size_t i = 0; i < status->n_devices; i++) {
		if (strcmp(status->devices[i]->name, c->target.device) != 0)
			continue;
		c->has_device = true;
		snprintf(c->interface, sizeof(c->interface), "%s",
			seen_interface(&c->seen, status->devices[i]));
	}
	for (size_t i = 0; i < status->n_peers; i++)
		if (strcmp(status->peers[i]->name, c->target.device) == 0)
			c->worker = status->peers[i]->pid;
}

static int say(const struct capture *c, int r, const char *what, const char *why)
{
	fprintf(stderr, "device %s of guest %s: %s%s%s\n", c->target.device, c->target.guest, what,
		*why ? ": " : "", why);
	return r;
}

static int find_interface(struct capture *c)
{
	struct look now;
	int r;

	look_open(&now, c->args->runtime_dir, NULL);
	look_guest(&now, c->target.guest, &c->seen);
	r = query_status(c->args->runtime_dir, c->target.guest, ANSWER_MS, on_status, c);
	seen_deinit(&c->seen);
	look_close(&now);
	if (r < 0) {
		fprintf(stderr, "guest %s: %s\n", c->target.guest, query_why(r));
		return r;
	}
	if (!c->has_device)
		return say(c, -ENODEV,
			"there is no such device; 'bulkheadctl status' shows which there are", "");
	if (!*c->interface)
		return say(c, -ENODEV, "it has no network interface of the host (key 'tap')", "");
	return c->worker ? 0 : say(c, -ESRCH, "its worker is not there now", "");
}

static int enter_namespace(const struct capture *c)
{
	_cleanup_close_ int theirs = -1;
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/ns/net", c->worker);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (theirs < 0 || fstat(theirs, &a) < 0 || stat("/proc/self/ns/net", &b) < 0)
		return say(c, -errno, "the network namespace of its worker cannot be opened",
			strerror(errno));
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	if (setns(theirs, CLONE_NEWNET) < 0)
		return say(c, -errno, "the network namespace of its worker cannot be entered",
			strerror(errno));
	return 0;
}

/* --- Handles --- */

static const char *why_not(const struct way *way, int r)
{
	if (r == PCAP_ERROR_NO_SUCH_DEVICE)
		return "there is no such interface in the network namespace of the worker";
	if (r == PCAP_ERROR_PERM_DENIED)
		return "capturing needs root";
	return r == PCAP_ERROR ? pcap_geterr(way->pcap) : pcap_statustostr(r);
}

static int set_filter(const struct capture *c, const struct way *way)
{
	struct bpf_program program;
	int r;

	if (!c->args->filter)
		return 0;
	if (pcap_compile(way->pcap, &program, c->args->filter, 1, PCAP_NETMASK_UNKNOWN) < 0) {
		fprintf(stderr, "--filter '%s': %s\n", c->args->filter, pcap_geterr(way->pcap));
		return -EINVAL;
	}
	r = pcap_setfilter(way->pcap, &program);
	pcap_freecode(&program);
	return r < 0 ? say(c, -EIO, "the filter is not taken", pcap_geterr(way->pcap)) : 0;
}

static int open_way(struct capture *c, struct way *way, bool outbound)
{
	char why[PCAP_ERRBUF_SIZE] = "";
	int snap = c->args->snap_bytes ? (int)c->args->snap_bytes : SNAP_MAX, r;

	way->outbound = outbound;
	way->pcap = pcap_create(c->interface, why);
	if (!way->pcap)
		return say(c, -EIO, c->interface, why);
	(void)pcap_set_snaplen(way->pcap, snap);
	(void)pcap_set_immediate_mode(way->pcap, 1);
	(void)pcap_set_buffer_size(way->pcap, BUFFER_BYTES);
	(void)pcap_set_tstamp_precision(way->pcap, PCAP_TSTAMP_PRECISION_NANO);
	r = pcap_activate(way->pcap);
	if (r < 0)
		return say(c, -EIO, c->interface, why_not(way, r));
	if (pcap_setdirection(way->pcap, outbound ? PCAP_D_OUT : PCAP_D_IN) < 0 ||
		pcap_setnonblock(way->pcap, 1, why) < 0)
		return say(c, -EIO, c->interface, *why ? why : pcap_geterr(way->pcap));
	return set_filter(c, way);
}

/* --- The file --- */

static int open_file(struct capture *c)
{
	const char *path = c->args->output;
	int fd;

	if (!path || strcmp(path, "-") == 0) {
		c->to = stdout;
		if (!isatty(STDOUT_FILENO))
			return 0;
		fputs("frames are not for a terminal: give a file with -w, or pipe into 'tcpdump -r -'\n",
			stderr);
		return -EINVAL;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	c->to = fd < 0 ? NULL : fdopen(fd, "w");
	if (!c->to) {
		fprintf(stderr, "%s: cannot be written: %s\n", path, strerror(errno));
		return -errno;
	}
	return 0;
}

static void begin_file(const struct capture *c)
{
	_cleanup_free_ char *what = NULL;

	check(asprintf(&what, "device %s of guest %s", c->target.device, c->target.guest) >= 0);
	pcapng_begin(c->to, "bulkheadctl " BULKHEAD_VERSION, c->interface, what,
		c->args->snap_bytes ? (uint32_t)c->args->snap_bytes : SNAP_MAX);
}

/* --- Frames --- */

static uint64_t time_of(const struct way *way)
{
	return (uint64_t)way->head->ts.tv_sec * 1000000000 + (uint64_t)way->head->ts.tv_usec;
}

/* The next frame of each way; the older one, or NULL where there is none now. */
static int look(struct capture *c, struct way **ret_way)
{
	*ret_way = NULL;
	for (size_t i = 0; i < 2; i++) {
		struct way *way = &c->ways[i];
		int r = way->head ? 1 : pcap_next_ex(way->pcap, &way->head, &way->bytes);

		if (r < 0)
			return say(c, -EIO, c->interface, pcap_geterr(way->pcap));
		if (r == 0)
			way->head = NULL;
		else if (!*ret_way || time_of(way) < time_of(*ret_way))
			*ret_way = way;
	}
	return 0;
}

static void write_frame(struct capture *c, struct way *way)
{
	const struct pcapng_frame frame = { .time_ns = time_of(way),
		.bytes = way->bytes,
		.n_bytes = way->head->caplen,
		.wire_bytes = way->head->len,
		.outbound = way->outbound };

	pcapng_frame(c->to, &frame);
	way->head = NULL;
	c->n++;
}

/* A signal is taken here alone, so none is lost. */
static void wait_for_frames(const struct capture *c)
{
	struct pollfd polls[3] = { { pcap_get_selectable_fd(c->ways[0].pcap), POLLIN, 0 },
		{ pcap_get_selectable_fd(c->ways[1].pcap), POLLIN, 0 }, { fileno(c->to), 0, 0 } };
	sigset_t none;

	sigemptyset(&none);
	(void)ppoll(polls, 3, NULL, &none);
	if (polls[2].revents & (POLLERR | POLLHUP))
		over = 1; /* whoever reads the pipe has left */
}

static int take_frames(struct capture *c)
{
	while (!over && (!c->args->count || c->n < c->args->count)) {
		struct way *way;
		int r = look(c, &way);

		if (r < 0)
			return r;
		if (way) {
			write_frame(c, way);
			continue;
		}
		if (fflush(c->to) != 0)
			break;
		wait_for_frames(c);
	}
	return 0;
}

static int end_file(struct capture *c)
{
	uint64_t lost = 0;
	struct timespec now;

	for (size_t i = 0; i < 2; i++) {
		struct pcap_stat stat = { 0 };

		if (pcap_stats(c->ways[i].pcap, &stat) == 0)
			lost += stat.ps_drop;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	pcapng_end(c->to, (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, c->n + lost,
		lost);
	if (fflush(c->to) != 0 && errno != EPIPE) {
		fprintf(stderr, "%s: cannot be written: %s\n", c->args->output ?: "standard output",
			strerror(errno));
		return -EIO;
	}
	fprintf(stderr, "%" PRIu64 " frames captured, %" PRIu64 " lost\n", c->n, lost);
	return 0;
}

/* --- The command --- */

static void on_signal(int number)
{
	over = 1;
}

static void catch_signals(void)
{
	const struct sigaction action = { .sa_handler = on_signal };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

static int open_all(struct capture *c)
{
	int r = find_interface(c);

	/* the path is one of our own namespace's, which are the same but for the network */
	if (r == 0)
		r = enter_namespace(c);
	for (size_t i = 0; r == 0 && i < 2; i++)
		r = open_way(c, &c->ways[i], i == 1);
	if (r == 0)
		r = open_file(c);
	if (r == 0 && rights_drop() < 0)
		r = say(c, -EPERM, "rights cannot be given up", "");
	return r;
}

int capture_run(const struct arguments *args, char *target)
{
	struct capture c = { .args = args };
	int r = target_parse(target, &c.target);

	if (r < 0)
		return r;
	if (!c.target.device) {
		fputs("capture needs GUEST:DEVICE, as 'bulkheadctl status' shows them\n", stderr);
		return EXIT_USAGE;
	}
	catch_signals();
	r = open_all(&c);
	if (r == 0) {
		int ended;

		begin_file(&c);
		r = take_frames(&c);
		ended = end_file(&c);
		r = r < 0 ? r : ended;
	}
	for (size_t i = 0; i < 2; i++)
		if (c.ways[i].pcap)
			pcap_close(c.ways[i].pcap);
	return r;
}
