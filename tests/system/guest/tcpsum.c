/*
 * tcpsum - move a stream whose every byte is known, and check it at both ends
 *
 * The stream is a sequence of 64-bit words, little endian. Word i is a mix of i and a seed, so it
 * says where in the stream it belongs: a byte that is lost, repeated, swapped or changed makes a
 * word differ from the one expected there. The receiver compares every word and sends its digest
 * back; the sender compares that with its own. One multiply and one shift a word keep this fast
 * enough for a guest without hardware virtualization.
 *
 *   tcpsum send|recv connect|listen ADDRESS PORT BYTES [seed=N] [idle=SECONDS] [progress]
 *
 * Whoever is killed resets its connection: a kernel that went on sending to a guest that is no more
 * would find its neighbour gone, and hold the next guest's first packets for that.
 *
 * BYTES 0: the sender goes on until SIGTERM, the receiver takes what comes. One line on stdout:
 * tcpsum send bytes=N digest=HEX seconds=S mbit=R gap=S ok=1. The gap is the longest time in which
 * the socket gave or took nothing. Exit status 0 only with ok=1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_WORDS 16384
#define BLOCK_BYTES (BLOCK_WORDS * 8)
#define PROGRESS_BYTES (8u << 20)

struct stream {
	uint64_t seed;
	uint64_t n_bytes;
	uint64_t done_bytes;
	uint64_t digest;
	uint64_t next_progress_bytes;
	double moved_s; /* when the socket last gave or took something; 0: never */
	double gap_s;
	int idle_s;
	bool progress;
	const char *fault;
	uint64_t fault_at;
};

static uint64_t block[BLOCK_WORDS];
static volatile sig_atomic_t told_to_end;

static void on_term(int number)
{
	(void)number;
	told_to_end = 1;
}

static uint64_t word_at(const struct stream *s, uint64_t idx)
{
	uint64_t w = (idx + s->seed) * 0x9e3779b97f4a7c15u;

	return w ^ (w >> 29);
}

static void digest_words(struct stream *s, const uint64_t *words, size_t n)
{
	uint64_t digest = s->digest;

	for (size_t i = 0; i < n; i++)
		digest = (digest ^ words[i]) * 0xff51afd7ed558ccdu + 1;
	s->digest = digest;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(struct stream *s, const char *what)
{
	if (!s->fault) {
		s->fault = what;
		s->fault_at = s->done_bytes;
	}
}

static void note_move(struct stream *s)
{
	double now = now_s();

	if (s->moved_s != 0 && now - s->moved_s > s->gap_s)
		s->gap_s = now - s->moved_s;
	s->moved_s = now;
}

static void show_progress(struct stream *s)
{
	if (!s->progress || s->done_bytes < s->next_progress_bytes)
		return;
	fprintf(stderr, "progress %llu\n", (unsigned long long)s->done_bytes);
	s->next_progress_bytes = s->done_bytes + PROGRESS_BYTES;
}

/* true when the socket is ready; false after the idle limit, which is then noted as the fault */
static bool wait_ready(struct stream *s, int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int r;

	do {
		r = poll(&p, 1, s->idle_s * 1000);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		fail(s, "idle");
	return r > 0;
}

static bool send_all(struct stream *s, int fd, const void *data, size_t n)
{
	const char *at = data;

	while (n) {
		ssize_t r;

		if (!wait_ready(s, fd, POLLOUT))
			return false;
		r = send(fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (r < 0) {
			fail(s, strerror(errno));
			return false;
		}
		note_move(s);
		at += r;
		n -= (size_t)r;
	}
	return true;
}

/* Fills data as far as the peer sends; fewer bytes than asked mean end of stream or a fault. */
static size_t recv_full(struct stream *s, int fd, void *data, size_t n)
{
	size_t have = 0;

	while (have < n) {
		ssize_t r;

		if (!wait_ready(s, fd, POLLIN))
			break;
		r = recv(fd, (char *)data + have, n - have, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			fail(s, strerror(errno));
		if (r <= 0)
			break;
		note_move(s);
		have += (size_t)r;
	}
	return have;
}

/* Words that are to be sent next; 0 at the end. */
static size_t next_words(const struct stream *s)
{
	uint64_t left = (s->n_bytes - s->done_bytes) / 8;

	if (!s->n_bytes)
		return told_to_end ? 0 : BLOCK_WORDS;
	return left < BLOCK_WORDS ? left : BLOCK_WORDS;
}

static void run_send(struct stream *s, int fd)
{
	uint64_t peer_digest = 0;
	size_t n;

	while ((n = next_words(s)) > 0) {
		uint64_t first = s->done_bytes / 8;

		for (size_t i = 0; i < n; i++)
			block[i] = word_at(s, first + i);
		digest_words(s, block, n);
		if (!send_all(s, fd, block, n * 8))
			return;
		s->done_bytes += n * 8;
		show_progress(s);
	}
	shutdown(fd, SHUT_WR);
	if (recv_full(s, fd, &peer_digest, sizeof(peer_digest)) != sizeof(peer_digest))
		fail(s, "no-answer");
	else if (peer_digest != s->digest)
		fail(s, "peer-digest");
}

static void check_words(struct stream *s, size_t n)
{
	uint64_t first = s->done_bytes / 8;

	for (size_t i = 0; i < n; i++) {
		if (block[i] != word_at(s, first + i)) {
			s->done_bytes += i * 8;
			fail(s, "content");
			return;
		}
	}
	digest_words(s, block, n);
	s->done_bytes += n * 8;
}

static void run_recv(struct stream *s, int fd)
{
	while (!s->fault) {
		size_t n = recv_full(s, fd, block, BLOCK_BYTES);

		if (n % 8)
			fail(s, "torn");
		check_words(s, n / 8);
		show_progress(s);
		if (n < BLOCK_BYTES)
			break;
	}
	if (!s->fault && s->n_bytes && s->done_bytes != s->n_bytes)
		fail(s, "length");
	send_all(s, fd, &s->digest, sizeof(s->digest));
}

static socklen_t parse_address(const char *host, const char *port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	uint16_t number = htons((uint16_t)atoi(port));

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = number;
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = number;
		return sizeof(*in6);
	}
	fprintf(stderr, "tcpsum: %s is not an address\n", host);
	exit(2);
}

static int open_connection(struct stream *s, bool listening, const char *host, const char *port)
{
	struct sockaddr_storage addr;
	socklen_t len = parse_address(host, port, &addr);
	int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1, accepted;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!listening) {
		if (connect(fd, (struct sockaddr *)&addr, len) < 0)
			goto error;
		return fd;
	}
	if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 1) < 0)
		goto error;
	fprintf(stderr, "listening\n");
	if (!wait_ready(s, fd, POLLIN)) {
		errno = ETIMEDOUT;
		goto error;
	}
	accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(fd);
	return accepted;
error:
	fprintf(stderr, "tcpsum: %s port %s: %s\n", host, port, strerror(errno));
	exit(2);
}

