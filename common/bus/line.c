/*
 * One connection to a gate. The gate connects to nng only after the peer's hello is complete and
 * right, and it hides the end of the peer from nng until nng's own hello has arrived: a listener of
 * nng before 1.6 is lost if a connection ends earlier. From then on bytes are relayed as they come.
 * A line whose peer is gone keeps its place until nng has noticed.
 */
#include "bus/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "base/log.h"

#define LANE_BYTES 16384

enum {
	_LINE_E_OK = 0,
	LINE_E_STRANGER,
};

/** struct lane - the buffer of one direction; it is filled again when it is empty */
struct lane {
	size_t at, n;
	uint8_t bytes[LANE_BYTES];
};

struct gate_line {
	TAILQ_ENTRY(gate_line) link;
	struct gate_lines *lines;
	uid_t uid;
	enum line_state state;
	bool spoken;
	int outer_fd;
	int inner_fd; /* to nng's listener */
	sd_event_source *outer_source;
	sd_event_source *inner_source;
	size_t n_hello, n_greeting;
	uint8_t hello[LINE_HELLO_BYTES], greeting[LINE_HELLO_BYTES]; /* the peer's, nng's */
	struct lane in, out;
};

struct gate_line *line_next(const struct gate_lines *lines, const struct gate_line *line)
{
	return line ? TAILQ_NEXT(line, link) : TAILQ_FIRST(&lines->all);
}

uid_t line_uid(const struct gate_line *line)
{
	return line->uid;
}

enum line_state line_state(const struct gate_line *line)
{
	return line->state;
}

bool line_has_spoken(const struct gate_line *line)
{
	return line->spoken;
}

/* --- Ending --- */

struct gate_line *line_free(struct gate_line *line)
{
	struct gate_lines *lines = line->lines;

	TAILQ_REMOVE(&lines->all, line, link);
	lines->n--;
	if (line->inner_fd >= 0)
		bus_endpoint_line_ended(lines->endpoint, lines->n);
	sd_event_source_disable_unref(line->outer_source);
	sd_event_source_disable_unref(line->inner_source);
	fd_close(line->outer_fd);
	fd_close(line->inner_fd);
	free(line);
	lines->on_room(lines);
	return NULL;
}

static void hang_up(struct gate_line *line)
{
	line->outer_source = sd_event_source_disable_unref(line->outer_source);
	line->outer_fd = fd_close(line->outer_fd);
}

void line_end(struct gate_line *line)
{
	if (line->state == LINE_SILENT) {
		line_free(line);
		return;
	}
	hang_up(line);
	if (line->state == LINE_GREETING)
		return;
	line->state = LINE_ENDING;
	if (shutdown(line->inner_fd, SHUT_WR) < 0 ||
		sd_event_source_set_io_events(line->inner_source, EPOLLIN) < 0)
		line_free(line);
}

