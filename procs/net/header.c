/*
 * Headers are checked in a copy. Their contents are passed to the kernel or back to the guest, so
 * each field must either have a negotiated meaning and stay within the frame, or be 0.
 */
#include "header.h"

#include <endian.h>
#include <string.h>

#include "base/bytes.h"

/* The feature that allows a segmentation type: HOST_* for frames the driver sends, GUEST_* for
 * those it receives. */
static uint64_t gso_features(uint8_t type, bool tx)
{
	switch (type) {
	case NET_GSO_TCPV4:
		return BIT(tx ? VIRTIO_NET_F_HOST_TSO4 : VIRTIO_NET_F_GUEST_TSO4);
	case NET_GSO_TCPV6:
		return BIT(tx ? VIRTIO_NET_F_HOST_TSO6 : VIRTIO_NET_F_GUEST_TSO6);
	case NET_GSO_UDP:
		return BIT(tx ? VIRTIO_NET_F_HOST_UFO : VIRTIO_NET_F_GUEST_UFO);
	case NET_GSO_UDP_L4:
		return tx ? BIT(VIRTIO_NET_F_HOST_USO)
			  : BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6);
	default:
		return 0;
	}
}

static bool gso_is_allowed(const struct net_hdr *hdr, uint64_t features, bool tx)
{
	uint8_t type = hdr->gso_type & (uint8_t)~NET_GSO_ECN;

	if (!(features & gso_features(type, tx)))
		return false;
	if (!(hdr->gso_type & NET_GSO_ECN))
		return true;
	return (type == NET_GSO_TCPV4 || type == NET_GSO_TCPV6) &&
		has_bit(features, tx ? VIRTIO_NET_F_HOST_ECN : VIRTIO_NET_F_GUEST_ECN);
}

/* The checksum field must lie inside the frame, behind the Ethernet header. */
static bool csum_is_inside(const struct net_hdr *hdr, size_t frame_bytes)
{
	size_t start = le16toh(hdr->csum_start);

	return start >= NET_FRAME_MIN && start + le16toh(hdr->csum_offset) + 2 <= frame_bytes;
}

static int check_gso_tx(struct net_hdr *hdr, size_t frame_bytes, uint64_t features)
{
	if (!gso_is_allowed(hdr, features, true) || !(hdr->flags & NET_HDR_NEEDS_CSUM) ||
		hdr->gso_size == 0)
		return HEADER_E_GSO;
	/* Only a hint, and often wrong. */
	if (le16toh(hdr->hdr_len) > frame_bytes)
		hdr->hdr_len = 0;
	return 0;
}

int header_check_tx(struct net_hdr *hdr, size_t frame_bytes, uint64_t features)
{
	hdr->flags &= NET_HDR_NEEDS_CSUM;
	hdr->num_buffers = 0;
	if (hdr->flags == 0 && hdr->gso_type == NET_GSO_NONE) {
		memset(hdr, 0, sizeof(*hdr));
		return 0;
	}
	if (hdr->flags &&
		(!has_bit(features, VIRTIO_NET_F_CSUM) || !csum_is_inside(hdr, frame_bytes)))
		return HEADER_E_CSUM;
	if (hdr->gso_type != NET_GSO_NONE)
		return check_gso_tx(hdr, frame_bytes, features);
	hdr->gso_size = 0;
	hdr->hdr_len = 0;
	return 0;
}

int header_fit_rx(struct net_hdr *hdr, uint64_t offloads, const struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	if (likely(hdr->flags == 0 && hdr->gso_type == NET_GSO_NONE))
		return 0;
	if (hdr->gso_type != NET_GSO_NONE && !gso_is_allowed(hdr, offloads, false))
		return HEADER_E_GSO;
	if (has_bit(offloads, VIRTIO_NET_F_GUEST_CSUM)) {
		hdr->flags &= NET_HDR_NEEDS_CSUM | NET_HDR_DATA_VALID;
		return 0;
	}
	if (hdr->flags & NET_HDR_NEEDS_CSUM)
		header_finish_csum(hdr, iov, n, frame_bytes);
	hdr->flags = 0;
	hdr->csum_start = 0;
	hdr->csum_offset = 0;
	return 0;
}

/** struct sum - a ones' complement sum over pieces of any length */
struct sum {
	uint64_t total;
	bool odd; /* the number of bytes so far is odd: the next one is the second of a pair */
};

static void sum_add(struct sum *sum, const uint8_t *p, size_t n)
{
	if (sum->odd && n) {
		sum->total += (uint16_t)(*p++ << 8);
		n--;
		sum->odd = false;
	}
	for (; n >= 4; p += 4, n -= 4) {
		uint32_t word;

		memcpy(&word, p, sizeof(word));
		sum->total += word;
	}
	if (n >= 2) {
		uint16_t half;

		memcpy(&half, p, sizeof(half));
		sum->total += half;
		p += 2;
		n -= 2;
	}
	if (n) {
		sum->total += *p;
		sum->odd = true;
	}
}

/* The words are summed as little-endian: the result is byte-swapped, and is stored as it is. */
static uint16_t sum_fold(const struct sum *sum)
{
	uint64_t total = sum->total;

	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

static uint8_t *byte_at(const struct iovec *iov, unsigned int n, size_t offset)
{
	for (unsigned int i = 0; i < n; i++) {
		if (offset < iov[i].iov_len)
			return (uint8_t *)iov[i].iov_base + offset;
		offset -= iov[i].iov_len;
	}
	return NULL;
}

void header_finish_csum(const struct net_hdr *hdr, const struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	size_t start = le16toh(hdr->csum_start), left, skip = start;
	size_t place = start + le16toh(hdr->csum_offset);
	struct sum sum = { 0 };
	uint8_t *first, *second;
	uint16_t result;

	if (!csum_is_inside(hdr, frame_bytes))
		return;
	left = frame_bytes - start;
	for (unsigned int i = 0; i < n && left; i++) {
		size_t take;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		take = MIN(iov[i].iov_len - skip, left);
		sum_add(&sum, (const uint8_t *)iov[i].iov_base + skip, take);
		left -= take;
		skip = 0;
	}
	result = htole16(sum_fold(&sum));
	if (result == 0)
		result = 0xffff; /* in UDP 0 means "none"; in other protocols both are equivalent */
	first = byte_at(iov, n, place);
	second = byte_at(iov, n, place + 1);
	if (!first || !second)
		return;
	*first = (uint8_t)(result & 0xff);
	*second = (uint8_t)(result >> 8);
}
