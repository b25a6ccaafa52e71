#pragma once

#include <stdint.h>
#include <sys/uio.h>

/*
 * Memory that outlives the process: a queue for each stream, and what is under way. For the files
 * of the streams alone.
 */

#define JOURNAL_SLOTS 512
#define JOURNAL_QUEUE_BYTES (1u << 20) /* a queue's ring, with the records' heads */
#define JOURNAL_FDS_MAX 28

/** struct journal_append - that a record was appended */
struct journal_append {
	uint64_t cookie; /* 0: none */
	uint64_t at;     /* the record's end; it is appended when the queue's head has reached it */
};

/** struct journal_queue - the ring of a stream. Positions only grow; they are taken modulo the
 * ring's size */
struct journal_queue {
	uint64_t head;   /* the end of what was appended */
	uint64_t tail;   /* the first record that is not sent whole */
	uint64_t pop_to; /* 0, or: tail is to be moved there */
	uint32_t sent;   /* bytes of data of the record at tail */
	uint32_t high;   /* how much of the ring has been written to, from its beginning */
	struct journal_append appends[2]; /* the last two, in any order */
	/* In the other direction: what stream_peek() returned; 0 bytes: nothing that is not
	 * consumed. */
	uint32_t peeked_bytes;
	uint16_t peeked_fds;
	/* The first descriptors in the socket were returned with a message before the one to which
	 * they are attached. */
	uint16_t fds_given;
};

/** enum journal_push - what the pipe holds by which data reach another pipe */
enum journal_push {
	JOURNAL_PUSH_IDLE = 0, /* nothing */
	JOURNAL_PUSH_FILL,     /* data, none of which has gone on */
	JOURNAL_PUSH_SPLICE,   /* what has not gone on, of push_bytes */
	JOURNAL_PUSH_DRAIN,    /* what the queue's `sent` does not count, and is to be removed */
};

struct journal_page;

/** struct journal - one that is mapped */
struct journal {
	int fd;
	struct journal_page *page;
	struct journal_queue *queues; /* JOURNAL_SLOTS */
	uint8_t *rings;               /* JOURNAL_SLOTS of JOURNAL_QUEUE_BYTES */
	struct journal_pipes *pipes;
};

/** struct journal_pipes - the pipes' score; written by stream-pipe.c */
struct journal_pipes {
	uint32_t pull_slot; /* whose data the pipe holds that leads to the guest */
	uint32_t push;      /* enum journal_push */
	uint32_t push_slot;
	uint32_t push_from; /* the queue's `sent` before */
	uint32_t push_bytes;
};

/** struct journal_packet - for one sendmsg(); all of it is borrowed */
struct journal_packet {
	uint32_t slot;
	int socket_fd;
	struct iovec *iov;
	unsigned int n_iov;
	const int *fds; /* go with the first byte */
	unsigned int n_fds;
};

/** journal_create() - make an empty one; the caller owns the descriptor: >= 0 | negative errno */
int journal_create(void);

/** journal_map() - map one of this or a former instance, and note what that one had sent; consumes
 * the descriptor always. 0 | -EINVAL: it is not a journal | other negative errno */
int journal_map(struct journal *journal, int fd);

/** journal_unmap() - the counterpart; harmless when it is not mapped */
void journal_unmap(struct journal *journal);

/** journal_send() - send, and count it: the queue's `sent` has grown by what was taken, at
 * whichever instruction the process dies (after journal_map() by a successor). Never blocks.
 *
 * Returns: the bytes taken | negative errno: none. */
int journal_send(struct journal *journal, const struct journal_packet *packet);

/** journal_consume() - remove up to max_bytes from the socket, with the descriptors that are
 * attached to them, and count that: `fds_given` is 0 when there were any. Never blocks.
 *
 * Returns: the bytes | 0 or negative errno: none. */
int journal_consume(struct journal *journal, uint32_t slot, int socket_fd, uint32_t max_bytes);

/** journal_punch() - give memory of a queue's ring back, from that byte to its end */
void journal_punch(struct journal *journal, uint32_t slot, uint32_t from);
