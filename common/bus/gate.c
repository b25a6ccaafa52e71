/*
 * The listening socket of an endpoint. A listener of nng before 1.6 is lost for good, with three
 * leaked descriptors, when a peer connects and disappears before both sides have exchanged their
 * hello. A process that is killed at the wrong moment does that, and so can an attacker. So nobody
 * but this process connects to nng's listener.
 *
 * The gate owns a plain socket at the endpoint's path. It checks the user of each connection first,
 * and line.c then relays the bytes to nng's inner listener. That one lies beside the path, and its
 * mode admits our own user alone.
 *
 * No time-out is involved. A silent connection keeps its place until all places are taken; then a
 * newcomer evicts it.
 */
#include "bus/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/address.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"
#include "bus/line.h"
#include "fd/dirwatch.h"

#define PLACES 16
#define NNG_PLACES (2 * PLACES)
#define BACKLOG 128
#define PAUSE_USEC 100000 /* after accept4() found no descriptor */
#define PROTOCOL_REQ 0x30
#define PROTOCOL_REP 0x31
#define STORED "gate-changes" /* a process has one gate at most */

struct bus_gate {
	struct gate_lines lines; /* first: on_room() casts it back */
	unsigned int mode;
	int listen_fd;
	sd_event_source *listen_source; /* off: no place or no descriptor is free */
	sd_event_source *pause;         /* on: waiting for a free descriptor */
	struct dirwatch file;           /* the socket's */
};

/* --- Places --- */

static unsigned int count_of(const struct bus_gate *gate, uid_t uid)
{
	const struct gate_line *line = NULL;
	unsigned int n = 0;

	while ((line = line_next(&gate->lines, line)))
		n += line_uid(line) == uid;
	return n;
}

/* The connection that has said least is evicted first. */
static unsigned int weight_of(const struct gate_line *line)
{
	if (line_state(line) == LINE_SILENT)
		return 2;
	return line_has_spoken(line) ? 0 : 1;
}

/* A connection of the user with most of them; among these the one that has said least; among these
 * the oldest. */
static struct gate_line *choose_victim(const struct bus_gate *gate)
{
	struct gate_line *line = NULL, *victim = NULL;
	unsigned int most = 0;

	while ((line = line_next(&gate->lines, line))) {
		unsigned int n = 3 * count_of(gate, line_uid(line)) + weight_of(line);
		bool newest = !line_next(&gate->lines, line);

		if (n <= most || newest ||
			(line_state(line) != LINE_SILENT && line_state(line) != LINE_OPEN))
			continue;
		most = n;
		victim = line;
	}
	return victim;
}

static void make_room(struct bus_gate *gate)
{
	struct gate_line *victim = choose_victim(gate);

	if (victim)
		line_end(victim);
}

static bool is_anybody_leaving(const struct bus_gate *gate)
{
	const struct gate_line *line = NULL;

	while ((line = line_next(&gate->lines, line)))
		if (line_state(line) == LINE_ENDING)
			return true;
	return false;
}

/* One connection more than there are places is accepted, and evicts another; further ones wait in
 * the backlog. nng takes a while to close a connection that has ended, and holds its descriptors
 * until then. */
static void look(struct bus_gate *gate)
{
	bool pauses = sd_event_source_get_enabled(gate->pause, NULL) > 0, room;

	if (!gate->listen_source)
		return;
	if (gate->lines.n > PLACES && !is_anybody_leaving(gate))
		make_room(gate);
	room = gate->lines.n <= PLACES && bus_endpoint_n_pipes(gate->lines.endpoint) <= NNG_PLACES;
	(void)sd_event_source_set_enabled(gate->listen_source,
		room && !pauses ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void on_room(struct gate_lines *lines)
{
	look((struct bus_gate *)lines);
}

static void on_pipes(struct bus_note *note)
{
	struct bus_endpoint *endpoint = container_of(note, struct bus_endpoint, pipes_note);

	if (endpoint->gate)
		look(endpoint->gate);
}

/* Without a free descriptor accept4() fails at every turn, and the loop would spin. */
static void pause_for_room(struct bus_gate *gate)
{
	make_room(gate);
	timer_after(gate->pause, PAUSE_USEC);
	look(gate);
}

static int on_pause(sd_event_source *source, uint64_t usec, void *data)
{
	look(data);
	return 0;
}

/* A connection of a user who may not be the peer is closed at once. */
static int on_connect(sd_event_source *source, int listen_fd, uint32_t revents, void *data)
{
	struct bus_gate *gate = data;
	_cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t n = sizeof(cred);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			pause_for_room(gate);
		return 0;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 ||
		!bus_endpoint_allows(gate->lines.endpoint, cred.uid) ||
		line_new(&gate->lines, fd, cred.uid) < 0)
		return 0;
	(void)fd_steal(&fd);
	look(gate);
	return 0;
}

/* --- The socket --- */

static int bind_socket(const char *path, unsigned int mode)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	int r = address_fill(&addr, path);

	if (r < 0)
		return r;
	if (fd < 0 || (unlink(path) < 0 && errno != ENOENT))
		return -errno;
	/* the mode is set before anybody can connect: the socket does not listen yet */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, (mode_t)mode) < 0 ||
		listen(fd, BACKLOG) < 0)
		return -errno;
	return fd_steal(&fd);
}

