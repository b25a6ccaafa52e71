#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct exchange;

/*
 * Notifications in band: a VMM that hands over no kick, call or err descriptor, but sends
 * VRING_KICK, and hears VRING_CALL and VRING_ERR on the back-end channel. This process makes the
 * descriptors, and has the other end of each: the worker knows no difference.
 */

/** what in_band of a ring in the record says, each for one of its descriptors */
enum inband_kind { INBAND_KICK = 1, INBAND_CALL = 2, INBAND_ERR = 4 };

/** struct inband - of one device: the ends that it has */
struct inband {
	struct inband_end **ends; /* owned */
	size_t n;
	uint64_t fetching; /* the token of the one that is being fetched; 0 = none is */
	sd_event_source *again;
	bool rests; /* until then nothing is fetched */
};

/** inband_kick() - the VMM has kicked a ring of the record. A ring whose end is not there yet is
 * kicked when it comes. */
void inband_kick(struct exchange *exchange, uint32_t index);

/** inband_run() - make the ends those of the record that is in force, and send what is to be
 * said */
void inband_run(struct exchange *exchange);

/** inband_fetched() - an answer to fetch(): whether it was ours, and was taken over */
bool inband_fetched(struct exchange *exchange, int fd);

/** inband_forget() - the VMM is gone */
void inband_forget(struct exchange *exchange);
