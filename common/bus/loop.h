#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

/* nng calls back in threads of its own; everything it has to say is put into the inbox of the loop and handled there, so
 * that nothing behind the bus needs a lock. */

struct bus_note;
typedef void (*bus_note_fn)(struct bus_note *note);

/** struct bus_note - something to be done in the loop's thread; embedded in its object */
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

/** bus_loop_get() - the process's one inbox; counted */
int bus_loop_get(sd_event *event, struct bus_loop **ret_loop);
/** bus_loop_put() - one user less; the last one waits for nng's threads to end. NULL is fine */
void bus_loop_put(struct bus_loop *loop);
/** bus_loop_post() - any thread; a note that is queued already stays queued once */
void bus_loop_post(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_forget() - loop's thread; the note will not be delivered */
void bus_loop_forget(struct bus_loop *loop, struct bus_note *note);
/** bus_loop_holds() - loop's thread; whether the note is still to be delivered */
bool bus_loop_holds(struct bus_loop *loop, const struct bus_note *note);
