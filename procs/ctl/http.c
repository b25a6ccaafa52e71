/*
 * As much of HTTP/1 as somebody who fetches one page needs: the first line of the request is looked
 * at, its headers are read and ignored, and the connection ends with the answer. A body is not
 * read.
 */
#include "http.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

#define REQUEST_MAX 4096
#define LIMIT_MS 10000

/** struct connection - and how much time it has left */
struct connection {
	int fd;
	uint64_t end_ms;
};

static int wait_for(const struct connection *connection, short events)
{
	struct pollfd poll_fd = { connection->fd, events, 0 };
	uint64_t now = clock_ms();
	int r;

	if (now >= connection->end_ms)
		return -ETIMEDOUT;
	do
		r = poll(&poll_fd, 1, (int)(connection->end_ms - now));
	while (r < 0 && errno == EINTR);
	return r > 0 ? 0 : -ETIMEDOUT;
}

/* --- The request --- */

/** struct request - as much of it as has come */
struct request {
	char text[REQUEST_MAX]; /* ends with '\0', and may hold others */
	size_t n;
};

static bool has_end(const struct request *request)
{
	return memmem(request->text, request->n, "\r\n\r\n", 4) ||
		memmem(request->text, request->n, "\n\n", 2);
}

/* It ends with its headers, or where there is no more room. */
static int read_request(const struct connection *connection, struct request *request)
{
	*request = (struct request){ .n = 0 };
	while (!has_end(request) && request->n < REQUEST_MAX - 1) {
		ssize_t got;
		int r = wait_for(connection, POLLIN);

		if (r < 0)
			return r;
		got = recv(connection->fd, request->text + request->n, REQUEST_MAX - 1 - request->n,
			MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			return -ECONNRESET;
		request->n += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

/** struct verdict - on a request */
struct verdict {
	const char *status;
	bool has_body;
	bool is_page; /* the page that was asked for; else the status is the text */
};

static struct verdict judge(char *request)
{
	char *rest, *method = strtok_r(request, " \r\n", &rest);
	const char *target = strtok_r(NULL, " \r\n", &rest),
		   *version = strtok_r(NULL, " \r\n", &rest);
	bool is_head = method && strcmp(method, "HEAD") == 0;

	if (!method || !target || !version || strncmp(version, "HTTP/1.", 7) != 0)
		return (struct verdict){ "400 Bad Request", true, false };
	if (!is_head && strcmp(method, "GET") != 0)
		return (struct verdict){ "405 Method Not Allowed", true, false };
	if (strcspn(target, "?") != strlen("/metrics") || strncmp(target, "/metrics", 8) != 0)
		return (struct verdict){ "404 Not Found", !is_head, false };
	return (struct verdict){ "200 OK", !is_head, true };
}

/* --- The answer --- */

static int send_all(const struct connection *connection, const char *bytes, size_t n)
{
	while (n) {
		ssize_t sent = send(connection->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r = 0;

		if (sent < 0 && errno == EAGAIN)
			r = wait_for(connection, POLLOUT);
		else if (sent < 0 && errno != EINTR)
			r = errno == EPIPE || errno == ECONNRESET ? -ECONNRESET : -EIO;
		if (r < 0)
			return r;
		bytes += sent > 0 ? sent : 0;
		n -= sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

/* A connection that is closed with bytes of the request unread is reset, and the answer may be
 * lost: they are thrown away until the other side is done. */
static void linger(const struct connection *connection)
{
	char rest[REQUEST_MAX];

	(void)shutdown(connection->fd, SHUT_WR);
	while (wait_for(connection, POLLIN) == 0)
		if (recv(connection->fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
			return;
}

int http_answer(int fd, const char *page, size_t n)
{
	const struct connection connection = { fd, clock_ms() + LIMIT_MS };
	struct request request;
	char head[256];
	struct verdict verdict;
	int r = read_request(&connection, &request);

	if (r < 0)
		return r;
	verdict = has_end(&request)
		? judge(request.text)
		: (struct verdict){ "431 Request Header Fields Too Large", true, false };
	if (!verdict.is_page) {
		page = verdict.status;
		n = strlen(page);
	}
	snprintf(head, sizeof(head),
		"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
		"Content-Length: %zu\r\nConnection: close\r\n\r\n",
		verdict.status, n);
	r = send_all(&connection, head, strlen(head));
	if (r == 0 && verdict.has_body)
		r = send_all(&connection, page, n);
	if (r == 0)
		linger(&connection);
	return r;
}
