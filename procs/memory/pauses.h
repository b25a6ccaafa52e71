#pragma once

#include <stdint.h>

/*
 * For how long the rings of a device were held up by restarts of its worker, as histograms. They
 * begin anew with this process.
 */

struct peer;
struct served;

/** enum pause_cause - why the worker ended */
enum pause_cause {
	PAUSE_PLANNED, /* in good order: a restart, an upgrade, a standby's turn */
	PAUSE_DEATH,   /* it was killed, or died */
	PAUSE_CAUSES,
};

#define PAUSE_LIMITS 14

/** pause_limits_us - the upper bounds of all classes but the last, ascending */
extern const uint64_t pause_limits_us[PAUSE_LIMITS];

/** pause_cause_name() - a word for it; a static text */
const char *pause_cause_name(enum pause_cause cause);

/** struct pauses - of one device; begins as zeros */
struct pauses {
	struct pause_histogram {
		uint64_t counts[PAUSE_LIMITS + 1];
		uint64_t sum_us;
	} of[PAUSE_CAUSES];
	uint64_t begun_us; /* CLOCK_MONOTONIC: the rings are held up since; 0 = they are not */
	enum pause_cause cause;
	uint64_t known_ns; /* ledger_header.pause_ns, as it was when it was last looked at */
};

/** pauses_count() - one more pause */
void pauses_count(struct pauses *pauses, enum pause_cause cause, uint64_t usec);

/** pauses_left() - the link of an instance of the device's worker has ended; to be called before
 * the peer is disconnected */
void pauses_left(struct served *device, const struct peer *peer);

/** pauses_reported() - an instance has reported, and device->observed is what it said; to be called
 * before it becomes the one that serves */
void pauses_reported(struct served *device, const struct peer *peer);
