/*
 * bench-wl - what a Wayland context carries: bytes a second both ways, and how long a message is
 * on its way, beside the same over a socket between the same two threads.
 *
 * bench-wl SOCKET-OF-THE-DEVICE SOCKET-OF-THE-COMPOSITOR [MIB]
 *
 * It is both ends: the guest's (our front-end), and the compositor that listens at that path.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "wl-front.h"

#define CTX 1
#define N_TRIPS 500
#define MESSAGE_BYTES 64 /* a commit, with its attach and damage */
#define BULK_BYTES 16384

static struct wl_front front;
static struct wl_link *guest = &front.link;
static uint64_t total_bytes;

/* What the compositor's thread does: everything arrives on its end of the connection. */
struct end {
	int fd;
	uint64_t n_bytes;   /* bulk: how much is to arrive, or to be sent */
	double us[N_TRIPS]; /* messages: how long each was on its way */
	pthread_t thread;
};

static void fail(const char *what)
{
	fprintf(stderr, "bench-wl: %s: %s\n", what, front.why);
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- the compositor's end ---- */

static void *count_bulk(void *data)
{
	static uint8_t buf[1 << 16];
	struct end *end = data;

	for (uint64_t n = 0; n < end->n_bytes;) {
		ssize_t got = read(end->fd, buf, sizeof(buf));

		if (got <= 0)
			fail("the connection ended");
		n += (uint64_t)got;
	}
	return NULL;
}

static void *send_bulk(void *data)
{
	static uint8_t buf[BULK_BYTES];
	struct end *end = data;

	for (uint64_t n = 0; n < end->n_bytes; n += sizeof(buf))
		if (send(end->fd, buf, sizeof(buf), MSG_NOSIGNAL) != sizeof(buf))
			fail("the connection ended");
	return NULL;
}

/* Each message says when it was sent; one byte back says that it has arrived. */
static void *take_messages(void *data)
{
	struct end *end = data;

	for (int i = 0; i < N_TRIPS; i++) {
		_Alignas(8) uint8_t message[MESSAGE_BYTES];
		double sent;

		if (recv(end->fd, message, sizeof(message), MSG_WAITALL) != sizeof(message))
			fail("the connection ended");
		memcpy(&sent, message, sizeof(sent));
		end->us[i] = now_us() - sent;
		if (send(end->fd, message, 1, MSG_NOSIGNAL) != 1)
			fail("the connection ended");
	}
	return NULL;
}

/* ---- the guest's end: through the device, or a plain socket ---- */

static int direct_fd = -1;

static void guest_send(const void *bytes, size_t n)
{
	if (direct_fd >= 0 ? send(direct_fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n
			   : wl_send(guest, CTX, NULL, 0, bytes, n))
		fail("sending");
}

static size_t guest_recv(void)
{
	static _Alignas(8) uint8_t event[WL_EVENT_BYTES];
	static uint8_t buf[1 << 16];
	size_t n_data = 0;
	ssize_t n;

	if (direct_fd >= 0) {
		n = read(direct_fd, buf, sizeof(buf));
		return n > 0 ? (size_t)n : 0;
	}
	n = wl_wait_event(guest, event, 10000);
	if (n <= 0 || !wl_recv_data((const struct wl_data *)event, (size_t)n, &n_data))
		fail("receiving");
	return n_data;
}

/* ---- measurements ---- */

static void begin(struct end *end, void *(*run)(void *))
{
	if (pthread_create(&end->thread, NULL, run, end))
		fail("a thread");
}

static double bulk_to_compositor(struct end *end)
{
	static uint8_t buf[BULK_BYTES];
	double start = now_us();

	begin(end, count_bulk);
	for (uint64_t n = 0; n < end->n_bytes; n += sizeof(buf))
		guest_send(buf, sizeof(buf));
	pthread_join(end->thread, NULL);
	return (double)end->n_bytes / (now_us() - start);
}

static double bulk_to_guest(struct end *end)
{
	double start = now_us();

	begin(end, send_bulk);
	for (uint64_t n = 0; n < end->n_bytes;)
		n += guest_recv();
	pthread_join(end->thread, NULL);
	return (double)end->n_bytes / (now_us() - start);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void messages(struct end *end)
{
	begin(end, take_messages);
	for (int i = 0; i < N_TRIPS; i++) {
		_Alignas(8) uint8_t message[MESSAGE_BYTES] = { 0 };
		double now = now_us();

		memcpy(message, &now, sizeof(now));
		guest_send(message, sizeof(message));
		if (guest_recv() != 1)
			fail("another answer");
	}
	pthread_join(end->thread, NULL);
	qsort(end->us, N_TRIPS, sizeof(end->us[0]), by_value);
}

static void measure(const char *what, int fd)
{
	static struct end end;
	double to, from;

	end.fd = fd;
	end.n_bytes = total_bytes;
	messages(&end);
	to = bulk_to_compositor(&end);
	from = bulk_to_guest(&end);
	printf("%-10s %12.0f %12.0f %14.1f %10.1f\n", what, to, from, end.us[N_TRIPS / 2],
		end.us[N_TRIPS * 99 / 100]);
	fflush(stdout);
}

/* ---- the compositor's socket ---- */

static int listen_at(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0 ||
		chmod(path, 0777) < 0)
		fail("the compositor's socket");
	return fd;
}

/* The device asks a compositor for wp_security_context_v1 on a connection of its own first: this
 * one answers its wl_display.sync, and has no globals. */
static void answer_question(int listen_fd)
{
	static const uint32_t no_answer[] = { 3, 12 << 16, 0 };
	uint8_t question[24];
	int fd = accept(listen_fd, NULL, NULL);

	if (recv(fd, question, sizeof(question), MSG_WAITALL) != sizeof(question) ||
		send(fd, no_answer, sizeof(no_answer), 0) != sizeof(no_answer))
		fail("the device's question");
}

int main(int argc, char **argv)
{
	int pair[2], listen_fd;

	if (argc < 3)
		return 2;
	total_bytes = (uint64_t)(argc > 3 ? atoi(argv[3]) : 64) << 20;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		fail("socketpair");
	printf("%-10s %12s %12s %14s %10s\n", "", "to host MB/s", "to guest", "latency us", "99 %");
	direct_fd = pair[0];
	measure("a socket", pair[1]);
	direct_fd = -1;
	listen_fd = listen_at(argv[2]);
	if (wl_front_open(&front, argv[1]) || wl_new_ctx(guest, CTX, NULL))
		fail("a context");
	answer_question(listen_fd);
	measure("the device", accept(listen_fd, NULL, NULL));
	wl_front_close(&front);
	return 0;
}
