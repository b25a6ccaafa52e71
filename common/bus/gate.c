/*
 * Where others connect to us. In nng before 1.6 a peer that connects and goes away before both sides have said hello
 * ends the listener for good, and nng keeps three descriptors of it; a process that is killed at the wrong moment
 * does that, and so does whoever wishes us ill. So nobody connects to nng's listener but ourselves.
 *
 * The socket at the endpoint's path is a plain one of ours. Whoever comes is asked for its user first, and what it says
 * is brought to the listener of nng by line.c. That listener lies beside, at a path that only our own user may connect to.
 *
 * Nothing here waits for a time: who says nothing holds a place, and loses it to whoever comes when all are taken.
 */
#include "bus/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/address.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"

#define PLACES 16
#define NNG_PLACES (2 * PLACES)
#define BACKLOG 128
#define PAUSE_USEC 100000 /* after no descriptor was left for who stands at the door */
#define PROTOCOL_REQ 0x30
#define PROTOCOL_REP 0x31

/* --- Room for whoever comes --- */

static unsigned int count_of(const struct bus_gate *gate, uid_t uid)
{
	const struct gate_line *line = NULL;
	unsigned int n = 0;

	while ((line = line_next(gate, line)))
		n += line_uid(line) == uid;
	return n;
}

/* Who has said least goes first. */
static unsigned int weight_of(const struct gate_line *line)
{
	if (line_state(line) == LINE_SILENT)
		return 2;
	return line_has_spoken(line) ? 0 : 1;
}

/* Of the user who has most; of these who has said least; of these the oldest. */
static struct gate_line *choose_victim(const struct bus_gate *gate)
{
	struct gate_line *line = NULL, *victim = NULL;
	unsigned int most = 0;

	while ((line = line_next(gate, line))) {
		unsigned int n = 3 * count_of(gate, line_uid(line)) + weight_of(line);
		bool newest = !line_next(gate, line);

		if (n <= most || newest || (line_state(line) != LINE_SILENT && line_state(line) != LINE_OPEN))
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

	while ((line = line_next(gate, line)))
		if (line_state(line) == LINE_ENDING)
			return true;
	return false;
}

/* One more than there are places may come in, for whom another one leaves; the next ones wait at the door. nng needs its time
 * for what has ended, and holds its descriptors until then. */
void gate_look(struct bus_gate *gate)
{
	bool pauses = sd_event_source_get_enabled(gate->pause, NULL) > 0, room;

	if (!gate->listen_source)
		return;
	if (gate->n_lines > PLACES && !is_anybody_leaving(gate))
		make_room(gate);
	room = gate->n_lines <= PLACES && bus_endpoint_n_pipes(gate->endpoint) <= NNG_PLACES;
	(void)sd_event_source_set_enabled(gate->listen_source, room && !pauses ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void on_pipes(struct bus_note *note)
{
	struct bus_endpoint *endpoint =
		(struct bus_endpoint *)(void *)((char *)note - offsetof(struct bus_endpoint, pipes_note));

	if (endpoint->gate)
		gate_look(endpoint->gate);
}

/* Without a descriptor nobody can be let in, and the door would be looked at again and again. */
static void pause_for_room(struct bus_gate *gate)
{
	make_room(gate);
	(void)sd_event_source_set_time_relative(gate->pause, PAUSE_USEC);
	(void)sd_event_source_set_enabled(gate->pause, SD_EVENT_ONESHOT);
	gate_look(gate);
}

static int on_pause(sd_event_source *source, uint64_t usec, void *data)
{
	gate_look(data);
	return 0;
}

/* Whoever may not speak here is gone before anything was done for it. */
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
		!bus_endpoint_allows(gate->endpoint, cred.uid) || line_new(gate, fd, cred.uid) < 0)
		return 0;
	(void)fd_steal(&fd);
	gate_look(gate);
	return 0;
}

/* --- The socket --- */

static int bind_socket(const struct bus_endpoint *endpoint)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	int r = address_fill(&addr, endpoint->path);

	if (r < 0)
		return r;
	if (fd < 0 || (unlink(endpoint->path) < 0 && errno != ENOENT))
		return -errno;
	/* the mode is set before anybody can connect: bind does not listen yet */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		chmod(endpoint->path, (mode_t)endpoint->mode) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fd_steal(&fd);
}

static int open_door(struct bus_gate *gate)
{
	int fd = bind_socket(gate->endpoint);

	if (fd < 0)
		return fd;
	gate->listen_source = sd_event_source_disable_unref(gate->listen_source);
	fd_close(gate->listen_fd);
	gate->listen_fd = fd;
	return sd_event_add_io(gate->endpoint->loop->event, &gate->listen_source, fd, EPOLLIN, on_connect, gate);
}

static const char *file_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

static int on_removal(sd_event_source *source, const struct inotify_event *what, void *data)
{
	struct bus_gate *gate = data;
	const char *path = gate->endpoint->path;
	int r;

	if (what->len == 0 || strcmp(what->name, file_name(path)) != 0 || access(path, F_OK) == 0)
		return 0;
	log_notice("%s was removed: made anew", path);
	r = open_door(gate);
	if (r < 0)
		log_warning("cannot listen on %s: %s", path, strerror(-r));
	return 0;
}

/* There are few of these to be had for a user; without one only a path that is removed is not made anew. */
static void watch_path(struct bus_gate *gate)
{
	_cleanup_free_ char *dir = strdup(gate->endpoint->path);
	int r;

	check(dir);
	dir[file_name(dir) - dir] = '\0';
	r = sd_event_add_inotify(gate->endpoint->loop->event, &gate->removal, dir, IN_DELETE | IN_MOVED_FROM, on_removal,
		gate);
	if (r < 0)
		log_debug("cannot watch %s: %s", dir, strerror(-r));
}

int gate_open(struct bus_gate **ret_gate, struct bus_endpoint *endpoint)
{
	uint8_t protocol = endpoint->asks ? PROTOCOL_REP : PROTOCOL_REQ;
	struct bus_gate *gate = calloc(1, sizeof(*gate));
	int r;

	if (!gate)
		return -ENOMEM;
	*gate = (struct bus_gate){ .endpoint = endpoint, .listen_fd = -1,
		.hello = { 0, 'S', 'P', 0, 0, protocol, 0, 0 } };
	TAILQ_INIT(&gate->lines);
	/* before the first one can come */
	endpoint->pipes_note.fn = on_pipes;
	r = sd_event_add_time(endpoint->loop->event, &gate->pause, CLOCK_MONOTONIC, 0, 1000, on_pause, gate);
	if (r >= 0)
		r = sd_event_source_set_enabled(gate->pause, SD_EVENT_OFF);
	if (r >= 0)
		r = open_door(gate);
	if (r < 0) {
		gate_close(gate);
		return r;
	}
	watch_path(gate);
	*ret_gate = gate;
	return 0;
}

struct bus_gate *gate_close(struct bus_gate *gate)
{
	if (!gate)
		return NULL;
	gate->listen_source = sd_event_source_disable_unref(gate->listen_source);
	while (gate->n_lines)
		line_free(line_next(gate, NULL));
	sd_event_source_disable_unref(gate->pause);
	sd_event_source_disable_unref(gate->removal);
	fd_close(gate->listen_fd);
	free(gate);
	return NULL;
}
