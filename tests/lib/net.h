#ifndef TESTS_LIB_NET_H
#define TESTS_LIB_NET_H

/*
 * A virtio-net driver with its VMM: one connection, one guest, receive and transmit rings. Frames
 * carry a sequence number and a pattern derived from it, so that a lost, duplicated, reordered or
 * corrupted frame is detected at once.
 *
 * All functions return 0, a negative errno or VU_E_REFUSED; `why` then describes the error.
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
	uint16_t base;      /* initial ring position; packed: slot | wrap << 15 */
	bool base_set;      /* else the position is 0, packed 0x8000 */
	bool indirect;
	uint16_t tx_segs;   /* descriptors per transmitted frame; 0: 1 */
	uint16_t rx_segs;   /* descriptors per receive buffer; 0: 1 */
	uint32_t buf_bytes; /* of each receive buffer, including the header; 0: 2048 */
	uint32_t tx_bytes;  /* of each transmit buffer; 0: the larger of 2048 and buf_bytes */
	bool no_ack;        /* never set need_reply */
	bool lax; /* for peers: no num_buffers unless mergeable, packed base of one half */
};

struct net {
	struct net_profile p;
	struct vu_client c;
	struct guest g;
	struct ring rings[2 * NET_MAX_PAIRS]; /* 2k is receive, 2k + 1 transmit */
	uint64_t *bufs[2 * NET_MAX_PAIRS];    /* guest addresses, one for each ring entry */
	uint16_t n_bufs[2 * NET_MAX_PAIRS];
	uint64_t *free_tx[NET_MAX_PAIRS];
	uint16_t n_free_tx[NET_MAX_PAIRS];
	uint16_t n_rings;
	uint64_t n_sent[NET_MAX_PAIRS], n_received[NET_MAX_PAIRS];
	char why[240];
};

/* connect, negotiate, set memory, start and enable rings, fill receive rings */
int net_open(struct net *n, const char *path, const struct net_profile *profile);
/* the steps of net_open(), each usable on its own */
int net_init(struct net *n, const struct net_profile *profile);
int net_negotiate(struct net *n);
int net_make_rings(struct net *n);
/* buffers for an existing ring: as many as fit into guest memory */
int net_make_bufs(struct net *n, uint16_t index);
int net_set_memory(struct net *n);
/* reinitialize ring `index`, empty and at its base; the back-end must have stopped it */
int net_renew_ring(struct net *n, uint16_t index);
int net_start_ring(struct net *n, uint16_t index);
int net_enable(struct net *n, uint16_t index, bool on);
int net_fill(struct net *n, uint16_t pair);
void net_close(struct net *n);

/* GET_VRING_BASE on ring `index`: the reply must match the driver's position exactly */
int net_stop_ring(struct net *n, uint16_t index);

/* transmit a frame (without header), and kick if the device wants it */
int net_send(struct net *n, uint16_t pair, const void *frame, uint32_t n_bytes);
/* receive the next frame, and post its buffers again */
int net_recv(struct net *n, uint16_t pair, void *ret_frame, uint32_t *ret_bytes, int timeout_ms);
/* wait until the device has returned every transmitted frame */
int net_drain_tx(struct net *n, uint16_t pair, int timeout_ms);

void net_frame_make(uint8_t *frame, uint32_t n_bytes, uint32_t seq);
/* true if it is frame `seq` returned with source and destination swapped */
bool net_frame_is_echo(const uint8_t *frame, uint32_t n_bytes, uint32_t seq);

/* send n_frames of n_bytes to an echo device and back, several in flight, in order */
int net_pump(struct net *n, uint16_t pair, uint32_t n_frames, uint32_t n_bytes);
/* for all rings: driver areas unmodified, red zones intact, no fault so far */
int net_check(struct net *n);

#endif
