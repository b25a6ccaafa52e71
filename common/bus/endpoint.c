/*
 * One nng socket for each peer. Sizes and times are limited on every one of them, nothing is sent again by
 * nng itself (a request that a dying peer swallowed would be delivered to its successor), and who
 * connects is checked before the first byte is read.
 */
#include "bus/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "bus/bus-config.h"
#include "fd/peer.h"

#define UNPACK_MAX_BYTES (16u * 1024 * 1024)
#define OVERDUE_USEC 5000000 /* what nng takes down, it takes down within a fraction of this */
#define SUSPECTED_USEC 500000
#define WAY_BACK_BYTES 64 /* nng counts what it puts before a message as part of it */
#define BUS_PACKED_MAX (BUS_MESSAGE_MAX - WAY_BACK_BYTES)

/* --- Threads --- */

#ifndef HAVE_NNG_INIT_SET_PARAMETER
/*
 * Before 1.7 nng makes threads for every processor and has no knob, but this one question of its own. It is told of
 * one processor; everybody else in this process, and this thread at any other time, hears the truth.
 */
static _Thread_local bool nng_asks;

long __sysconf(int name);
long sysconf(int name);

/* ThreadSanitizer asks, too, and before it can be told of a call. */
#if __has_attribute(disable_sanitizer_instrumentation)
__attribute__((disable_sanitizer_instrumentation))
#endif
long sysconf(int name)
{
	return nng_asks && name == _SC_NPROCESSORS_ONLN ? 1 : __sysconf(name);
}

static void limit_threads(bool on)
{
	nng_asks = on;
}
#else
static void limit_threads(bool on)
{
	if (!on)
		return;
	nng_init_set_parameter(NNG_INIT_NUM_TASK_THREADS, 2);
	nng_init_set_parameter(NNG_INIT_NUM_EXPIRE_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_POLLER_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_RESOLVER_THREADS, 1);
}
#endif

/* The first one makes the library's threads. */
static int open_socket(nng_socket *ret_socket, bool asks)
{
	int r;

	limit_threads(true);
	r = asks ? nng_req0_open(ret_socket) : nng_rep0_open(ret_socket);
	limit_threads(false);
	return r;
}

/* --- Messages --- */

int bus_error(int nng_error)
{
	switch (nng_error) {
	case 0:
		return 0;
	case NNG_ETIMEDOUT:
		return -ETIMEDOUT;
	case NNG_ECONNRESET:
	case NNG_ECLOSED:
	case NNG_ECANCELED:
	case NNG_ECONNSHUT:
		return -ECONNRESET;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_EADDRINUSE:
		return -EADDRINUSE;
	case NNG_EADDRINVAL:
		return -ENAMETOOLONG;
	case NNG_EPERM:
		return -EPERM;
	case NNG_ENOENT:
		return -ENOENT;
	default:
		return (nng_error & NNG_ESYSERR) ? -(int)(nng_error & ~NNG_ESYSERR) : -EIO;
	}
}

int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg)
{
	size_t n = bh__envelope__get_packed_size(envelope);
	nng_msg *msg;

	if (n > BUS_PACKED_MAX)
		return -EMSGSIZE;
	if (nng_msg_alloc(&msg, n) != 0)
		return -ENOMEM;
	bh__envelope__pack(envelope, nng_msg_body(msg));
	*ret_msg = msg;
	return 0;
}

/* A small hostile message can ask for much memory; the budget ends that. */
static void *capped_alloc(void *data, size_t n)
{
	size_t *left = data;

	if (n > *left)
		return NULL;
	*left -= n;
	return malloc(n);
}

static void capped_free(void *data, void *p)
{
	free(p);
}

Bh__Envelope *bus_unpack(nng_msg *msg)
{
	size_t left = UNPACK_MAX_BYTES;
	ProtobufCAllocator allocator = { capped_alloc, capped_free, &left };

	return bh__envelope__unpack(&allocator, nng_msg_len(msg), nng_msg_body(msg));
}

