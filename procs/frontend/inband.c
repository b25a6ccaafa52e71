/*
 * The descriptors lie in the vault like those of a VMM, and are fetched from there by the process
 * that made them as by one that comes after it. Whoever fetches one does not know what was said
 * before: it kicks, or calls, once more. One notification too many does no harm.
 *
 * What the worker says is noted, and goes out when the VMM reads: many calls become one. Nothing is
 * sent for a ring that is stopped, but when it starts again.
 */
#include "inband.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/timer.h"
#include "exchange.h"

#define REST_USEC 20000

static const uint64_t one = 1;

/** struct inband_end - our end of a descriptor */
struct inband_end {
	struct exchange *exchange;
	uint32_t index;
	enum inband_kind kind;
	uint64_t token; /* as the record has it */
	int fd;         /* owned; -1 = it is to be fetched */
	sd_event_source *source;
	bool due; /* the VMM is to be told */
};

/* --- Ends --- */

static uint64_t token_of(const Bh__Ring *ring, enum inband_kind kind)
{
	if (!(ring->in_band & kind))
		return 0;
	return kind == INBAND_KICK    ? ring->kick_token
		: kind == INBAND_CALL ? ring->call_token
				      : ring->err_token;
}

static struct inband_end *find(const struct inband *inband, uint64_t token)
{
	for (size_t i = 0; i < inband->n; i++)
		if (inband->ends[i]->token == token)
			return inband->ends[i];
	return NULL;
}

static void drop(struct inband *inband, size_t i)
{
	struct inband_end *end = inband->ends[i];

	sd_event_source_disable_unref(end->source);
	fd_close(end->fd);
	free(end);
	inband->ends[i] = inband->ends[--inband->n];
}

static void drop_outdated(struct exchange *x)
{
	struct inband *inband = &x->inband;

	for (size_t i = inband->n; i-- > 0;) {
		const struct inband_end *end = inband->ends[i];
		const Bh__Ring *ring = desired_find_ring(x->view->desired, end->index);

		if (!ring || token_of(ring, end->kind) != end->token)
			drop(inband, i);
	}
}

static void add(struct exchange *x, uint32_t index, enum inband_kind kind, uint64_t token)
{
	struct inband *inband = &x->inband;
	struct inband_end *end = calloc(1, sizeof(*end));

	inband->ends = reallocarray(inband->ends, inband->n + 1, sizeof(struct inband_end *));
	check(end && inband->ends);
	*end = (struct inband_end){
		.exchange = x, .index = index, .kind = kind, .token = token, .fd = -1
	};
	inband->ends[inband->n++] = end;
}

static void add_missing(struct exchange *x)
{
	static const enum inband_kind kinds[] = { INBAND_KICK, INBAND_CALL, INBAND_ERR };
	const Bh__Desired *desired = x->view->desired;

	for (size_t i = 0; i < desired->n_rings; i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
			uint64_t token = token_of(desired->rings[i], kinds[k]);

			if (token && !find(&x->inband, token))
				add(x, desired->rings[i]->index, kinds[k], token);
		}
}

/* --- What comes from the worker --- */

static void go_on(struct exchange *x)
{
	if (x->channel.on_news)
		x->channel.on_news(x->channel.data);
}

static int on_end(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct inband_end *end = data;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		end->due = true;
	go_on(end->exchange);
	return 0;
}

static void take(struct inband_end *end, int fd)
{
	sd_event *event = end->exchange->channel.event;

	end->fd = fd;
	end->due = end->kind == INBAND_CALL;
	if (end->kind == INBAND_KICK)
		inband_kick(end->exchange, end->index);
	else
		(void)sd_event_add_io(event, &end->source, fd, EPOLLIN | EPOLLET, on_end, end);
}

/* --- Fetching --- */

static int on_rested(sd_event_source *source, uint64_t usec, void *data)
{
	struct exchange *x = data;

	x->inband.rests = false;
	go_on(x);
	return 0;
}

/* Memory is away, or being started. */
static void rest(struct exchange *x)
{
	struct inband *inband = &x->inband;

	if (!inband->again &&
		sd_event_add_time_relative(x->channel.event, &inband->again, CLOCK_MONOTONIC, 0, 1,
			on_rested, x) < 0)
		return;
	inband->rests = true;
	timer_after(inband->again, REST_USEC);
}

/* One at a time, as those of shared memory: answers do not say whose they are. */
static void fetch_next(struct exchange *x)
{
	struct inband *inband = &x->inband;

	if (inband->fetching || inband->rests || x->shmem.fetching)
		return;
	for (size_t i = 0; i < inband->n; i++) {
		if (inband->ends[i]->fd >= 0)
			continue;
		if (x->ops->fetch(x->session, inband->ends[i]->token) == 0)
			inband->fetching = inband->ends[i]->token;
		else
			rest(x);
		return;
	}
}

bool inband_fetched(struct exchange *exchange, int fd)
{
	struct inband *inband = &exchange->inband;
	struct inband_end *end = find(inband, inband->fetching);

	if (!inband->fetching)
		return false;
	inband->fetching = 0;
	if (fd < 0)
		rest(exchange);
	else if (end)
		take(end, fd);
	else
		fd_close(fd);
	return true;
}

/* --- What is said --- */

void inband_kick(struct exchange *exchange, uint32_t index)
{
	const struct inband *inband = &exchange->inband;

	for (size_t i = 0; i < inband->n; i++)
		if (inband->ends[i]->index == index && inband->ends[i]->kind == INBAND_KICK &&
			inband->ends[i]->fd >= 0 &&
			write(inband->ends[i]->fd, &one, sizeof(one)) < 0)
			continue; /* it is full: a kick is pending */
}

static void say(struct exchange *x, struct inband_end *end)
{
	const Bh__Ring *ring = desired_find_ring(x->view->desired, end->index);
	uint32_t request = end->kind == INBAND_CALL ? BACKEND_VRING_CALL : BACKEND_VRING_ERR;

	if (!end->due || !ring->started)
		return;
	end->due = channel_notify(&x->channel, request, end->index) == -EAGAIN;
}

void inband_run(struct exchange *exchange)
{
	struct inband *inband = &exchange->inband;

	if (exchange->conn_fd < 0 || !exchange->view->desired->connected)
		return;
	drop_outdated(exchange);
	add_missing(exchange);
	fetch_next(exchange);
	for (size_t i = 0; i < inband->n; i++)
		say(exchange, inband->ends[i]);
}

void inband_forget(struct exchange *exchange)
{
	struct inband *inband = &exchange->inband;

	while (inband->n)
		drop(inband, inband->n - 1);
	free(inband->ends);
	sd_event_source_disable_unref(inband->again);
	*inband = (struct inband){ .ends = NULL };
}
