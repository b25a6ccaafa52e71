#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

/* nng's callbacks run in its own threads. They post notes to the inbox of the event loop, which
 * handles them in its thread, so that the users of the bus need no locks. */

struct bus_note;
typedef void (*bus_note_fn)(struct bus_note *note);

/** struct bus_note - a call of fn in the loop's thread; embedded in the object it is about */
struct bus_note {
	TAILQ_ENTRY(bus_note) link;
	bus_note_fn fn;
	bool queued;
};

struct bus_loop {
	sd_event *event;
	sd_event_source *source;
	int wake_fd;
	pthread_mutex_t lock;
	TAILQ_HEAD(bus_notes, bus_note) notes;
	unsigned int users;
};

/** bus_loop_get() - take a reference to the inbox, of which a process has one
 * Errors: 0 | negative errno. */
int bus_loop_get(sd_event *event, struct bus_loop **ret_loop);
/** bus_loop_put() - release a reference; the last one waits for nng's threads to end. NULL is
 * fine */
void bus_loop_put(struct bus_loop *loop);
/** bus_loop_post() - queue a note; no effect if it is queued already. Any thread */
void bus_loop_post(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_forget() - take a note out of the queue. The loop's thread */
void bus_loop_forget(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_holds() - whether a note is in the queue. The loop's thread */
bool bus_loop_holds(struct bus_loop *loop, const struct bus_note *note);
