/*
 * Before the first context, a compositor is asked for wp_security_context_v1. The connection on
 * which it was asked stays open, so that its end tells that the compositor is gone; the next one at
 * that path is asked again.
 */
#include "compositor.h"

#include <errno.h>
#include <stdbool.h>
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
#include "security-context.h"

#define RETRY_MSEC 50
#define RESPITE_MSEC 1000 /* for one that did not answer, until it is asked again */

enum state {
	UNKNOWN, /* not asked yet, or gone since then */
	ASKED,
	TAGGED, /* contexts are sandboxed clients */
	PLAIN,  /* it does not know about sandboxes */
	MUTE,   /* it did not answer */
};

/** struct compositor - one of the operator's sockets */
struct compositor {
	SLIST_ENTRY(compositor) link;
	struct compositors *owner;
	char name[COMPOSITOR_NAME_MAX + 1];
	struct sockaddr_un addr;
	enum state state;
	uint64_t since_msec; /* of ASKED, MUTE; or of `busy` */
	bool busy;           /* its backlog is full */
	struct security_context *context;
	sd_event_source *source;
};

struct compositors {
	struct compositors_setting setting;
	SLIST_HEAD(compositor_list, compositor) list;
	sd_event_source *timer;
};

/* --- The compositors --- */

/* Whoever waits asks again, and is told then what has become of it. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct compositors *compositors = data;

	compositors->setting.on_ready(compositors->setting.data);
	return 0;
}

struct compositors *compositors_new(const struct compositors_setting *setting)
{
	struct compositors *compositors = calloc(1, sizeof(*compositors));

	if (!compositors)
		return NULL;
	compositors->setting = *setting;
	SLIST_INIT(&compositors->list);
	if (sd_event_add_time(setting->event, &compositors->timer, CLOCK_MONOTONIC, 0, 1000,
		    on_timer, compositors) < 0) {
		free(compositors);
		return NULL;
	}
	timer_stop(compositors->timer);
	return compositors;
}

static void set_state(struct compositor *compositor, enum state state)
{
	compositor->state = state;
	compositor->since_msec = clock_ms();
	compositor->busy = false;
	if (state != UNKNOWN && state != MUTE)
		return;
	compositor->source = sd_event_source_disable_unref(compositor->source);
	compositor->context = security_context_free(compositor->context);
}

static void free_compositor(struct compositor *compositor)
{
	set_state(compositor, UNKNOWN);
	free(compositor);
}

struct compositors *compositors_free(struct compositors *compositors)
{
	if (!compositors)
		return NULL;
	while (!SLIST_EMPTY(&compositors->list)) {
		struct compositor *compositor = SLIST_FIRST(&compositors->list);

		SLIST_REMOVE_HEAD(&compositors->list, link);
		free_compositor(compositor);
	}
	sd_event_source_disable_unref(compositors->timer);
	free(compositors);
	return NULL;
}

static struct compositor *find(struct compositors *compositors, const char *name, size_t n_name)
{
	struct compositor *compositor;

	SLIST_FOREACH(compositor, &compositors->list, link)
	if (strlen(compositor->name) == n_name && memcmp(compositor->name, name, n_name) == 0)
		return compositor;
	return NULL;
}

int compositors_add(struct compositors *compositors, const char *name, const char *path)
{
	struct compositor *compositor = find(compositors, name, strlen(name));

	if (strlen(name) >= sizeof(compositor->name))
		return -EINVAL;
	if (strlen(path) >= sizeof(compositor->addr.sun_path))
		return -ENAMETOOLONG;
	if (!compositor) {
		compositor = calloc(1, sizeof(*compositor));
		if (!compositor)
			return -ENOMEM;
		compositor->owner = compositors;
		SLIST_INSERT_HEAD(&compositors->list, compositor, link);
	}
	snprintf(compositor->name, sizeof(compositor->name), "%s", name);
	compositor->addr.sun_family = AF_UNIX;
	snprintf(compositor->addr.sun_path, sizeof(compositor->addr.sun_path), "%s", path);
	return 0;
}

/* --- Asking --- */

static int open_connection(const struct compositor *compositor)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&compositor->addr, sizeof(compositor->addr)) < 0)
		return -errno;
	return fd_steal(&fd);
}