bool bus_endpoint_allows(const struct bus_endpoint *endpoint, uid_t uid)
{
	return endpoint->user == BUS_ANY_USER || peer_is(&(struct ucred){ .uid = uid }, endpoint->user);
}

/* At a listener it is our own gate that connects, and nobody else may. */
static bool peer_allowed(const struct bus_endpoint *endpoint, nng_pipe pipe)
{
	uint64_t uid, pid;

	if (nng_listener_id(nng_pipe_listener(pipe)) > 0)
		return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0 && pid == (uint64_t)getpid();
	return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) == 0 &&
		bus_endpoint_allows(endpoint, (uid_t)uid);
}

/* --- Who is connected --- */

bool bus_endpoint_has(struct bus_endpoint *endpoint, uint32_t pipe_id)
{
	return pipes_has(&endpoint->pipes, pipe_id);
}

unsigned int bus_endpoint_n_pipes(struct bus_endpoint *endpoint)
{
	return pipes_count(&endpoint->pipes);
}

static void tell_of_end(struct bus_endpoint *endpoint)
{
	if (endpoint->gone_note.fn)
		bus_loop_post(endpoint->loop, &endpoint->gone_note);
	if (endpoint->pipes_note.fn)
		bus_loop_post(endpoint->loop, &endpoint->pipes_note);
}

static void look_after(struct bus_endpoint *endpoint, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(endpoint->overdue, usec);
	(void)sd_event_source_set_enabled(endpoint->overdue, SD_EVENT_ONESHOT);
}

static void expect_end(struct bus_endpoint *endpoint)
{
	endpoint->suspected = false;
	if (sd_event_source_get_enabled(endpoint->overdue, NULL) == 0)
		look_after(endpoint, OVERDUE_USEC);
}

/* A process that was stopped itself finds everything overdue when it goes on: nng gets another moment then. */
static int on_overdue(sd_event_source *source, uint64_t usec, void *data)
{
	struct bus_endpoint *endpoint = data;
	bool overdue = pipes_are_overdue(&endpoint->pipes, OVERDUE_USEC) ||
		pipes_count(&endpoint->pipes) > endpoint->n_most;

	if (overdue && endpoint->suspected) {
		log_warning("nng does not take down a connection that has ended: this process starts anew");
		return sd_event_exit(endpoint->loop->event, 0);
	}
	endpoint->suspected = overdue;
	if (overdue)
		look_after(endpoint, SUSPECTED_USEC);
	else if (pipes_are_overdue(&endpoint->pipes, 0))
		look_after(endpoint, OVERDUE_USEC);
	return 0;
}

unsigned int bus_endpoint_hang_up(struct bus_endpoint *endpoint)
{
	uint32_t ids[BUS_PIPES_MAX];
	unsigned int n = pipes_leave(&endpoint->pipes, ids);

	for (unsigned int i = 0; i < n; i++)
		(void)nng_pipe_close((nng_pipe){ .id = ids[i] });
	if (n == 0)
		return 0;
	tell_of_end(endpoint);
	expect_end(endpoint);
	return n;
}

void bus_endpoint_line_ended(struct bus_endpoint *endpoint, unsigned int n_left)
{
	endpoint->n_most = n_left;
	if (endpoint->gone_note.fn)
		bus_loop_post(endpoint->loop, &endpoint->gone_note);
	if (pipes_count(&endpoint->pipes) > n_left)
		expect_end(endpoint);
}

/* nng tells of the end of every connection, of those that were refused as well. One that is let in is noted
 * before its first message can come, so that a message from a connection not noted is from one that ended. */
static void on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *data)
{
	struct bus_endpoint *endpoint = data;
	uint32_t id = (uint32_t)nng_pipe_id(pipe);

	if (ev == NNG_PIPE_EV_ADD_PRE) {
		if (!peer_allowed(endpoint, pipe) || !pipes_add(&endpoint->pipes, id))
			nng_pipe_close(pipe);
		return;
	}
	if (pipes_remove(&endpoint->pipes, id))
		tell_of_end(endpoint);
}

