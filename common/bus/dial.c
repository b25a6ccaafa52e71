/*
 * nng dials again by itself when a connection ends, at times of its own choosing, and cannot be told to do it
 * now. It is told to wait for days instead, and a new dialer is made whenever there is a reason to try:
 * the peer says that it listens, or it is time to look. The end of a connection is no such reason: its peer has just
 * died, and between the making of a socket and its connection, or its end, nng's poll thread spins (it hears of the
 * hang-up that every unconnected socket shows), on a processor that the dead one's successor has a better use for.
 *
 * The former dialer may be connecting at that very moment, and what was asked over its connection would break
 * off with it: it is kept until a few others are made. Two connections to one peer do no harm.
 */
#include "bus/internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* long: a connection that is given up under way ends the listener of an nng before 1.6 */
#define RETRY_USEC 100000
#define NEVER_MS (1 << 29)

static int dial(struct bus_endpoint *endpoint)
{
	nng_dialer *oldest = &endpoint->dialers[endpoint->n_dials++ % BUS_DIALERS];
	nng_dialer dialer;
	int r;

	if (nng_dialer_id(*oldest) > 0)
		(void)nng_dialer_close(*oldest);
	*oldest = (nng_dialer)NNG_DIALER_INITIALIZER;
	r = nng_dialer_create(&dialer, endpoint->socket, endpoint->url);
	if (r != 0)
		return bus_error(r);
	*oldest = dialer;
	if ((r = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, NEVER_MS)) != 0 ||
		(r = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, NEVER_MS)) != 0)
		return bus_error(r);
	return bus_error(nng_dialer_start(dialer, NNG_FLAG_NONBLOCK));
}

static void look_later(struct bus_endpoint *endpoint)
{
	sd_event_source_set_time_relative(endpoint->dial_timer, RETRY_USEC);
	sd_event_source_set_enabled(endpoint->dial_timer, SD_EVENT_ONESHOT);
}

static void try(struct bus_endpoint *endpoint)
{
	int r = dial(endpoint);

	endpoint->told_usec = 0;
	if (r < 0)
		log_limited(LOG_WARNING, NULL, 0, "cannot dial %s: %s", endpoint->path, strerror(-r));
	look_later(endpoint);
}

/* It may listen again before the end of its predecessor's connection was heard of. */
void bus_endpoint_redial(struct bus_endpoint *endpoint)
{
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
	struct bus_endpoint *endpoint =
		(struct bus_endpoint *)(void *)((char *)note - offsetof(struct bus_endpoint, pipes_note));

	if (bus_endpoint_n_pipes(endpoint) > 0)
		return;
	if (endpoint->told_usec + RETRY_USEC > clock_us())
		try(endpoint);
	else
		look_later(endpoint);
}

int bus_endpoint_dial(struct bus_endpoint *endpoint)
{
	int r = dial(endpoint);

	if (r < 0)
		return r;
	endpoint->pipes_note.fn = on_pipes;
	return sd_event_add_time_relative(endpoint->loop->event, &endpoint->dial_timer, CLOCK_MONOTONIC,
		RETRY_USEC, 1000, on_retry, endpoint);
}
