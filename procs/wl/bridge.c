/*
 * One question is on its way at a time; the others wait their turn. A bridge that is not there yet
 * is tried for WAIT_MSEC, because the GPU's process may start after this one. A bridge that breaks
 * the rules, or does not answer for as long, is left, and connected to again for the next question.
 */
#include "bridge.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "received.h"

#define WAIT_MSEC 5000
#define RETRY_MSEC 50
#define QUESTIONS_MAX 128
#define PACKET_BYTES 4096
#define PACKET_FDS 32

enum state { WAITING, SENT, ANSWERED };

/** struct question - one of bridge_ask()'s */
struct question {
	TAILQ_ENTRY(question) link;
	enum bridge_what what;
	uint64_t id;
	enum state state;
	uint64_t since_msec;
	int fd; /* ANSWERED: the answer; -1: there is none */
};

struct bridge {
	sd_event *event;
	struct sockaddr_un addr;
	void (*on_answer)(void *data);
	void *data;
	int fd;
	sd_event_source *source;
	sd_event_source *timer;
	TAILQ_HEAD(questions, question) questions;
	unsigned int n_questions;
};

/* --- Questions --- */

static void drop(struct bridge *bridge, struct question *question)
{
	TAILQ_REMOVE(&bridge->questions, question, link);
	bridge->n_questions--;
	fd_close(question->fd);
	free(question);
}

static struct question *find(struct bridge *bridge, enum bridge_what what, uint64_t id)
{
	struct question *question;

	TAILQ_FOREACH(question, &bridge->questions, link)
		if (question->what == what && question->id == id)
			return question;
	return NULL;
}

/* The first one that has no answer yet. */
static struct question *front(struct bridge *bridge)
{
	struct question *question;

	TAILQ_FOREACH(question, &bridge->questions, link)
		if (question->state != ANSWERED)
			return question;
	return NULL;
}

static void answer(struct question *question, int fd)
{
	question->state = ANSWERED;
	question->fd = fd;
}

/* An answer for which nobody came any more makes room. */
static struct question *add(struct bridge *bridge, enum bridge_what what, uint64_t id)
{
	struct question *oldest = TAILQ_FIRST(&bridge->questions), *question;

	if (bridge->n_questions >= QUESTIONS_MAX) {
		if (oldest->state != ANSWERED)
			return NULL;
		drop(bridge, oldest);
	}
	question = calloc(1, sizeof(*question));
	if (!question)
		return NULL;
	question->what = what;
	question->id = id;
	question->fd = -1;
	question->since_msec = clock_ms();
	TAILQ_INSERT_TAIL(&bridge->questions, question, link);
	bridge->n_questions++;
	return question;
}

/* --- The connection --- */

static void disconnect(struct bridge *bridge)
{
	bridge->source = sd_event_source_disable_unref(bridge->source);
	bridge->fd = fd_close(bridge->fd);
}

/* The bridge is of no use: whoever waits for it is told. */
static void give_up(struct bridge *bridge, const char *why)
{
	struct question *question;

	log_limited(LOG_WARNING, NULL, 0, "resource bridge %s: %s", bridge->addr.sun_path, why);
	disconnect(bridge);
	while ((question = front(bridge)))
		answer(question, -1);
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *data);

/* 0 | negative errno; a missing bridge may still come */
static int connect_bridge(struct bridge *bridge)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&bridge->addr, sizeof(bridge->addr)) < 0)
		return -errno;
	r = sd_event_add_io(bridge->event, &bridge->source, fd, EPOLLIN, on_readable, bridge);
	if (r < 0)
		return r;
	bridge->fd = fd_steal(&fd);
	return 0;
}