static void log_answer(const struct compositor *compositor, int answer)
{
	const char *path = compositor->addr.sun_path;

	switch (answer) {
	case SECURITY_CONTEXT_E_AGREED:
		log_notice("%s: the guest's windows are those of a sandbox named %s", path,
			compositor->owner->setting.guest);
		break;
	case SECURITY_CONTEXT_E_NOT_OFFERED:
		log_notice("%s has no wp_security_context_v1: to it the guest's windows are like "
			   "any others",
			path);
		break;
	default:
		log_limited(LOG_WARNING, NULL, 0, "%s hung up, or refused a sandbox", path);
	}
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct compositor *compositor = data;
	const struct compositors_setting *setting = &compositor->owner->setting;
	bool asked = compositor->state == ASKED;
	int answer = security_context_read(compositor->context);

	if (answer == 0)
		return 0;
	if (asked)
		log_answer(compositor, answer);
	if (answer == SECURITY_CONTEXT_E_FAILED)
		set_state(compositor, asked ? MUTE : UNKNOWN);
	else if (asked)
		set_state(compositor, answer == SECURITY_CONTEXT_E_AGREED ? TAGGED : PLAIN);
	if (asked)
		setting->on_ready(setting->data);
	return 0;
}

static int ask(struct compositor *compositor, int fd)
{
	struct compositors *owner = compositor->owner;
	const struct security_context_setting setting = { .folder = owner->setting.folder,
		.guest = owner->setting.guest,
		.device = owner->setting.device };

	compositor->context = security_context_new(&setting, fd);
	if (!compositor->context ||
		sd_event_add_io(owner->setting.event, &compositor->source,
			security_context_fd(compositor->context), EPOLLIN, on_readable,
			compositor) < 0) {
		set_state(compositor, MUTE);
		return COMPOSITOR_E_GONE;
	}
	set_state(compositor, ASKED);
	return COMPOSITOR_E_WAIT;
}

/* --- Connecting --- */

static bool is_overdue(const struct compositor *compositor, uint64_t msec)
{
	return clock_ms() - compositor->since_msec >= msec;
}

/* It has not accepted those that were there before. */
static int judge_busy(struct compositor *compositor)
{
	if (!compositor->busy)
		compositor->since_msec = clock_ms();
	compositor->busy = true;
	if (!is_overdue(compositor, COMPOSITOR_WAIT_MSEC))
		return COMPOSITOR_E_WAIT;
	set_state(compositor, MUTE);
	return COMPOSITOR_E_GONE;
}

static int judge_connection(struct compositor *compositor, int fd, int *ret_fd)
{
	if (fd == -EAGAIN)
		return judge_busy(compositor);
	if (fd < 0) {
		log_limited(LOG_WARNING, NULL, 0, "%s: %s", compositor->addr.sun_path,
			strerror(-fd));
		set_state(compositor, UNKNOWN);
		return COMPOSITOR_E_GONE;
	}
	compositor->busy = false;
	*ret_fd = fd;
	return 0;
}

static int begin_asking(struct compositor *compositor)
{
	int fd = -1, r = judge_connection(compositor, open_connection(compositor), &fd);

	return r ? r : ask(compositor, fd);
}

static int judge_asked(struct compositor *compositor)
{
	if (!is_overdue(compositor, COMPOSITOR_WAIT_MSEC))
		return COMPOSITOR_E_WAIT;
	log_limited(LOG_WARNING, NULL, 0, "%s has not answered for %d s", compositor->addr.sun_path,
		COMPOSITOR_WAIT_MSEC / 1000);
	set_state(compositor, MUTE);
	return COMPOSITOR_E_GONE;
}

static int connect_to(struct compositor *compositor, int *ret_fd)
{
	if (compositor->state == MUTE && is_overdue(compositor, RESPITE_MSEC))
		set_state(compositor, UNKNOWN);
	switch (compositor->state) {
	case UNKNOWN:
		return begin_asking(compositor);
	case ASKED:
		return judge_asked(compositor);
	case TAGGED:
		return judge_connection(compositor, security_context_connect(compositor->context),
			ret_fd);
	case PLAIN:
		return judge_connection(compositor, open_connection(compositor), ret_fd);
	default:
		return COMPOSITOR_E_GONE;
	}
}

int compositors_connect(struct compositors *compositors, const char *name, size_t n_name,
	int *ret_fd)
{
	struct compositor *compositor = find(compositors, name, n_name);
	int r;

	if (!compositor)
		return COMPOSITOR_E_UNKNOWN;
	r = connect_to(compositor, ret_fd);
	if (r == COMPOSITOR_E_WAIT)
		timer_after(compositors->timer, RETRY_MSEC * 1000);
	return r;
}
