#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "journal.h"

/*
 * The back-end channel: requests of ours to the VMM. What was told, and what was answered, is in
 * the journal, so that whoever comes after this process knows. Nothing here waits, and a VMM that
 * does not read, or says what is no answer, harms nobody but itself.
 */

/** struct channel - of one device; the VMM has handed it over, or has not yet */
struct channel {
	int fd;                  /* -1 = there is none */
	struct journal *journal; /* NULL = there was no channel yet */
	uint64_t begun_with;     /* what a journal begins with that is still to come */
	uint64_t config_seq;     /* what the VMM is to be told of ... */
	bool need_reply;
	bool telling;            /* ... if it is to be told of anything */
	bool hung_up;            /* the VMM neither reads nor answers */
	sd_event *event;         /* borrowed */
	sd_event_source *source; /* NULL = what the VMM says on it is not listened to */
	const char *device;      /* borrowed */
	/* the VMM has answered, or reads again; NULL = nobody wants to know */
	void (*on_news)(void *data);
	void *data;
};

#define CHANNEL_NULL                                                                               \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/** channel_resume() - what a former process of this device had of it
 * @event, device: borrowed until channel_free() */
void channel_resume(struct channel *channel, sd_event *event, const char *device);

/** channel_begin() - a VMM has come, and will read what the device is by itself: it need not be
 * told of this change */
void channel_begin(struct channel *channel, uint64_t config_seq);

/** channel_take() - SET_BACKEND_REQ_FD; fd is consumed always. It replaces the former one: what
 * has not been answered on that never will be. */
void channel_take(struct channel *channel, int fd);

/** channel_tell_config() - tell the VMM of a change of the configuration space, if it was not
 * told of that already
 * @config_seq: the change, as observed counts it
 * @need_reply: the VMM has acked REPLY_ACK, and answers What cannot go out now does as soon as
 * the VMM reads. */
void channel_tell_config(struct channel *channel, uint64_t config_seq, bool need_reply);

/** channel_notify() - send VRING_CALL or VRING_ERR, which want no answer
 * Errors: 0 | -EAGAIN: the VMM does not read, or has handed over no channel yet, call again on news
 *         | other negative errno: nobody will hear it. */
int channel_notify(const struct channel *channel, uint32_t request, uint32_t index);

/** channel_hold() - the device is suspended: nothing is sent, not even what found no room before */
void channel_hold(struct channel *channel);

/** channel_answers() - whether a request that wants an answer may be sent: there is a channel, and
 * the VMM has neither hung up nor said what is no answer */
static inline bool channel_answers(const struct channel *channel)
{
	return channel->fd >= 0 && channel->source && !channel->hung_up;
}

/**
 * channel_ask() - send SHMEM_MAP or SHMEM_UNMAP, of which none is under way, of a channel that
 * answers
 * @map:     of the journal; dropped if an SHMEM_MAP is not sent
 * @mapping: what the request says of it
 * @fd:      goes out with it (borrowed); -1 = none does
 *
 * Errors: 0 | -EAGAIN: the VMM does not read, call again on news | other negative errno: the
 *         channel answers no more.
 */
int channel_ask(struct channel *channel, uint32_t request, const struct journal_map *map,
	const struct shmem_mapping *mapping, int fd);

/** struct channel_counts - what became of the configuration changes that this VMM was told of, and
 * asked to answer */
struct channel_counts {
	uint64_t asked;    /* sent */
	uint64_t answered; /* refused ones as well */
	uint64_t refused;
};

/** channel_counts() - all zeros where there was no channel yet */
struct channel_counts channel_counts(const struct channel *channel);

/** channel_close() - the VMM is gone: so is all that was its own */
void channel_close(struct channel *channel);

/** channel_free() - what this process has of it; the fd store keeps it. Fine with CHANNEL_NULL */
void channel_free(struct channel *channel);
