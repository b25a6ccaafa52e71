/*
 * An nng dialer redials by itself when a connection ends, at times of its own choosing, and cannot
 * be told to dial now. So its retry interval is set to days, and each attempt gets a new dialer:
 * when the peer announces that it listens, and when the back-off expires.
 *
 * The end of a connection triggers no attempt. The peer has just died, and until a new socket
 * connects or fails nng's poll thread spins on it (an unconnected socket polls as hung up), on a
 * CPU that the peer's successor needs.
 *
 * The former dialer may be connecting at that moment, and closing it would abort the calls made
 * over its connection. So the last BUS_DIALERS dialers are kept. Two connections to one peer do no
 * harm.
 */
#include "bus/dial.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "bus/message.h"

/* Long, because a connection that is aborted half-way kills the listener of our former release with
 * an nng before 1.6. */
#define RETRY_USEC 100000
#define NEVER_MS (1 << 29)

static int dial(struct bus_endpoint *endpoint)
{
	nng_dialer *oldest = &endpoint->dialers[endpoint->n_dials++ % BUS_DIALERS];
	_cleanup_free_ char *url = NULL;
	nng_dialer dialer;
	int r;

	if (nng_dialer_id(*oldest) > 0)
		(void)nng_dialer_close(*oldest);
	*oldest = (nng_dialer)NNG_DIALER_INITIALIZER;
	if (asprintf(&url, "ipc://%s", endpoint->path) < 0)
		return -ENOMEM;
	r = nng_dialer_create(&dialer, endpoint->socket, url);
	if (r != 0)
		return bus_error(r);
	*oldest = dialer;
	if ((r = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, NEVER_MS)) != 0 ||
		(r = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, NEVER_MS)) != 0)
		return bus_error(r);
	return bus_error(nng_dialer_start(dialer, NNG_FLAG_NONBLOCK));
}

/* The back-off: a peer that comes back announces itself. */
static void look_later(struct bus_endpoint *endpoint)
{
	timer_after(endpoint->dial_timer, endpoint->retry_usec);
	endpoint->retry_usec = MIN(2 * endpoint->retry_usec, endpoint->retry_max_usec);
}

static void try(struct bus_endpoint *endpoint)
{
	int r = dial(endpoint);

	endpoint->told_usec = 0;
	if (r < 0)
		log_limited(LOG_WARNING, NULL, 0, "cannot dial %s: %s", endpoint->path,
			strerror(-r));
	look_later(endpoint);
}

/* The announcement may come before the end of the predecessor's connection was noticed. */
void bus_endpoint_redial(struct bus_endpoint *endpoint)
{
	endpoint->retry_usec = RETRY_USEC;
	if (bus_endpoint_n_pipes(endpoint) == 0)
		try(endpoint);
	else
		endpoint->told_usec = clock_us();
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct bus_endpoint *endpoint = data;

	if (bus_endpoint_n_pipes(endpoint) == 0)
		try(endpoint);
	return 0;
}

static void on_pipes(struct bus_note *note)
{
	struct bus_endpoint *endpoint = container_of(note, struct bus_endpoint, pipes_note);

	if (bus_endpoint_n_pipes(endpoint) > 0)
		return;
	endpoint->retry_usec = RETRY_USEC;
	if (endpoint->told_usec + RETRY_USEC > clock_us())
		try(endpoint);
	else
		look_later(endpoint);
}

int bus_endpoint_dial(struct bus_endpoint *endpoint, uint64_t retry_max_usec)
{
	int r = sd_event_add_time_relative(endpoint->loop->event, &endpoint->dial_timer,
		CLOCK_MONOTONIC, 0, 1000, on_retry, endpoint);

	if (r < 0)
		return r;
	endpoint->retry_usec = RETRY_USEC;
	endpoint->retry_max_usec = retry_max_usec;
	/* set before the first connection can end */
	endpoint->pipes_note.fn = on_pipes;
	r = dial(endpoint);
	look_later(endpoint);
	return r;
}
