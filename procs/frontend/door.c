#include "door.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "listener.h"

static int on_listen(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct door *door = data;

	door->on_knock(door->data);
	return 0;
}

static int watch_listener(struct door *door, int enabled)
{
	int r = sd_event_add_io(door->event, &door->source, door->listen_fd, EPOLLIN, on_listen,
		door);

	return r < 0 ? r : sd_event_source_set_enabled(door->source, enabled);
}

static void watch_file(struct door *door);

/* In the place of the socket that nobody can reach any more; whoever waits in its queue is let
 * in no more. */
static int replace(struct door *door, int fd)
{
	int enabled = SD_EVENT_OFF;

	(void)sd_event_source_get_enabled(door->source, &enabled);
	door->source = sd_event_source_disable_unref(door->source);
	fd_close(door->listen_fd);
	door->listen_fd = fd;
	log_limited(LOG_NOTICE, door->config->name, 0,
		"the socket file %s was removed; creating it again", door->config->socket);
	watch_file(door);
	return watch_listener(door, enabled);
}

static int on_file_lost(void *data)
{
	struct door *door = data;
	int fd;

	if (door->passed) {
		log_limited(LOG_ERR, door->config->name, 0,
			"the socket file %s was removed, and no VMM can connect: "
			"whoever passed the socket must create it again",
			door->config->socket);
		return 0;
	}
	if (!listener_may_make(door->config) && door->start_anew && door->start_anew(door->data))
		return 0;
	fd = listener_renew(door->config);
	return fd < 0 ? fd : replace(door, fd);
}

static void watch_file(struct door *door)
{
	char stored[CONFIG_NAME_MAX + sizeof("changes.")];
	int r;

	snprintf(stored, sizeof(stored), "changes.%s", door->config->name);
	r = socket_file_watch(&door->file, door->event, stored, door->config->socket, on_file_lost,
		door);

	if (r < 0 && !door->passed)
		log_limited(LOG_WARNING, door->config->name, 0,
			"the socket file %s cannot be watched: %s", door->config->socket,
			strerror(-r));
}

int door_open(struct door *door, sd_event *event, const struct config_device *config,
	void (*on_knock)(void *data), bool (*start_anew)(void *data), void *data)
{
	*door = (struct door){ .event = event,
		.config = config,
		.on_knock = on_knock,
		.start_anew = start_anew,
		.data = data };
	door->listen_fd = listener_open(config, &door->passed);
	if (door->listen_fd < 0)
		return door->listen_fd;
	watch_file(door);
	return watch_listener(door, SD_EVENT_OFF);
}

void door_close(struct door *door)
{
	socket_file_forget(&door->file);
	door->source = sd_event_source_disable_unref(door->source);
	door->listen_fd = fd_close(door->listen_fd);
}

void door_let_in(struct door *door, bool yes)
{
	if (door->source)
		sd_event_source_set_enabled(door->source, yes ? SD_EVENT_ON : SD_EVENT_OFF);
}
