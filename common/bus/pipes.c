/*
 * The list of connections. nng reports the end of a connection from its reaper thread. In versions
 * before 1.8 that thread may block for good on an operation that another thread has just begun (nng
 * issues 1543 and 1813), and then no end is reported any more. So an end that is known from
 * elsewhere takes effect at once. A connection that nng has not taken down long after that is
 * overdue, and the process restarts.
 */
#include "bus/pipes.h"

#include <string.h>

#include "base/clock.h"

void pipes_init(struct bus_pipes *pipes)
{
	pthread_mutex_init(&pipes->lock, NULL);
}

void pipes_destroy(struct bus_pipes *pipes)
{
	pthread_mutex_destroy(&pipes->lock);
}

static struct bus_pipe *find(struct bus_pipes *pipes, uint32_t id)
{
	for (unsigned int i = 0; i < pipes->n; i++)
		if (pipes->all[i].id == id)
			return &pipes->all[i];
	return NULL;
}

bool pipes_add(struct bus_pipes *pipes, uint32_t id)
{
	bool room;

	pthread_mutex_lock(&pipes->lock);
	room = pipes->n < BUS_PIPES_MAX;
	if (room)
		pipes->all[pipes->n++] = (struct bus_pipe){ .id = id };
	pthread_mutex_unlock(&pipes->lock);
	return room;
}

bool pipes_remove(struct bus_pipes *pipes, uint32_t id)
{
	struct bus_pipe *pipe;
	bool news = false;

	pthread_mutex_lock(&pipes->lock);
	pipes->n_removed++;
	pipe = find(pipes, id);
	if (pipe) {
		news = pipe->left_usec == 0;
		*pipe = pipes->all[--pipes->n];
	}
	pthread_mutex_unlock(&pipes->lock);
	return news;
}

unsigned int pipes_n_removed(struct bus_pipes *pipes)
{
	unsigned int n;

	pthread_mutex_lock(&pipes->lock);
	n = pipes->n_removed;
	pthread_mutex_unlock(&pipes->lock);
	return n;
}

bool pipes_has(struct bus_pipes *pipes, uint32_t id)
{
	const struct bus_pipe *pipe;
	bool there;

	pthread_mutex_lock(&pipes->lock);
	pipe = find(pipes, id);
	there = pipe && pipe->left_usec == 0;
	pthread_mutex_unlock(&pipes->lock);
	return there;
}

unsigned int pipes_count(struct bus_pipes *pipes)
{
	unsigned int n = 0;

	pthread_mutex_lock(&pipes->lock);
	for (unsigned int i = 0; i < pipes->n; i++)
		n += pipes->all[i].left_usec == 0;
	pthread_mutex_unlock(&pipes->lock);
	return n;
}

unsigned int pipes_leave(struct bus_pipes *pipes, uint32_t ret_ids[BUS_PIPES_MAX])
{
	uint64_t now = clock_us();
	unsigned int n = 0;

	pthread_mutex_lock(&pipes->lock);
	for (unsigned int i = 0; i < pipes->n; i++) {
		if (pipes->all[i].left_usec)
			continue;
		pipes->all[i].left_usec = now;
		ret_ids[n++] = pipes->all[i].id;
	}
	pthread_mutex_unlock(&pipes->lock);
	return n;
}

bool pipes_are_overdue(struct bus_pipes *pipes, uint64_t usec)
{
	uint64_t now = clock_us();
	bool overdue = false;

	pthread_mutex_lock(&pipes->lock);
	for (unsigned int i = 0; i < pipes->n; i++)
		overdue |= pipes->all[i].left_usec && pipes->all[i].left_usec + usec <= now;
	pthread_mutex_unlock(&pipes->lock);
	return overdue;
}
