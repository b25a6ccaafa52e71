/*
 * One nng socket per peer. Each socket limits the size of messages and checks the peer's user
 * before it reads the first byte. nng's resending is off, because it would deliver a request that a
 * dying peer has taken to that peer's successor as well.
 */
#include "bus/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <nng/protocol/reqrep0/req.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"
#include "bus/message.h"
#include "bus/socket.h"
#include "fd/peer.h"

#define OVERDUE_USEC 5000000  /* nng takes a connection down in a fraction of this */
#define SUSPECTED_USEC 500000 /* one more chance, see on_overdue() */

static bool stuck;

bool bus_endpoint_is_stuck(void)
{
	return stuck;
}

bool bus_endpoint_allows(const struct bus_endpoint *endpoint, uid_t uid)
{
	return endpoint->user == BUS_ANY_USER ||
		peer_is(&(struct ucred){ .uid = uid }, endpoint->user);
}

/* Only our own gate may connect to a listener. */
static bool peer_allowed(const struct bus_endpoint *endpoint, nng_pipe pipe)
{
	uint64_t uid, pid;

	if (nng_listener_id(nng_pipe_listener(pipe)) > 0)
		return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0 &&
			pid == (uint64_t)getpid();
	return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &uid) == 0 &&
		bus_endpoint_allows(endpoint, (uid_t)uid);
}

/* --- Connections --- */

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
	timer_after(endpoint->overdue, usec);
}

static void expect_end(struct bus_endpoint *endpoint)
{
	if (sd_event_source_get_enabled(endpoint->overdue, NULL) > 0)
		return;
	endpoint->n_removed = pipes_n_removed(&endpoint->pipes);
	look_after(endpoint, OVERDUE_USEC);
}

/* When a connection to the gate's listener ended is not known. But if any at all was taken down
 * since the last look, nng is at work. */
static bool is_overdue(struct bus_endpoint *endpoint)
{
	unsigned int former = endpoint->n_removed;

	endpoint->n_removed = pipes_n_removed(&endpoint->pipes);
	return pipes_are_overdue(&endpoint->pipes, OVERDUE_USEC) ||
		(pipes_count(&endpoint->pipes) > endpoint->n_most && endpoint->n_removed == former);
}

/* A process that was stopped (SIGSTOP) finds everything overdue when it continues, so nng gets one
 * more chance before the process gives up. Further ends do not prolong that. */
static int on_overdue(sd_event_source *source, uint64_t usec, void *data)
{
	struct bus_endpoint *endpoint = data;
	bool overdue = is_overdue(endpoint);

	if (overdue && endpoint->suspected) {
		log_warning("nng does not close a connection that has ended; restarting this process");
		stuck = true;
		return sd_event_exit(endpoint->loop->event, 0);
	}
	endpoint->suspected = overdue;
	if (overdue)
		look_after(endpoint, SUSPECTED_USEC);
	else if (pipes_are_overdue(&endpoint->pipes, 0) ||
		pipes_count(&endpoint->pipes) > endpoint->n_most)
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

/* nng reports the end of every connection, refused ones included. A connection that is let in is
 * listed before its first message can arrive, so a message of an unlisted connection comes from a
 * dead one. */
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
	if (endpoint->asks &&
		(r = nng_socket_set_ms(s, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE)) != 0)
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
		r = sd_event_add_time(event, &endpoint->overdue, CLOCK_MONOTONIC, 0, 100000,
			on_overdue, endpoint);
	if (r >= 0)
		r = sd_event_source_set_enabled(endpoint->overdue, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = bus_socket_open(&endpoint->socket, asks);
	if (r != 0)
		return bus_error(r);
	return bus_error(set_limits(endpoint));
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

void bus_endpoint_close(struct bus_endpoint *endpoint)
{
	endpoint->overdue = sd_event_source_disable_unref(endpoint->overdue);
	if (nng_socket_id(endpoint->socket) > 0) {
		endpoint->dial_timer = sd_event_source_disable_unref(endpoint->dial_timer);
		nng_close(endpoint->socket);
	}
	/* nng_close() ends the connections, and each end posts notes */
	if (endpoint->loop) {
		bus_loop_forget(endpoint->loop, &endpoint->pipes_note);
		bus_loop_forget(endpoint->loop, &endpoint->gone_note);
	}
	bus_loop_put(endpoint->loop);
	pipes_destroy(&endpoint->pipes);
	free(endpoint->path);
	free(endpoint->inner_path);
}
