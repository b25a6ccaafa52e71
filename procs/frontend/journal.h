#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"
#include "record/record.h"

/*
 * What was said on the back-end channel of one device: memory in a file of the fd store, shared by
 * this process and the one that comes after it. All numbers count from the VMM's coming on.
 *
 * Configuration changes are told without waiting for one another. Of the requests to map and unmap
 * one is under way at a time, so that its answer, which names no more than the kind of the request,
 * is known to be its own. Each step is noted by one store, and noting it twice is harmless.
 *
 * Whoever dies while it sends leaves a request in doubt: its answer may come or not. It is not
 * waited for. What was to be mapped is unmapped, whether it is there or not, and mapped anew: the
 * VMM answers in the order of the requests, so the answer to an SHMEM_UNMAP that was sent
 * afterwards is behind a doubtful answer to the SHMEM_MAP. Where answers to SHMEM_UNMAP may be on
 * their way by then, one more of them than those is waited for.
 */

/** enum map_state - what the VMM has of a map */
enum map_state {
	MAP_FREE,     /* nothing: the entry is not in use */
	MAP_ASKED,    /* its SHMEM_MAP is under way */
	MAP_MADE,     /* it is mapped */
	MAP_REFUSED,  /* nothing, and it will not be asked again */
	MAP_DOUBTFUL, /* perhaps: it is to be unmapped, and then to be mapped anew */
};

/** struct journal_map - a map that the VMM was asked for */
struct journal_map {
	uint64_t seq; /* as in the record */
	uint64_t offset_bytes;
	uint64_t size_bytes;
	uint32_t region;
	uint32_t state; /* enum map_state */
};

/* one that is being unmapped may be there beside all that are wanted */
#define JOURNAL_MAPS_MAX (RECORD_SHMEM_MAPS_MAX + 8)

/** struct journal - written by this header's functions alone */
struct journal {
	uint64_t told_config_seq; /* up to this change of the configuration the VMM has been told */
	uint64_t asked;           /* CONFIG_CHANGE_MSG that want an answer */

	/* the answer that is being taken out of the socket; its request, 0 = none is */
	uint32_t heard;
	uint32_t pad;
	uint64_t heard_value;
	struct journal_counts {
		uint64_t answered; /* of asked */
		uint64_t refused;  /* of those that were answered */
		uint32_t n_unmaps; /* answers to SHMEM_UNMAP that may still come, at the most ... */
		uint32_t n_before; /* ... and how many of them before the doubtful one */
		uint32_t doubtful; /* an answer to an SHMEM_MAP that nobody waits for may come */
		uint32_t pad;
	} counts, counts_after; /* with the answer that is being taken */

	/* SHMEM_MAP or SHMEM_UNMAP, one at a time */
	enum journal_step { JOURNAL_IDLE, JOURNAL_SENDING, JOURNAL_SENT } step;
	uint32_t request;
	uint32_t at;   /* of maps */
	uint32_t late; /* the device was suspended while it was under way */

	uint32_t n_maps;      /* entries from there on are free */
	uint64_t shmem_epoch; /* as in the record: maps belong to it */
	struct journal_map maps[JOURNAL_MAPS_MAX];
};

/** journal_resume() - what a former process of this device left; NULL = nothing */
struct journal *journal_resume(const char *device);
/** journal_recover() - whoever wrote it is dead: what it had not noted is in doubt; a part of
 * journal_resume() */
void journal_recover(struct journal *journal);
/** journal_begin() - an empty one, which the fd store keeps
 * @config_seq: up to this change the VMM need not be told anything */
struct journal *journal_begin(const char *device, uint64_t config_seq);
/** journal_end() - the VMM is gone: the fd store drops it as well. NULL is fine; returns NULL */
struct journal *journal_end(struct journal *journal, const char *device);
/** journal_close() - this process's view of it. NULL is fine; returns NULL */
struct journal *journal_close(struct journal *journal);

/** journal_renew() - the VMM has another channel: what it has not answered it never will */
void journal_renew(struct journal *journal);

/** journal_suspend() - the device is suspended: if it is reset now, the VMM may make the mapping
 * that is under way after it has dropped all */
void journal_suspend(struct journal *journal);

/** journal_begin_epoch() - the VMM has dropped all mappings by itself, but for one that was under
 * way by then, or is in doubt: it may be there, and is unmapped */
void journal_begin_epoch(struct journal *journal, uint64_t epoch);

/* --- A request to map or unmap, step by step --- */

/** journal_add() - an entry for a map that is to be asked for; NULL = there is no room */
struct journal_map *journal_add(struct journal *journal, const Bh__ShmemMap *map);
/** journal_note_made() - the VMM has this map, as somebody else knows */
void journal_note_made(struct journal *journal, const Bh__ShmemMap *map);
/** journal_drop() - forget a map that the VMM does not have */
void journal_drop(struct journal *journal, struct journal_map *map);

/** journal_sending() - the request is about to be sent; none is under way */
void journal_sending(struct journal *journal, uint32_t request, const struct journal_map *map);
/** journal_sent() - it has been sent, or nothing of it has */
void journal_sent(struct journal *journal, bool sent);

/** journal_hear() - the answer to one of our requests is at hand, and is about to be taken out of
 * the socket */
void journal_hear(struct journal *journal, uint32_t request, uint64_t value);
/** journal_heard() - it is out of the socket: it counts */
void journal_heard(struct journal *journal);
