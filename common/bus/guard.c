/*
 * In nng before 1.6 a peer that connects and goes away before its first eight bytes (a process killed at
 * the wrong moment does that) ends the listener for good: later peers connect, and are never heard. A
 * hello alone does not show it; a connection must be seen to arrive at the socket.
 *
 * So, while nobody is connected, the listener's owner connects to itself now and then, and recognises
 * itself by its process number. When the connection does not arrive, it listens anew on the same path.
 *
 * Of the listener that went deaf nng keeps three descriptors open. A peer that dies again and again in that moment
 * would use up all that this process may have; before that it ends in good order, and is started again.
 *
 * A path that was removed from outside is found by that as well. Later releases of nng do not grow deaf, and are
 * only looked after for that: whether there is something at the path.
 */
#include "bus/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define GUARD_MS 100
#define GUARD_SLOW_MS 1000
#define DEAF_MAX 32
#define SP_REQ 48
#define SP_REP 49

static bool may_grow_deaf(void)
{
	unsigned int major = 0, minor = 0;

	return sscanf(nng_version(), "%u.%u", &major, &minor) != 2 || (major == 1 && minor < 6);
}

static bool is_at_path(const struct bus_endpoint *endpoint)
{
	return access(endpoint->path, F_OK) == 0 || errno != ENOENT;
}

static uint64_t guard_usec(const struct bus_endpoint *endpoint)
{
	return (endpoint->always_guarded ? GUARD_SLOW_MS : GUARD_MS) * UINT64_C(1000);
}

/* The other side of a request is a reply, and the other way round. */
static void send_probe(struct bus_endpoint *endpoint)
{
	uint8_t hello[8] = { 0, 'S', 'P', 0, 0, endpoint->always_guarded ? SP_REQ : SP_REP, 0, 0 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	/* one that cannot even connect was not seen either: the path is gone, or the queue before it is full */
	atomic_store(&endpoint->probe_seen, false);
	endpoint->probing = true;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", endpoint->path);
	endpoint->probe_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (endpoint->probe_fd < 0)
		return;
	if (connect(endpoint->probe_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		send(endpoint->probe_fd, hello, sizeof(hello), MSG_NOSIGNAL) < 0)
		endpoint->probe_fd = fd_close(endpoint->probe_fd);
}

static void listen_anew(struct bus_endpoint *endpoint)
{
	int r;

	log_debug("nobody hears on %s: listening anew", endpoint->path);
	nng_listener_close(endpoint->listener);
	r = nng_listener_create(&endpoint->listener, endpoint->socket, endpoint->url);
	if (r == 0)
		r = nng_listener_set_int(endpoint->listener, NNG_OPT_IPC_PERMISSIONS,
			(int)endpoint->mode);
	if (r == 0)
		r = nng_listener_start(endpoint->listener, 0);
	if (r != 0)
		log_limited(LOG_WARNING, NULL, 0, "cannot listen anew on %s: %s", endpoint->path, nng_strerror(r));
	if (may_grow_deaf() && ++endpoint->n_deaf == DEAF_MAX) {
		log_limited(LOG_NOTICE, NULL, 0, "connections to %s were broken off %d times: starting anew", endpoint->path, DEAF_MAX);
		(void)sd_event_exit(endpoint->loop->event, 0);
	}
}

static int on_guard(sd_event_source *source, uint64_t usec, void *data)
{
	struct bus_endpoint *endpoint = data;
	bool idle = bus_endpoint_n_pipes(endpoint) == 0 || endpoint->always_guarded;
	bool probing = endpoint->probing, probes = may_grow_deaf();

	endpoint->probe_fd = fd_close(endpoint->probe_fd);
	endpoint->probing = false;
	if (!idle)
		return 0; /* pipes_note starts it again */
	if (probes ? probing && !atomic_load(&endpoint->probe_seen) : !is_at_path(endpoint))
		listen_anew(endpoint);
	if (probes)
		send_probe(endpoint);
	sd_event_source_set_time_relative(source, guard_usec(endpoint));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void on_pipes(struct bus_note *note)
{
	struct bus_endpoint *endpoint =
		(struct bus_endpoint *)(void *)((char *)note - offsetof(struct bus_endpoint, pipes_note));

	if (!endpoint->guard_timer || bus_endpoint_n_pipes(endpoint) > 0)
		return;
	sd_event_source_set_time_relative(endpoint->guard_timer, guard_usec(endpoint));
	sd_event_source_set_enabled(endpoint->guard_timer, SD_EVENT_ONESHOT);
}

int guard_start(struct bus_endpoint *endpoint)
{
	endpoint->pipes_note.fn = on_pipes;
	/* one that is always guarded holds its probe from the start, so that it holds as much at any time */
	return sd_event_add_time_relative(endpoint->loop->event, &endpoint->guard_timer, CLOCK_MONOTONIC,
		endpoint->always_guarded ? 0 : guard_usec(endpoint), 1000, on_guard, endpoint);
}

void guard_stop(struct bus_endpoint *endpoint)
{
	endpoint->guard_timer = sd_event_source_disable_unref(endpoint->guard_timer);
	endpoint->probe_fd = fd_close(endpoint->probe_fd);
}
