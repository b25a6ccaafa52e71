#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/net.h"

/* The header before each frame, the feature bits that govern it, and checksum offload. */

#define NET_FRAME_MIN 14
#define NET_FRAME_MAX 65589     /* Ethernet and IPv6 headers plus the largest IPv6 payload */
#define NET_GSO_FRAME_MAX 65550 /* the largest from a TAP, and what drivers allocate for */

#define NET_HDR_NEEDS_CSUM 1
#define NET_HDR_DATA_VALID 2
#define NET_GSO_NONE 0
#define NET_GSO_TCPV4 1
#define NET_GSO_UDP 3
#define NET_GSO_TCPV6 4
#define NET_GSO_UDP_L4 5
#define NET_GSO_ECN 0x80

/** struct net_hdr - virtio 1.2, 5.1.6 Device Operation; little-endian. Without VERSION_1 and
 * MRG_RXBUF, the guest's header ends before num_buffers. */
struct net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};

_Static_assert(sizeof(struct net_hdr) == 12, "as in the specification");

/** struct net_hdr_hash - with HASH_REPORT; the driver's own is as long, without meaning behind the
 * first part */
struct net_hdr_hash {
	struct net_hdr hdr;
	uint32_t hash_value;
	uint16_t hash_report;
	uint16_t padding;
};

_Static_assert(sizeof(struct net_hdr_hash) == 20, "as in the specification");

#define NET_HDR_BYTES sizeof(struct net_hdr)
#define NET_HDR_HASH_BYTES sizeof(struct net_hdr_hash)
#define NET_HDR_LEGACY_BYTES offsetof(struct net_hdr, num_buffers)

enum {
	HEADER_E_CSUM = 1, /* checksum not negotiated, or its field is outside the frame */
	HEADER_E_GSO,      /* segmentation not negotiated, or inconsistent */
};

/**
 * header_check_tx() - check and sanitize a header that the driver wrote (a copy of it)
 * @hdr: [in, out] fields without meaning for this frame are set to 0, so that they cannot confuse
 *       later consumers
 *
 * Errors: 0 | HEADER_E_*: the driver's fault, the frame is dropped.
 * Spec:   virtio 1.2, 5.1.6.2 Packet Transmission.
 */
int header_check_tx(struct net_hdr *hdr, size_t frame_bytes, uint64_t features);

/**
 * header_fit_rx() - convert a frame to what the driver accepts
 * @hdr:      [in, out] from the host or another driver; already validated
 * @offloads: GUEST_* feature bits in force
 * @iov:      the frame, n spans; a partial checksum that the driver does not accept is completed
 *            in it
 *
 * Errors: 0 | HEADER_E_*: it cannot be converted, the frame is dropped.
 */
int header_fit_rx(struct net_hdr *hdr, uint64_t offloads, const struct iovec *iov, unsigned int n,
	size_t frame_bytes);

/** header_finish_csum() - complete a frame's partial checksum in the frame itself; does nothing
 * if its field lies outside the frame */
void header_finish_csum(const struct net_hdr *hdr, const struct iovec *iov, unsigned int n,
	size_t frame_bytes);