static int open_door(struct bus_gate *gate)
{
	int fd = bind_socket(gate->lines.endpoint->path, gate->mode);

	if (fd < 0)
		return fd;
	gate->listen_source = sd_event_source_disable_unref(gate->listen_source);
	fd_close(gate->listen_fd);
	gate->listen_fd = fd;
	return sd_event_add_io(gate->lines.endpoint->loop->event, &gate->listen_source, fd, EPOLLIN,
		on_connect, gate);
}

static void on_removal(void *data)
{
	struct bus_gate *gate = data;
	const char *path = gate->lines.endpoint->path;
	int r;

	if (access(path, F_OK) == 0)
		return;
	log_notice("%s was removed; listening again", path);
	r = open_door(gate);
	if (r < 0)
		log_warning("cannot listen on %s: %s", path, strerror(-r));
}

/* Without an inotify instance a removed path is not restored; all else works. */
static void watch_path(struct bus_gate *gate)
{
	const struct bus_endpoint *endpoint = gate->lines.endpoint;
	int r = dirwatch_open(&gate->file, endpoint->loop->event, STORED, endpoint->path,
		on_removal, gate);

	if (r < 0)
		log_debug("cannot watch %s: %s", endpoint->path, strerror(-r));
}

/* "bus.sock" has "bus.nng" beside it: not longer, so that both fit sun_path. */
static char *inner_path_of(const char *path)
{
	const char *suffix = strrchr(path, '.');
	int n = (int)(suffix && !strchr(suffix, '/') ? (size_t)(suffix - path) : strlen(path));
	char *inner;

	return asprintf(&inner, "%.*s.nng", n, path) < 0 ? NULL : inner;
}

static struct bus_gate *gate_new(struct bus_endpoint *endpoint, unsigned int mode)
{
	uint8_t protocol = endpoint->asks ? PROTOCOL_REP : PROTOCOL_REQ;
	struct bus_gate *gate = calloc(1, sizeof(*gate));

	if (!gate)
		return NULL;
	*gate = (struct bus_gate){ .mode = mode, .listen_fd = -1 };
	gate->lines = (struct gate_lines){ .endpoint = endpoint,
		.on_room = on_room,
		.hello = { 0, 'S', 'P', 0, 0, protocol, 0, 0 } };
	TAILQ_INIT(&gate->lines.all);
	return gate;
}

/* The inner listener and the handler of ends must be there before the first peer connects. */
static int listen_inside(struct bus_endpoint *endpoint)
{
	endpoint->inner_path = inner_path_of(endpoint->path);
	if (!endpoint->inner_path)
		return -ENOMEM;
	endpoint->pipes_note.fn = on_pipes;
	return bus_endpoint_listen_inside(endpoint);
}

int gate_open(struct bus_endpoint *endpoint, unsigned int mode)
{
	struct bus_gate *gate = gate_new(endpoint, mode);
	int r;

	if (!gate)
		return -ENOMEM;
	endpoint->gate = gate;
	r = listen_inside(endpoint);
	if (r == 0)
		r = sd_event_add_time(endpoint->loop->event, &gate->pause, CLOCK_MONOTONIC, 0, 1000,
			on_pause, gate);
	if (r >= 0)
		r = sd_event_source_set_enabled(gate->pause, SD_EVENT_OFF);
	if (r >= 0)
		r = open_door(gate);
	if (r < 0)
		return r;
	watch_path(gate);
	return 0;
}

void gate_close(struct bus_endpoint *endpoint)
{
	struct bus_gate *gate = endpoint->gate;

	if (!gate)
		return;
	gate->listen_source = sd_event_source_disable_unref(gate->listen_source);
	while (gate->lines.n)
		line_free(line_next(&gate->lines, NULL));
	endpoint->gate = NULL;
	sd_event_source_disable_unref(gate->pause);
	dirwatch_close(&gate->file);
	fd_close(gate->listen_fd);
	free(gate);
}
