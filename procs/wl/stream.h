#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "journal.h"
#include "sendq.h"

/*
 * The host's end of a VFD: a socket or a pipe, from which each byte and descriptor is taken once,
 * and to which each is given once, although the process may be killed at any instruction. All
 * functions belong to the loop thread, and none blocks.
 */

#define STREAM_SLOTS JOURNAL_SLOTS
#define STREAM_MESSAGE_BYTES 3968u /* as much as fits a RECV with STREAM_MESSAGE_FDS */
#define STREAM_MESSAGE_FDS JOURNAL_FDS_MAX
#define STREAM_RECORD_MAX SENDQ_DATA_MAX /* bytes of data in one SEND */

enum {
	_STREAM_E_OK = 0,
	STREAM_E_AGAIN = 1,   /* nothing to read, or no room: poll for it */
	STREAM_E_LATER = 2,   /* the kernel is short of something for which poll() cannot wait */
	STREAM_E_HANGUP = 3,  /* the other end is gone, or broke a rule: the stream is over */
	STREAM_E_FULL = 4,    /* the queue has no room until some of it is sent */
	STREAM_E_TOO_BIG = 5, /* it would never have */
};

enum stream_kind { STREAM_SOCKET, STREAM_PIPE };

/** struct stream - an end of it, as the VFD that owns it says */
struct stream {
	int fd; /* borrowed */
	enum stream_kind kind;
	uint32_t slot; /* below STREAM_SLOTS: another one for each live VFD */
};

#define STREAMS_N_KEPT 5
/** streams_names - under which the descriptors are to be kept, in this order */
extern const char *const streams_names[STREAMS_N_KEPT];

/** struct streams - what all streams of the device share */
struct streams {
	struct journal journal;
	int pull[2];  /* a pipe's data on the way to the guest; reading end first, as pipe() */
	int push[2];  /* a pipe's data on the way from the guest */
	int glass[2]; /* a copy of what is in pull; empty between calls */
};

/** streams_create() - make the descriptors of streams_names[]; the caller keeps them, the first one
 * last, and owns them. 0 | negative errno */
int streams_create(int ret_fds[STREAMS_N_KEPT]);

/** streams_open() - go on with these (consumed always): what a former instance was about is
 * settled. 0 | -EINVAL: they are not from streams_create() | other negative errno */
int streams_open(struct streams *streams, const int fds[STREAMS_N_KEPT]);

/** streams_close() - the counterpart; what was kept stays */
void streams_close(struct streams *streams);

/* --- From the host to the guest: peek, publish, consume --- */

/** struct stream_message - what comes next */
struct stream_message {
	uint32_t n_bytes;
	uint32_t n_fds;
	int fds[STREAM_MESSAGE_FDS]; /* the caller's */
	uint8_t data[STREAM_MESSAGE_BYTES];
};

/** stream_begin() - a new stream is prepared for stream_peek(). Its queue may have records already.
 * Errors: 0 | negative errno: this descriptor is no stream. */
int stream_begin(const struct stream *stream);

/**
 * stream_peek() - look at what comes next, and leave it there
 * @max_bytes: [in]  1 .. STREAM_MESSAGE_BYTES
 * @ret:       [out] set on 0 only; n_bytes > 0
 *
 * When it is called again before stream_consume(), also by a successor, it returns the same bytes
 * and other descriptors for the same files, provided that max_bytes is the n_bytes of the first
 * time. A descriptor comes with the byte to which it is attached, or before. A successor must have
 * stream_consume() done with a message that was published.
 *
 * Errors: 0 | STREAM_E_AGAIN | STREAM_E_HANGUP: end of file, reset, or more descriptors than
 *         STREAM_MESSAGE_FDS in one message.
 */
int stream_peek(struct streams *streams, const struct stream *stream, uint32_t max_bytes,
	struct stream_message *ret);

/** stream_consume() - remove what stream_peek() returned. Does nothing if this was done before, so
 * that a successor calls it for a message of which it knows only that it was published. */
void stream_consume(struct streams *streams, const struct stream *stream);

/* --- From the guest to the host: reserve, append, flush --- */

/**
 * stream_reserve() - room in the queue for one record
 * @n_fds:    [in]  0 .. STREAM_MESSAGE_FDS; 0 for a pipe
 * @ret_room: [out] two spans of n_bytes together, which the caller fills in; set on 0 only
 *
 * Errors: 0 | STREAM_E_FULL | STREAM_E_TOO_BIG.
 */
int stream_reserve(struct streams *streams, uint32_t slot, uint32_t n_fds, uint32_t n_bytes,
	struct iovec ret_room[2]);

/** struct stream_record - the arguments of the last stream_reserve(), with what goes with it */
struct stream_record {
	uint32_t n_bytes;
	uint32_t n_fds;
	const uint32_t *handles; /* n_fds names of descriptors, for fd_of() */
	uint64_t cookie;         /* for a successor; never 0, and grows from record to record */
};

/** stream_append() - the record is in the queue from now on; it follows stream_reserve() */
void stream_append(struct streams *streams, uint32_t slot, const struct stream_record *record);

/** stream_was_appended() - whether a record with this cookie was appended, even if it has been
 * sent; since the slot's last stream_end() */
bool stream_was_appended(const struct streams *streams, uint32_t slot, uint64_t cookie);

/** struct stream_source - where the descriptors are that a record names */
struct stream_source {
	/* the descriptor of a handle: stays the callee's; -1: there is none, and the stream ends */
	int (*fd_of)(void *data, uint32_t handle);
	/* they went out, with their record's first byte; called once, but after a restart perhaps
	 * not at all */
	void (*sent)(void *data, const uint32_t *handles, uint32_t n);
	void *data;
};

/** stream_flush() - send what the queue holds, as far as it goes
 * Errors: 0: the queue is empty | STREAM_E_AGAIN: poll for POLLOUT | STREAM_E_LATER: try again
 *         after a while | STREAM_E_HANGUP. */
int stream_flush(struct streams *streams, const struct stream *stream,
	const struct stream_source *source);

/** stream_queued_bytes() - of data that wait in the queue, with what is needed to hold them */
uint32_t stream_queued_bytes(const struct streams *streams, uint32_t slot);

/** stream_for_handles() - call each() for every descriptor that still waits in the queue, for the
 * successor that has to know what is in use */
void stream_for_handles(const struct streams *streams, uint32_t slot,
	void (*each)(void *data, uint32_t handle), void *data);

/** stream_end() - the VFD is closed: its queue, and data of its on the way, are dropped. The
 * descriptor is the caller's to close. */
void stream_end(struct streams *streams, uint32_t slot);
