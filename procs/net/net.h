#pragma once

#include <sys/uio.h>

#include "device/device.h"
#include "header.h"
#include "state.h"
#include "backend.h"

/*
 * The network device: rings 2i (receive) and 2i+1 (transmit) of pair i are served by a thread of
 * their own, the control ring by the loop's thread. What several threads read is written only while
 * the device is paused.
 */

#define NET_PAIRS_MAX 64
#define NET_BATCH 64 /* chains or frames in hand at once, and the longest turn of a ring */
#define NET_FRAME_ORDINARY 1514 /* bytes: what every driver has buffers for */
#define NET_RX_SPANS 1022       /* with header and spill: what one readv() takes */

struct net;

/** struct net_rx - a receive ring: the spans of parsed chains lie in iov, one chain behind the
 * other */
struct net_rx {
	struct device_queue *queue; /* NULL: none runs */
	unsigned int n_loaded;      /* chains of the window that are in iov */
	unsigned int chain_at;      /* span where the first loaded chain begins; >= 1 */
	unsigned int first;    /* span of the next frame's payload; our header goes before it */
	unsigned int end;      /* behind the last span */
	size_t bytes;          /* of the loaded chains that are left, headers included */
	bool headed;           /* iov[first] begins behind the guest's header */
	unsigned int n_frames; /* delivered and not published */
	struct net_hdr hdr;    /* of the next frame */
	uint8_t spill;         /* a frame that reaches it did not fit */
	struct iovec iov[1 + NET_RX_SPANS + 1];
};

/** struct net_pair - what the rings of a group share: a receive ring, its transmit ring, and those
 * of pairs that have no thread */
struct net_pair {
	struct net *net;
	unsigned int index;
	struct device_group *group;
	int tap_fd;      /* owned by the tap back-end; -1 = none */
	bool tap_failed; /* no use: it is detached, or the interface is gone */
	struct net_rx rx;
	struct iovec tx_iov[VIRTQ_CHAIN_SPANS_MAX + 1];
};

struct net {
	struct device *device;
	const struct net_backend *backend;
	void *backend_data;
	unsigned int n_pairs;
	struct net_pair *pairs;
	struct net_saved *saved; /* in the ledger */
	struct net_state *state; /* the half of it that is in force */
	uint8_t mac[6];
	uint32_t generate; /* null: bytes of a frame, 0 = none */

	/* In force; written while the device is paused. */
	uint64_t offloads; /* of GUEST_*: what frames may ask of the driver now */
	size_t hdr_bytes;  /* 10 or 12 */
	bool mergeable;
	size_t frame_max; /* the longest frame the back-end may hand us */
	uint32_t mtu;     /* of the back-end; 0 = unknown */
	bool filter_macs;
	bool filter_vlans;
	bool link_up;
};

/** net_ops - the table of the device, in net.c */
extern const struct device_ops net_ops;

/* force.c */
/** force_config() - make configuration space anew; whether it changed, which the caller tells of */
bool force_config(struct net *net);
/** net_apply() - state or back-end changed: put it in force; the device is paused */
void net_apply(struct net *net);
/** net_show_config() - the driver itself changed what stands in configuration space: it is not told
 * of it */
void net_show_config(struct net *net);
/** net_set_link() - the host's side of the link went up or down; loop's thread */
void net_set_link(struct net *net, bool up);

/* tx.c */
/** tx_round() - one turn of a transmit ring, as ops->serve() */
enum device_wait tx_round(struct net_pair *pair, struct device_queue *queue);

/* rx.c */
/** rx_reset() - forget what is loaded; the ring is this one now (NULL: none) */
void rx_reset(struct net_rx *rx, struct device_queue *queue);
/** rx_load() - make room for a frame of so many bytes: 0 | RX_STARVED | RX_OFF */
enum rx_status rx_load(struct net_pair *pair, size_t frame_bytes, size_t *ret_room);
/** rx_deliver() - a frame of so many bytes lies in iov behind rx->hdr: stage it */
void rx_deliver(struct net_pair *pair, size_t frame_bytes);
/** rx_drop() - a frame could not be delivered: count it */
void rx_drop(struct net_pair *pair);
/** rx_give_back() - the loaded chains are of no use: all are returned unused, and count in
 * n_frames */
void rx_give_back(struct net_rx *rx);
/** rx_flush() - the driver sees what was delivered */
void rx_flush(struct net_rx *rx);

/* ctrl.c */
/** ctrl_round() - one turn of the control ring, as ops->serve(); loop's thread, not paused */
enum device_wait ctrl_round(struct net *net, struct device_queue *queue);
/** ctrl_execute() - one command; true = done and state changed, false = refused and state as it
 * was */
bool ctrl_execute(uint64_t features, unsigned int n_pairs, const struct virtq_chain *chain,
	struct net_state *state);
