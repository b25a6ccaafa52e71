#ifndef TESTS_LIB_NET_H
#define TESTS_LIB_NET_H

/*
 * A virtio-net driver with its VMM: one connection, one guest, receive and transmit rings. Frames
 * carry a sequence number and a pattern made from it, so that a lost, doubled, swapped or damaged
 * frame is seen at once.
 *
 * All functions return 0, a negative errno or VU_E_REFUSED; `why` then tells in words.
 */

#include <stdbool.h>
#include <stdint.h>

#include "client.h"
#include "guest.h"
#include "ring.h"

#define NET_MAX_PAIRS 4
#define NET_HDR_BYTES 12
#define NET_FRAME_MAX 65562

struct net_profile {
	uint64_t features;  /* wanted besides VERSION_1 and PROTOCOL_FEATURES */
	uint64_t protocol;  /* protocol features wanted besides REPLY_ACK and MQ */
	uint16_t n_pairs;   /* 0: 1 */
	uint16_t ring_size; /* 0: 256 */
	uint16_t base;      /* where rings start; packed: slot | wrap << 15 */
	bool base_set;      /* else 0, packed 0x8000 */
	bool indirect;
	uint16_t tx_segs;   /* descriptors per frame sent; 0: 1 */
	uint16_t rx_segs;   /* descriptors per receive buffer; 0: 1 */
	uint32_t buf_bytes; /* each receive buffer, header included; 0: 2048 */
	uint32_t tx_bytes;  /* each transmit buffer; 0: the larger of 2048 and buf_bytes */
	bool no_ack;        /* never set need_reply */
	bool lax; /* for peers: no num_buffers unless mergeable, packed base of one half */
};

struct net {
	struct net_profile p;
	struct vu_client c;
	struct guest g;
	struct ring rings[2 * NET_MAX_PAIRS]; /* 2k receives, 2k + 1 transmits */
	uint64_t *bufs[2 * NET_MAX_PAIRS];    /* guest addresses, one for each ring entry */
	uint16_t n_bufs[2 * NET_MAX_PAIRS];
	uint64_t *free_tx[NET_MAX_PAIRS];
	uint16_t n_free_tx[NET_MAX_PAIRS];
	uint16_t n_rings;
	uint64_t n_sent[NET_MAX_PAIRS], n_received[NET_MAX_PAIRS];
	char why[240];
};

/* connection, negotiation, memory, rings started and enabled, receive rings filled */
int net_open(struct net *n, const char *path, const struct net_profile *profile);
/* the steps of net_open(), each usable alone */
int net_init(struct net *n, const struct net_profile *profile);
int net_negotiate(struct net *n);
int net_make_rings(struct net *n);
/* buffers for a ring that is there: as many as fit into guest memory */
int net_make_bufs(struct net *n, uint16_t index);
int net_set_memory(struct net *n);
/* ring `index` anew, empty and at the profile's base; the back-end must have stopped it */
int net_renew_ring(struct net *n, uint16_t index);
int net_start_ring(struct net *n, uint16_t index);
int net_enable(struct net *n, uint16_t index, bool on);
int net_fill(struct net *n, uint16_t pair);
void net_close(struct net *n);

/* GET_VRING_BASE on ring `index`: the answer must be exactly where the driver stands */
int net_stop_ring(struct net *n, uint16_t index);

/* one frame (without header) to the transmit ring of the pair, kicked if the device wants it */
int net_send(struct net *n, uint16_t pair, const void *frame, uint32_t n_bytes);
/* the next frame received: its buffers are posted again */
int net_recv(struct net *n, uint16_t pair, void *ret_frame, uint32_t *ret_bytes, int timeout_ms);
/* waits until the device has returned every frame sent */
int net_drain_tx(struct net *n, uint16_t pair, int timeout_ms);

void net_frame_make(uint8_t *frame, uint32_t n_bytes, uint32_t seq);
/* true if it is frame `seq` come back with source and destination swapped */
bool net_frame_is_echo(const uint8_t *frame, uint32_t n_bytes, uint32_t seq);

/* n_frames of n_bytes there and back through an echo device, several in flight, in order */
int net_pump(struct net *n, uint16_t pair, uint32_t n_frames, uint32_t n_bytes);
/* every ring: driver's areas untouched, red zones clean, no fault so far */
int net_check(struct net *n);

#endif
