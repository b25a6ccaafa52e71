/*
 * Computes what is in force: the configuration space, and what depends on features, back-end and
 * the driver's settings.
 */
#include "net.h"

#include <endian.h>
#include <string.h>

#include "base/bytes.h"

#define GSO_OFFLOADS                                                                               \
	(BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |                             \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_GUEST_USO4) |                       \
		BIT(VIRTIO_NET_F_GUEST_USO6))

#define VLAN_FRAME_BYTES(mtu) ((mtu) + 18)

/** struct net_config - configuration space: virtio 1.2, 5.1.4. It always has its full size,
 * whatever is offered, because some front-ends read all of it and fail if they cannot. Unknown
 * values are marked as such. */
struct net_config {
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_pairs;
	uint16_t mtu;
	uint32_t speed;
	uint8_t duplex;
	uint8_t rss_max_key_bytes;
	uint16_t rss_max_entries;
	uint32_t hash_types;
} __attribute__((packed));

_Static_assert(sizeof(struct net_config) == 24, "as in the specification");

#define SPEED_UNKNOWN UINT32_MAX
#define DUPLEX_UNKNOWN UINT8_MAX

/* --- Configuration space --- */

bool force_config(struct net *net)
{
	struct device_offer *offer = &net->device->offer;
	const struct config_value *mtu = config_value(net->device->config, "mtu");
	struct net_config config = { .max_pairs = htole16((uint16_t)net->n_pairs),
		.speed = SPEED_UNKNOWN,
		.duplex = DUPLEX_UNKNOWN,
		.rss_max_key_bytes = HASH_KEY_MAX,
		.hash_types = htole32(HASH_TYPES) };
	unsigned int status = net->link_up ? VIRTIO_NET_S_LINK_UP : 0;

	memcpy(config.mac, net->state ? net->state->mac : net->mac, 6);
	if (net->state && net->state->announce)
		status |= VIRTIO_NET_S_ANNOUNCE;
	config.status = htole16((uint16_t)status);
	config.mtu = htole16((uint16_t)(mtu->text ? mtu->number : 1500));
	offer->config_bytes = sizeof(config);
	if (memcmp(offer->config, &config, sizeof(config)) == 0)
		return false;
	memcpy(offer->config, &config, sizeof(config));
	return true;
}

void net_set_link(struct net *net, bool up)
{
	net->link_up = up;
	if (force_config(net))
		device_config_changed(net->device);
}

void net_show_config(struct net *net)
{
	if (force_config(net))
		device_report(net->device);
}

/* --- What is in force --- */

static size_t header_bytes(uint64_t features)
{
	if (has_bit(features, VIRTIO_NET_F_HASH_REPORT))
		return NET_HDR_HASH_BYTES;
	return has_bit(features, VIRTIO_NET_F_MRG_RXBUF) || has_bit(features, VIRTIO_F_VERSION_1)
		? NET_HDR_BYTES
		: NET_HDR_LEGACY_BYTES;
}

/* What the ledger says is judged: it may come from another release, or worse. */
static void apply_hash(struct net *net)
{
	const struct net_hash *hash = &net->saved->single.hash;
	bool reports = has_bit(net->device->features, VIRTIO_NET_F_HASH_REPORT);

	hash_prepare(&net->hash, reports ? hash->types & HASH_TYPES : 0, hash->key,
		MIN(hash->n_key, sizeof(hash->key)));
}

void net_apply(struct net *net)
{
	uint64_t features = net->device->features;
	const struct net_state *state = net->state;
	const struct config_value *configured = config_value(net->device->config, "mtu");
	/* the MTU of an interface in another network namespace is unknown, so the one the guest is
	 * told counts too */
	uint32_t mtu = MAX(net->mtu ? net->mtu : 1500,
		configured->text ? (uint32_t)configured->number : 0);

	net->mergeable = has_bit(features, VIRTIO_NET_F_MRG_RXBUF);
	net->hdr_bytes = header_bytes(features);
	apply_hash(net);
	net->offloads = features & NET_GUEST_OFFLOADS;
	if (state->offloads_set)
		net->offloads &= state->offloads;
	net->frame_max = net->offloads & GSO_OFFLOADS ? NET_GSO_FRAME_MAX : VLAN_FRAME_BYTES(mtu);
	net->frame_max = MAX(net->frame_max, (size_t)VLAN_FRAME_BYTES(mtu));
	net->filter_macs =
		has_bit(features, VIRTIO_NET_F_CTRL_VQ) && has_bit(features, VIRTIO_NET_F_CTRL_RX);
	net->filter_vlans = has_bit(features, VIRTIO_NET_F_CTRL_VQ) &&
		has_bit(features, VIRTIO_NET_F_CTRL_VLAN);
	net->backend->negotiated(net);
}
