/*
 * The keeper's own process. It has a store and a notification socket for each process of the guest;
 * the socket tells who speaks. Descriptors arrive only here. The launcher is told what it must act
 * upon: a process is ready, is silent, or has dropped a connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "base/timer.h"
#include "keeper.h"
#include "launcher.h"
#include "launcher.pb-c.h"
#include "notify.h"
#include "store.h"

#define TURN_MAX 16    /* notifications of one process in one iteration of the loop */
#define QUEUE_MAX 4096 /* more than a socket holds (net.unix.max_dgram_qlen) */
#define SEND_SEC 5     /* for the process that is being started to take a part of its store */

/** struct kept - what is held for one process */
struct kept {
	TAILQ_ENTRY(kept) link;
	struct keep *keep;
	char *child; /* role and instance */
	struct store store;
	int notify_fd;             /* -1 = the launcher passes on what it says */
	sd_event_source *source;   /* of notify_fd */
	sd_event_source *watchdog; /* fires when its next sign of life is overdue */
	uint64_t watchdog_usec;    /* 0 = none is expected */
};

struct keep {
	sd_event *event;
	int fd;
	TAILQ_HEAD(kept_list, kept) all;
};

/* --- What the launcher is told --- */

static void tell(struct kept *kept, Bh__FromKeeper *msg)
{
	msg->child = kept->child;
	/* the launcher is gone, and the processes with it */
	if (fdlink_send_any(kept->keep->fd, &msg->base, NULL, 0, 0) < 0)
		sd_event_exit(kept->keep->event, EXIT_FAILURE);
}

static int on_silence(sd_event_source *source, uint64_t usec, void *data)
{
	Bh__FromKeeper msg = BH__FROM_KEEPER__INIT;

	msg.silent = true;
	tell(data, &msg);
	return 0;
}

/* Expect the next sign of life within that time; 0 = do not. */
static void expect(struct kept *kept, uint64_t usec)
{
	if (usec == 0) {
		kept->watchdog = sd_event_source_disable_unref(kept->watchdog);
		return;
	}
	if (!kept->watchdog)
		check(sd_event_add_time_relative(kept->keep->event, &kept->watchdog,
			      CLOCK_MONOTONIC, usec, 0, on_silence, kept) >= 0);
	timer_after(kept->watchdog, usec);
}

/* --- What a process says --- */

static void drop(struct kept *kept, const char *name)
{
	Bh__FromKeeper msg = BH__FROM_KEEPER__INIT;

	store_remove(&kept->store, name);
	if (strcmp(name, LAUNCH_CONNECTION) != 0)
		return; /* the launcher need not know */
	msg.dropped = (char *)name;
	msg.listener_left = store_has(&kept->store, LAUNCH_LISTENER);
	tell(kept, &msg);
}

static void obey(struct kept *kept, struct notification *n)
{
	char name[NOTIFY_NAME_MAX + 1], status[NOTIFY_STATUS_MAX + 1];
	bool named = notify_name(n->text, name, sizeof(name));
	Bh__FromKeeper msg = BH__FROM_KEEPER__INIT;

	if (notify_says(n->text, "FDSTOREREMOVE", "1") && named)
		drop(kept, name);
	if (notify_says(n->text, "FDSTORE", "1")) {
		for (size_t i = 0; i < n->n_fds; i++)
			(void)store_add(&kept->store, named ? name : "stored", n->fds[i]);
		n->n_fds = 0;
	}
	if (notify_status(n->text, status, sizeof(status)))
		msg.status = text_clean(status);
	msg.ready = notify_says(n->text, "READY", "1");
	if (msg.ready || *msg.status)
		tell(kept, &msg);
	if (msg.ready || notify_says(n->text, "WATCHDOG", "1"))
		expect(kept, kept->watchdog_usec);
}

/* The limit keeps a process that never stops from starving the others. */
static void hear(struct kept *kept, unsigned int n_max)
{
	struct notification n;

	while (kept->notify_fd >= 0 && n_max-- && notify_receive(kept->notify_fd, &n) == 0) {
		obey(kept, &n);
		notify_release(&n);
	}
}

static int on_notify(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	hear(data, TURN_MAX);
	return 0;
}

/* --- Orders --- */

static struct kept *find(struct keep *keep, const char *child)
{
	struct kept *kept;

	TAILQ_FOREACH(kept, &keep->all, link)
		if (strcmp(kept->child, child) == 0)
			return kept;
	kept = calloc(1, sizeof(*kept));
	check(kept);
	*kept = (struct kept){ .keep = keep, .child = strdup(child), .notify_fd = -1 };
	check(kept->child);
	kept->store.owner = kept->child;
	TAILQ_INSERT_TAIL(&keep->all, kept, link);
	return kept;
}