static int send_question(const struct bridge *bridge, const struct question *question)
{
	char text[64];
	int n = snprintf(text, sizeof(text),
		question->what == BRIDGE_BUFFER ? "{\"GetBuffer\":{\"id\":%" PRIu64 "}}"
						: "{\"GetFence\":{\"seqno\":%" PRIu64 "}}",
		question->id);

	return send(bridge->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n ? 0 : -errno;
}

/* Get the first question on its way, or its answer in time. */
static void pump(struct bridge *bridge)
{
	struct question *question = front(bridge);
	int r = 0;

	timer_stop(bridge->timer);
	if (!question)
		return;
	if (clock_ms() - question->since_msec >= WAIT_MSEC) {
		give_up(bridge, "no answer");
		return;
	}
	if (bridge->fd < 0)
		r = connect_bridge(bridge);
	if (r == 0 && question->state == WAITING) {
		r = send_question(bridge, question);
		question->state = r == 0 ? SENT : WAITING;
	}
	if (r < 0 && r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN)
		give_up(bridge, strerror(-r));
	else
		timer_after(bridge->timer, RETRY_MSEC * 1000);
}

/* --- Answers --- */

/** struct packet - what came in one */
struct packet {
	char text[PACKET_BYTES];
	size_t n_bytes;
	int fds[PACKET_FDS];
	size_t n_fds;
};

static void close_fds(struct packet *packet)
{
	for (size_t i = 0; i < packet->n_fds; i++)
		packet->fds[i] = fd_close(packet->fds[i]);
}

/* 0 | -EAGAIN | -EPROTO: hung up, or too much */
static int receive(int fd, struct packet *ret)
{
	union {
		char bytes[CMSG_SPACE(PACKET_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { ret->text, sizeof(ret->text) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	ret->n_fds = 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
		ret->n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(ret->fds, CMSG_DATA(cmsg), ret->n_fds * sizeof(int));
	}
	ret->n_bytes = n > 0 ? (size_t)n : 0;
	return n > 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ? 0 : -EPROTO;
}

/* {"Resource":{"Buffer":{"handle":N,...}}} or "Invalid". Returns the index of the descriptor, -1:
 * there is none, or -2: it is no answer to this question. */
static int parse(const struct packet *packet, enum bridge_what what)
{
	json_t *root = json_loadb(packet->text, packet->n_bytes, JSON_DECODE_ANY, NULL), *handle;
	const char *kind = what == BRIDGE_BUFFER ? "Buffer" : "Fence";
	int r = -2;

	handle =
		json_object_get(json_object_get(json_object_get(root, "Resource"), kind), "handle");
	if (json_is_string(root) && strcmp(json_string_value(root), "Invalid") == 0)
		r = -1;
	else if (json_is_integer(handle) && json_integer_value(handle) >= 0 &&
		json_integer_value(handle) < (json_int_t)packet->n_fds)
		r = (int)json_integer_value(handle);
	json_decref(root);
	return r;
}

/* The compositor, or memory, gets it next. */
static int take_fd(struct packet *packet, int index)
{
	struct received received;
	int fd = fd_steal(&packet->fds[index]);

	received_judge(&fd, &received);
	return received.kind == RECEIVED_FOREIGN ? fd_close(fd) : fd;
}

static bool handle_packet(struct bridge *bridge, struct packet *packet)
{
	struct question *question = front(bridge);
	int index;

	if (!question || question->state != SENT)
		return false;
	index = parse(packet, question->what);
	if (index == -2)
		return false;
	answer(question, index < 0 ? -1 : take_fd(packet, index));
	return true;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct bridge *bridge = data;
	struct packet packet;
	int r = receive(fd, &packet);

	if (r == -EAGAIN)
		return 0;
	if (r < 0 && packet.n_bytes == 0 && !front(bridge))
		disconnect(bridge); /* nobody wanted anything: the GPU's process may end */
	else if (r < 0 || !handle_packet(bridge, &packet))
		give_up(bridge, packet.n_bytes ? "malformed answer" : "it hung up");
	close_fds(&packet);
	pump(bridge);
	bridge->on_answer(bridge->data);
	return 0;
}

/* --- Life --- */

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct bridge *bridge = data;

	pump(bridge);
	if (!front(bridge))
		bridge->on_answer(bridge->data);
	return 0;
}

struct bridge *bridge_new(sd_event *event, const char *path, void (*on_answer)(void *data),
	void *data)
{
	struct bridge *bridge = calloc(1, sizeof(*bridge));

	if (!bridge)
		return NULL;
	bridge->event = event;
	bridge->on_answer = on_answer;
	bridge->data = data;
	bridge->fd = -1;
	bridge->addr.sun_family = AF_UNIX;
	snprintf(bridge->addr.sun_path, sizeof(bridge->addr.sun_path), "%s", path);
	TAILQ_INIT(&bridge->questions);
	if (sd_event_add_time(event, &bridge->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, bridge) <
		0) {
		free(bridge);
		return NULL;
	}
	timer_stop(bridge->timer);
	return bridge;
}

void bridge_forget(struct bridge *bridge)
{
	if (!bridge)
		return;
	while (!TAILQ_EMPTY(&bridge->questions))
		drop(bridge, TAILQ_FIRST(&bridge->questions));
	disconnect(bridge); /* an answer may be on its way */
	timer_stop(bridge->timer);
}

struct bridge *bridge_free(struct bridge *bridge)
{
	if (!bridge)
		return NULL;
	bridge_forget(bridge);
	sd_event_source_disable_unref(bridge->timer);
	free(bridge);
	return NULL;
}

int bridge_ask(struct bridge *bridge, enum bridge_what what, uint64_t id, int *ret_fd)
{
	struct question *question = bridge ? find(bridge, what, id) : NULL;
	int fd;

	if (!bridge)
		return BRIDGE_E_NONE;
	if (!question) {
		question = add(bridge, what, id);
		if (!question)
			return BRIDGE_E_NONE;
		pump(bridge);
	}
	if (question->state != ANSWERED)
		return BRIDGE_E_WAIT;
	fd = fd_steal(&question->fd);
	drop(bridge, question);
	if (fd < 0)
		return BRIDGE_E_NONE;
	*ret_fd = fd;
	return 0;
}
