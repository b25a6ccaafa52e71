#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the guest has set through the control ring. It lies in the ledger, so that it outlives the
 * process: two halves, of which one is in force; a change is written into the other, and one store
 * makes it valid.
 *
 * Releases before and after this one read it, while the guest runs: nothing here moves or changes
 * its meaning. What comes to it goes to the end of struct net_saved, in two halves where it is to
 * change with the rest, and is zeros until a release that knows it has written it.
 */

#define NET_MACS_MAX 128    /* in both tables together; more, and that table lets everything in */
#define NET_STATE_VERSION 1 /* of the whole layout, that is: for good */
#define NET_SAVED_FIRST_BYTES 2640

enum {
	NET_RX_PROMISC,
	NET_RX_ALLMULTI,
	NET_RX_ALLUNI,
	NET_RX_NOMULTI,
	NET_RX_NOUNI,
	NET_RX_NOBCAST,
	_NET_RX_MODE_N,
};

/** struct net_state - the guest's settings */
struct net_state {
	uint8_t mac[6];
	uint8_t modes;        /* bit NET_RX_* */
	uint8_t uni_overflow; /* the unicast table was too long: all unicast is let in */
	uint8_t multi_overflow;
	uint8_t announce; /* the driver was asked to announce itself, and has not yet said it did */
	uint8_t offloads_set; /* offloads is in force instead of the negotiated ones */
	uint8_t pad;
	uint16_t n_uni;   /* macs[0 .. n_uni) */
	uint16_t n_multi; /* macs[n_uni .. n_uni + n_multi) */
	uint16_t pairs;   /* the driver uses, 1 .. */
	uint16_t pad2;
	uint64_t offloads; /* feature bits */
	uint8_t macs[NET_MACS_MAX][6];
	uint32_t vlans[4096 / 32];
};

/** struct net_saved - as it lies in the ledger */
struct net_saved {
	uint32_t version;       /* 0 = new */
	uint32_t active;        /* which half is in force */
	uint64_t host_offloads; /* what the back-end found out when it was opened first */
	struct net_state halves[2];
#if NET_STATE_GROWTH /* as a later release may have it: for tests of upgrades */
	uint8_t grown[NET_STATE_GROWTH];
#endif
};

_Static_assert(offsetof(struct net_saved, halves) + 2 * sizeof(struct net_state) ==
		NET_SAVED_FIRST_BYTES,
	"as the first release has it");

/** state_reset() - as a driver finds it after a reset */
void state_reset(struct net_state *state, const uint8_t mac[6]);

/** state_open() - the half in force; a new or damaged one is begun anew. Written by a former
 * instance, of an earlier or later release, that a guest may have taken over: every bound is
 * checked. */
struct net_state *state_open(struct net_saved *saved, const uint8_t mac[6]);

/** state_commit() - put a changed copy in force; returns it in its place */
struct net_state *state_commit(struct net_saved *saved, const struct net_state *changed);