static void on_open(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	kept->source = sd_event_source_disable_unref(kept->source);
	fd_close(kept->notify_fd);
	kept->notify_fd = fdset_steal(fds, 0);
	check(sd_event_add_io(kept->keep->event, &kept->source, kept->notify_fd, EPOLLIN, on_notify,
		      kept) >= 0);
}

static int send_part(int fd, const struct store *store, size_t from, size_t *ret_n)
{
	Bh__KeeperStore msg = BH__KEEPER_STORE__INIT;
	size_t n = MIN(store->n_items - from, (size_t)FDLINK_FDS_MAX);
	char *names[FDLINK_FDS_MAX];
	int fds[FDLINK_FDS_MAX];

	for (size_t i = 0; i < n; i++) {
		names[i] = store->items[from + i]->name;
		fds[i] = store->items[from + i]->fd;
	}
	msg.n_names = n;
	msg.names = names;
	msg.last = from + n == store->n_items;
	*ret_n = n;
	return fdlink_send_any(fd, &msg.base, fds, n, 0);
}

/* A process that does not get all of it ends by itself, and is started again. */
static void send_store(int fd, const struct kept *kept)
{
	const struct timeval limit = { .tv_sec = SEND_SEC };
	size_t at = 0, n;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	do {
		int r = send_part(fd, &kept->store, at, &n);

		/* of one that was killed meanwhile the launcher tells */
		if (r < 0 && r != -EPIPE && r != -ECONNRESET)
			log_warning("%s: cannot pass on its stored descriptors: %s", kept->child,
				strerror(-r));
		if (r < 0)
			return;
		at += n;
	} while (at < kept->store.n_items);
}

/* What the former process stored and dropped may still be in the socket, and is handled first. */
static void on_start(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	hear(kept, QUEUE_MAX);
	kept->watchdog_usec = msg->start->watchdog_usec;
	expect(kept, msg->start->start_usec);
	send_store(fds->fds[0], kept);
}

static void on_end(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	hear(kept, QUEUE_MAX);
	expect(kept, 0);
}

static void on_heard(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	struct notification n = { 0 };

	snprintf(n.text, sizeof(n.text), "%s", msg->heard->text);
	while (n.n_fds < fds->n_fds) {
		n.fds[n.n_fds] = fdset_steal(fds, n.n_fds);
		n.n_fds++;
	}
	obey(kept, &n);
	notify_release(&n);
}

static void on_add(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	(void)store_add(&kept->store, msg->add->name, fdset_steal(fds, 0));
}

static void on_forget(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds)
{
	TAILQ_REMOVE(&kept->keep->all, kept, link);
	store_deinit(&kept->store);
	sd_event_source_disable_unref(kept->source);
	sd_event_source_disable_unref(kept->watchdog);
	fd_close(kept->notify_fd);
	free(kept->child);
	free(kept);
}

static const struct order_row {
	Bh__ToKeeper__BodyCase order;
	size_t min_fds, max_fds;
	void (*obey)(struct kept *kept, const Bh__ToKeeper *msg, struct fdset *fds);
} table[] = {
	{ BH__TO_KEEPER__BODY_OPEN, 1, 1, on_open },
	{ BH__TO_KEEPER__BODY_START, 1, 1, on_start },
	{ BH__TO_KEEPER__BODY_END, 0, 0, on_end },
	{ BH__TO_KEEPER__BODY_HEARD, 0, FDLINK_FDS_MAX, on_heard },
	{ BH__TO_KEEPER__BODY_ADD, 1, 1, on_add },
	{ BH__TO_KEEPER__BODY_FORGET, 0, 0, on_forget },
};

static void dispatch(struct keep *keep, const Bh__ToKeeper *msg, struct fdset *fds)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].order == msg->body_case && fds->n_fds >= table[i].min_fds &&
			fds->n_fds <= table[i].max_fds)
			table[i].obey(find(keep, msg->child), msg, fds);
}

static int on_order(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct keep *keep = data;
	_cleanup_fdset_ struct fdset fds = FDSET_INIT;
	ProtobufCMessage *msg;
	int r = fdlink_recv_any(fd, &bh__to_keeper__descriptor, &msg, &fds);

	if (r == -EAGAIN)
		return 0;
	if (r < 0)
		return sd_event_exit(keep->event, EXIT_SUCCESS);
	dispatch(keep, (Bh__ToKeeper *)(void *)msg, &fds);
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

int keep(int fd, const char *name)
{
	struct keep keep = { .fd = fd };

	TAILQ_INIT(&keep.all);
	if (sd_event_new(&keep.event) < 0 ||
		sd_event_add_io(keep.event, NULL, fd, EPOLLIN, on_order, &keep) < 0)
		return EXIT_FAILURE;
	return sd_event_loop(keep.event);
}
