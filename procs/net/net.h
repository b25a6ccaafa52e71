#pragma once

#include <sys/uio.h>

#include "device/device.h"
#include "hash.h"
#include "header.h"
#include "state.h"
#include "backend.h"

/*
 * The network device. Rings 2i (receive) and 2i+1 (transmit) of pair i are served by one thread per
 * pair, the control ring by the loop thread. What several threads read is written only while the
 * device is paused.
 */

#define NET_PAIRS_MAX 64
#define NET_BATCH 32            /* chains or frames in hand at once, and the maximum per turn */
#define NET_FRAME_ORDINARY 1514 /* bytes: every driver has buffers for this */
#define NET_RX_SPANS 1022       /* with header and spill, the limit of readv() */
#define NET_AHEAD 8             /* chains whose memory is on its way to the CPU */

struct net;

/**
 * struct net_rx - a receive ring
 *
 * The window begins with the chains that hold delivered frames (`held`), which are followed by
 * those whose spans are in iov, in ring order (`loaded`).
 */
struct net_rx {
	struct device_queue *queue; /* NULL: not running */
	unsigned int n_held;        /* not taken yet; held_bytes has their lengths */
	unsigned int n_asked;       /* chains of the window whose memory was asked for */
	unsigned int n_loaded;
	unsigned int chain_at; /* index of the first loaded chain's first span; >= 1 */
	unsigned int first;    /* index of the next payload's first span, after our header */
	unsigned int end;      /* index after the last span */
	size_t bytes;          /* size of the remaining loaded chains, including headers */
	bool headed;           /* iov[first] is already past the guest's header */
	uint8_t *hdr_at;       /* that header; NULL: it crosses spans */
	unsigned int n_frames; /* delivered but not published */
	struct net_hdr hdr;    /* of the next frame */
	uint8_t spill;         /* a frame that reaches this byte did not fit */
	uint32_t held_bytes[NET_RX_SPANS];
	struct iovec iov[1 + NET_RX_SPANS + 1];
};

/** struct net_pair - shared by the rings of a group: a receive ring, its transmit ring, and those
 * of pairs without a thread */
struct net_pair {
	struct net *net;
	unsigned int index;
	struct device_group *group;
	int tap_fd;      /* owned by the TAP back-end; -1 = none */
	bool tap_failed; /* unusable: detached, or the interface is gone */
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
	uint32_t generate; /* null back-end: frame size in bytes, 0 = none */

	/* Currently in force; written while the device is paused. */
	uint64_t offloads; /* GUEST_* bits: offloads that frames may use now */
	size_t hdr_bytes;  /* 10, 12 or 20 */
	struct hash hash;  /* of received frames, to be reported */
	bool mergeable;
	size_t frame_max; /* the longest frame the back-end may deliver */
	uint32_t mtu;     /* of the back-end; 0 = unknown */
	bool filter_macs;
	bool filter_vlans;
	bool link_up;
};

/** net_ops - the device's table, in net.c */
extern const struct device_ops net_ops;

/* force.c */
/** force_config() - rebuild configuration space. Returns whether it changed; the caller must then
 * notify the guest. */
bool force_config(struct net *net);
/** net_apply() - apply changes of state or back-end; the device is paused */
void net_apply(struct net *net);
/** net_show_config() - update configuration space after a change by the driver itself, without
 * notifying the driver */
void net_show_config(struct net *net);
/** net_set_link() - the host's side of the link went up or down; loop thread */
void net_set_link(struct net *net, bool up);

/* tx.c */
/** tx_round() - one turn of a transmit ring, as ops->serve() */
enum device_wait tx_round(struct net_pair *pair, struct device_queue *queue);

/* rx.c */
/** rx_reset() - discard what is loaded and switch to this ring (NULL: none) */
void rx_reset(struct net_rx *rx, struct device_queue *queue);
/** rx_load() - make room for a frame of frame_bytes: 0 | RX_STARVED | RX_OFF */
enum rx_status rx_load(struct net_pair *pair, size_t frame_bytes, size_t *ret_room);
/** rx_head() - the first bytes of a frame of frame_bytes that is in iov, at most n_max; returns how
 * many */
size_t rx_head(const struct net_rx *rx, size_t frame_bytes, uint8_t *ret_head, size_t n_max);
/** rx_deliver() - stage a frame of frame_bytes, which is in iov with its header in rx->hdr */
void rx_deliver(struct net_pair *pair, size_t frame_bytes);
/** rx_discard() - a frame of frame_bytes, which is in iov, is not delivered: its memory was written
 * all the same */
void rx_discard(struct net_pair *pair, size_t frame_bytes);
/** rx_drop() - count a frame that could not be delivered, and why */
void rx_drop(struct net_pair *pair, enum ledger_drop why);
/** rx_give_back() - return the unusable loaded chains unused; they count in n_frames */
void rx_give_back(struct net_rx *rx);
/** rx_flush() - publish what was delivered to the driver */
void rx_flush(struct net_rx *rx);

/* ctrl.c */
/** ctrl_round() - one turn of the control ring, as ops->serve(); loop thread, not paused */
enum device_wait ctrl_round(struct net *net, struct device_queue *queue);

/** struct ctrl_context - what else decides on a command */
struct ctrl_context {
	uint64_t features;
	unsigned int n_pairs;
	bool enabled[NET_RINGS_MAX]; /* receive and transmit rings that run and are enabled */
};

/** struct ctrl_answer - what the device writes before the ack byte */
struct ctrl_answer {
	struct net_coalesce coalesce; /* little-endian */
	size_t n_bytes;               /* of it; zeros if the command was rejected */
};

/** ctrl_execute() - execute one command; true: done, settings changed; false: rejected, settings
 * unchanged */
bool ctrl_execute(const struct ctrl_context *context, const struct virtq_chain *chain,
	struct net_settings *settings, struct ctrl_answer *ret_answer);

/** net_feature_names - as in struct device_ops */
extern const struct feature_name net_feature_names[];