/* --- Open and close --- */

static int set_limits(struct bus_endpoint *endpoint)
{
	nng_socket s = endpoint->socket;
	int r;

	if ((r = nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, BUS_MESSAGE_MAX)) != 0)
		return r;
	if (endpoint->asks && (r = nng_socket_set_ms(s, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0)
		return r;
	r = nng_pipe_notify(s, NNG_PIPE_EV_ADD_PRE, on_pipe, endpoint);
	if (r != 0)
		return r;
	return nng_pipe_notify(s, NNG_PIPE_EV_REM_POST, on_pipe, endpoint);
}

int bus_endpoint_open(struct bus_endpoint *endpoint, sd_event *event, const char *path, bool asks)
{
	int r;

	endpoint->asks = asks;
	endpoint->n_most = BUS_PIPES_MAX;
	pipes_init(&endpoint->pipes);
	endpoint->path = strdup(path);
	if (!endpoint->path)
		return -ENOMEM;
	r = bus_loop_get(event, &endpoint->loop);
	if (r >= 0)
		r = sd_event_add_time(event, &endpoint->overdue, CLOCK_MONOTONIC, 0, 100000, on_overdue, endpoint);
	if (r >= 0)
		r = sd_event_source_set_enabled(endpoint->overdue, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = open_socket(&endpoint->socket, asks);
	if (r != 0)
		return bus_error(r);
	return bus_error(set_limits(endpoint));
}

/* "bus.sock" has "bus.nng" beside it: no longer, so that it fits where the other does. */
static char *inner_path_of(const char *path)
{
	const char *suffix = strrchr(path, '.');
	int n = (int)(suffix && !strchr(suffix, '/') ? (size_t)(suffix - path) : strlen(path));
	char *inner;

	return asprintf(&inner, "%.*s.nng", n, path) < 0 ? NULL : inner;
}

int bus_endpoint_listen_inside(struct bus_endpoint *endpoint)
{
	_cleanup_free_ char *url = NULL;
	int r;

	if (asprintf(&url, "ipc://%s", endpoint->inner_path) < 0)
		return -ENOMEM;
	if (nng_listener_id(endpoint->listener) > 0)
		(void)nng_listener_close(endpoint->listener);
	r = nng_listener_create(&endpoint->listener, endpoint->socket, url);
	if (r == 0)
		r = nng_listener_set_int(endpoint->listener, NNG_OPT_IPC_PERMISSIONS, 0600);
	if (r == 0)
		r = nng_listener_start(endpoint->listener, 0);
	return bus_error(r);
}

int bus_endpoint_listen(struct bus_endpoint *endpoint, unsigned int mode)
{
	int r;

	endpoint->mode = mode;
	endpoint->inner_path = inner_path_of(endpoint->path);
	if (!endpoint->inner_path)
		return -ENOMEM;
	r = bus_endpoint_listen_inside(endpoint);
	return r < 0 ? r : gate_open(&endpoint->gate, endpoint);
}

void bus_endpoint_close(struct bus_endpoint *endpoint)
{
	endpoint->gate = gate_close(endpoint->gate);
	endpoint->overdue = sd_event_source_disable_unref(endpoint->overdue);
	if (nng_socket_id(endpoint->socket) > 0) {
		endpoint->dial_timer = sd_event_source_disable_unref(endpoint->dial_timer);
		nng_close(endpoint->socket);
	}
	/* closing ends the connections, and each of these ends leaves a note */
	if (endpoint->loop) {
		bus_loop_forget(endpoint->loop, &endpoint->pipes_note);
		bus_loop_forget(endpoint->loop, &endpoint->gone_note);
	}
	bus_loop_put(endpoint->loop);
	pipes_destroy(&endpoint->pipes);
	free(endpoint->path);
	free(endpoint->inner_path);
}
