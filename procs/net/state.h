#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "hash.h"
#include "virtio/net.h"

/*
 * The guest's settings from the control ring. They are in the ledger, to survive the process. Of
 * two halves, one is in force; a change is written to the other one, and a single store then makes
 * that one active.
 *
 * Older and newer releases read this while the guest is running, so fields never move or change
 * their meaning. New fields go to the end of struct net_saved, twice if they change together with
 * the halves. They are zero until a release that knows them writes them.
 */

#define NET_MACS_MAX 128 /* in both tables together; a table that does not fit lets everything in */
#define NET_RINGS_MAX 128   /* receive and transmit rings with settings of their own */
#define NET_STATE_VERSION 1 /* of the whole layout; never changes */
#define NET_SAVED_FIRST_BYTES 2640

/* what the driver may switch by the control ring */
#define NET_GUEST_OFFLOADS                                                                         \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) |                       \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_GUEST_USO4) |                       \
		BIT(VIRTIO_NET_F_GUEST_USO6))

#define NET_COALESCE_FEATURES (BIT(VIRTIO_NET_F_NOTF_COAL) | BIT(VIRTIO_NET_F_VQ_NOTF_COAL))

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
	uint8_t uni_overflow; /* the unicast table was too long: accept all unicast */
	uint8_t multi_overflow;
	uint8_t announce;     /* the driver was asked to announce itself, and has not acked yet */
	uint8_t offloads_set; /* offloads replaces the negotiated ones */
	uint8_t pad;
	uint16_t n_uni;   /* macs[0 .. n_uni) */
	uint16_t n_multi; /* macs[n_uni .. n_uni + n_multi) */
	uint16_t pairs;   /* that the driver uses, at least 1 */
	uint16_t pad2;
	uint64_t offloads; /* feature bits */
	uint8_t macs[NET_MACS_MAX][6];
	uint32_t vlans[4096 / 32];
};

/** struct net_coalesce - when a ring's notifications are held back: never if either is 0 */
struct net_coalesce {
	uint32_t max_packets;
	uint32_t max_usecs;
};

/** struct net_hash - what hash of received frames is reported */
struct net_hash {
	uint32_t types; /* 0 = none */
	uint8_t n_key;  /* bytes of key */
	uint8_t pad[3];
	uint8_t key[HASH_KEY_MAX];
};

/** struct net_single - settings of which there is one copy: where a death cuts a change short, the
 * command is done again */
struct net_single {
	struct net_coalesce coalesce[NET_RINGS_MAX]; /* by ring */
	struct net_hash hash;
};

/** struct net_settings - all that a driver sets by the control ring */
struct net_settings {
	struct net_state state;
	struct net_single single;
};

/** struct net_saved - its layout in the ledger */
struct net_saved {
	uint32_t version;       /* 0 = new */
	uint32_t active;        /* index of the half in force */
	uint64_t host_offloads; /* determined by the back-end when it was first opened */
	struct net_state halves[2];

	/* behind what the first release has */
	_Atomic uint64_t source; /* address that the driver last sent from: 6 bytes; 0 = none */
	uint64_t session;        /* that source and arrived belong to */
	uint64_t arrived;        /* the state was loaded or saved, and no ring has started since */
	struct net_single single;
};

_Static_assert(offsetof(struct net_saved, halves) + 2 * sizeof(struct net_state) ==
		NET_SAVED_FIRST_BYTES,
	"as the first release has it");

/** state_note_source() - the driver has sent from this address; any thread that serves a ring. A
 * group's is ignored */
void state_note_source(struct net_saved *saved, const uint8_t mac[6]);

/** state_source() - the address that it last sent from; false: none */
bool state_source(const struct net_saved *saved, uint8_t ret_mac[6]);

/** state_reset() - set the state that a driver expects after a reset */
void state_reset(struct net_state *state, const uint8_t mac[6]);

/** state_open() - return the half in force; a new or damaged one is initialized. It may come from
 * an older or newer release, or from a compromised process, so every bound is checked. */
struct net_state *state_open(struct net_saved *saved, const uint8_t mac[6]);

/** state_commit() - put a changed copy in force; returns the new active half */
struct net_state *state_commit(struct net_saved *saved, const struct net_state *changed);

/** state_commit_all() - likewise, with the settings of which there is one copy */
struct net_state *state_commit_all(struct net_saved *saved, const struct net_settings *changed);