/* The peer is gone: what nng still sends is discarded. */
static void drain(struct gate_line *line)
{
	ssize_t n = recv(line->inner_fd, line->out.bytes, sizeof(line->out.bytes), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		line_free(line);
}

/* --- Relaying --- */

static bool is_full(const struct lane *lane)
{
	return lane->at < lane->n;
}

/* Writes as much as fits. Errors: 0 | -ECONNRESET. */
static int lane_write(struct lane *lane, int to)
{
	ssize_t n;

	if (!is_full(lane))
		return 0;
	n = send(to, lane->bytes + lane->at, lane->n - lane->at, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN ? 0 : -ECONNRESET;
	lane->at += (size_t)n;
	return 0;
}

/* Relays one buffer per wake-up, so that every connection gets its turn. */
static int lane_carry(struct lane *lane, int from, int to)
{
	ssize_t n;

	if (is_full(lane))
		return 0;
	n = recv(from, lane->bytes, sizeof(lane->bytes), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -ECONNRESET;
	lane->at = 0;
	lane->n = (size_t)n;
	return lane_write(lane, to);
}

/* One end is readable or writable. What a peer sent before it hung up is still relayed, unless the
 * other end does not take it. */
static int carry(uint32_t revents, int fd, struct lane *from, struct lane *to, int other_fd)
{
	int r = (revents & (EPOLLHUP | EPOLLERR)) && is_full(from) ? -ECONNRESET : 0;

	if (r == 0)
		r = lane_write(to, fd);
	if (r == 0 && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		r = lane_carry(from, fd, other_fd);
	return r;
}

static int await_bytes(const struct gate_line *line)
{
	uint32_t outer = (is_full(&line->in) ? 0 : EPOLLIN) | (is_full(&line->out) ? EPOLLOUT : 0);
	uint32_t inner = (is_full(&line->out) ? 0 : EPOLLIN) | (is_full(&line->in) ? EPOLLOUT : 0);
	int r = sd_event_source_set_io_events(line->outer_source, outer);

	return r < 0 ? r : sd_event_source_set_io_events(line->inner_source, inner);
}

/* --- nng's side --- */

static int greet(struct gate_line *line)
{
	if (send(line->outer_fd, line->greeting, sizeof(line->greeting),
		    MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(line->greeting))
		return -ECONNRESET;
	return sd_event_source_set_enabled(line->outer_source, SD_EVENT_ON);
}

static void take_greeting(struct gate_line *line)
{
	ssize_t n = recv(line->inner_fd, line->greeting + line->n_greeting,
		sizeof(line->greeting) - line->n_greeting, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		line_free(line);
		return;
	}
	line->n_greeting += (size_t)n;
	if (line->n_greeting < sizeof(line->greeting))
		return;
	line->state = LINE_OPEN;
	if (line->outer_fd < 0 || greet(line) < 0)
		line_end(line);
	else /* a newcomer may wait for a line that can be evicted */
		line->lines->on_room(line->lines);
}

static int on_inner(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct gate_line *line = data;

	if (line->state == LINE_GREETING)
		take_greeting(line);
	else if (line->state == LINE_ENDING)
		drain(line);
	else if (carry(revents, fd, &line->out, &line->in, line->outer_fd) < 0 ||
		await_bytes(line) < 0)
		line_end(line);
	return 0;
}

static int connect_inside(const struct bus_endpoint *endpoint)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	int r = fd < 0 ? -errno : address_fill(&addr, endpoint->inner_path);

	if (r < 0)
		return r;
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : fd_steal(&fd);
}

/* Somebody may have removed the listener's file. */
static int reach_inside(struct bus_endpoint *endpoint)
{
	int fd = connect_inside(endpoint);

	if (fd != -ENOENT && fd != -ECONNREFUSED)
		return fd;
	log_notice("%s is gone; listening again", endpoint->inner_path);
	return bus_endpoint_listen_inside(endpoint) < 0 ? fd : connect_inside(endpoint);
}

/* --- The peer's side --- */

/* The peer's socket is not polled until nng's hello has arrived. */
static int let_in(struct gate_line *line)
{
	struct bus_endpoint *endpoint = line->lines->endpoint;
	int r;

	line->inner_fd = reach_inside(endpoint);
	if (line->inner_fd < 0)
		return line->inner_fd;
	r = sd_event_add_io(endpoint->loop->event, &line->inner_source, line->inner_fd, EPOLLIN,
		on_inner, line);
	if (r >= 0)
		r = sd_event_source_set_enabled(line->outer_source, SD_EVENT_OFF);
	if (r < 0)
		return r;
	if (send(line->inner_fd, line->hello, sizeof(line->hello), MSG_NOSIGNAL) !=
		sizeof(line->hello))
		return -ECONNRESET;
	line->state = LINE_GREETING;
	return 0;
}

/* Reads what has arrived. Errors: 0 | LINE_E_STRANGER: not the hello of a peer of ours |
 * -ECONNRESET. */
static int take_hello(struct gate_line *line)
{
	ssize_t n = recv(line->outer_fd, line->hello + line->n_hello,
		sizeof(line->hello) - line->n_hello, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -ECONNRESET;
	line->n_hello += (size_t)n;
	if (memcmp(line->hello, line->lines->hello, line->n_hello) != 0)
		return LINE_E_STRANGER;
	return 0;
}

static int on_outer(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct gate_line *line = data;
	int r;

	if (line->state == LINE_SILENT) {
		/* nng must not see a peer that is gone already */
		r = revents & EPOLLHUP ? -ECONNRESET : take_hello(line);
		if (r == 0 && line->n_hello == sizeof(line->hello))
			r = let_in(line);
	} else {
		line->spoken = true;
		r = carry(revents, fd, &line->in, &line->out, line->inner_fd);
		if (r == 0)
			r = await_bytes(line);
	}
	if (r != 0)
		line_end(line);
	return 0;
}

int line_new(struct gate_lines *lines, int fd, uid_t uid)
{
	struct gate_line *line = calloc(1, sizeof(*line));
	int r;

	if (!line)
		return -ENOMEM;
	line->lines = lines;
	line->uid = uid;
	line->inner_fd = -1;
	r = sd_event_add_io(lines->endpoint->loop->event, &line->outer_source, fd, EPOLLIN,
		on_outer, line);
	if (r < 0) {
		free(line);
		return r;
	}
	line->outer_fd = fd;
	TAILQ_INSERT_TAIL(&lines->all, line, link);
	lines->endpoint->n_most = ++lines->n;
	return 0;
}