/* How the connection ends, whether by close() or with this process: at once, or in good order. */
static void set_ending(int fd, bool reset)
{
	struct linger linger = { .l_onoff = reset };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void parse_options(struct stream *s, char **argv)
{
	for (; *argv; argv++) {
		if (!strncmp(*argv, "seed=", 5))
			s->seed = strtoull(*argv + 5, NULL, 0);
		else if (!strncmp(*argv, "idle=", 5))
			s->idle_s = atoi(*argv + 5);
		else if (!strcmp(*argv, "progress"))
			s->progress = true;
	}
}

int main(int argc, char **argv)
{
	struct stream s = { .seed = 1, .idle_s = 60 };
	double start, seconds;
	int fd;

	if (argc < 6) {
		fprintf(stderr,
			"tcpsum send|recv connect|listen ADDRESS PORT BYTES [seed=N] [idle=S] [progress]\n");
		return 2;
	}
	setvbuf(stderr, NULL, _IOLBF, 0);
	signal(SIGTERM, on_term);
	s.n_bytes = strtoull(argv[5], NULL, 0) / 8 * 8;
	parse_options(&s, argv + 6);
	fd = open_connection(&s, !strcmp(argv[2], "listen"), argv[3], argv[4]);
	set_ending(fd, true);
	start = now_s();
	if (!strcmp(argv[1], "send"))
		run_send(&s, fd);
	else
		run_recv(&s, fd);
	seconds = now_s() - start;
	set_ending(fd, false);
	close(fd);
	printf("tcpsum %s bytes=%llu digest=%016llx seconds=%.3f mbit=%.1f gap=%.3f ok=%d", argv[1],
		(unsigned long long)s.done_bytes, (unsigned long long)s.digest, seconds,
		(double)s.done_bytes * 8e-6 / (seconds > 0 ? seconds : 1e-9), s.gap_s, !s.fault);
	if (s.fault)
		printf(" fault=%s at=%llu", s.fault, (unsigned long long)s.fault_at);
	printf("\n");
	return s.fault ? 1 : 0;
}
