/*
 * The network device: what it offers, what is in force, and its table, at the end.
 *
 * Data path: net_serve() (one turn of a ring), tx.c, rx.c, then the back-end (tap*.c, local.c).
 * Control path: ctrl.c serves the control ring and changes the settings (state.c), force.c applies
 * them, filter.c uses them, stage.c carries them elsewhere.
 */
#include "net.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "stage.h"

/* Not VIRTIO_F_RING_RESET: VMMs pass it on to the guest, but do not tell us of a reset, and we
 * would go on with a ring that is no more. */
#define RING_FEATURES                                                                              \
	(BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                             \
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES) |               \
		BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))
#define OUR_FEATURES                                                                               \
	(BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS) |          \
		BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |                            \
		BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) |                    \
		BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |               \
		BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_NOTF_COAL) |              \
		BIT(VIRTIO_NET_F_VQ_NOTF_COAL) | BIT(VIRTIO_NET_F_HASH_REPORT))
#define PF(name) BIT(VHOST_USER_PROTOCOL_F_##name)
#define PROTOCOL_FEATURES                                                                          \
	(PF(MQ) | PF(RARP) | PF(REPLY_ACK) | PF(MTU) | PF(BACKEND_REQ) | PF(CONFIG) |              \
		PF(BACKEND_SEND_FD) | PF(INFLIGHT_SHMFD) | PF(CONFIGURE_MEM_SLOTS) | PF(STATUS))

/* --- What the driver and the VMM set --- */

static void net_negotiated(struct device *device)
{
	net_apply(device->data);
}

static void net_reset(struct device *device)
{
	struct net *net = device->data;
	struct net_settings settings = { 0 };

	state_reset(&settings.state, net->mac);
	net->state = state_commit_all(net->saved, &settings);
	net_apply(net);
	if (force_config(net))
		device->offer.config_seq++;
}

/* --- Rings --- */

/* The control ring follows the last pair with MQ, and the first pair without it. */
static bool is_ctrl(const struct device *device, uint32_t index)
{
	const struct net *net = device->data;

	return has_bit(device->features, VIRTIO_NET_F_CTRL_VQ) &&
		index == (has_bit(device->features, VIRTIO_NET_F_MQ) ? 2 * net->n_pairs : 2);
}

/* Transmit rings of pairs beyond the configured ones share the groups of those. */
static uint32_t net_group(const struct device *device, uint32_t index)
{
	const struct net *net = device->data;

	if (is_ctrl(device, index))
		return DEVICE_GROUP_LOOP;
	if (index % 2 == 0 && index / 2 >= net->n_pairs)
		return DEVICE_GROUP_NONE;
	return index / 2 % net->n_pairs;
}

static enum device_wait rx_round(struct net_pair *pair)
{
	static const enum device_wait waits[] = { [RX_MORE] = DEVICE_MORE,
		[RX_IDLE] = DEVICE_HOST,
		[RX_STARVED] = DEVICE_KICK,
		[RX_OFF] = DEVICE_OTHER };

	enum rx_status status = pair->rx.queue ? pair->net->backend->receive(pair) : RX_OFF;

	if (status == RX_STARVED)
		device_queue_call_now(pair->rx.queue);
	return waits[status];
}

static enum device_wait net_serve(struct device_queue *queue)
{
	struct net_pair *pair = queue->data;

	if (!pair)
		return ctrl_round(queue->device->data, queue);
	return queue->index % 2 ? tx_round(pair, queue) : rx_round(pair);
}

/* With a control ring, the driver starts with one pair and says how many it uses. If the VMM
 * handles that ring itself, it enables the rings in use. */
static unsigned int pairs_in_use(const struct net *net)
{
	const struct device *device = net->device;
	uint32_t ctrl = 2 * net->n_pairs;

	if (!has_bit(device->features, VIRTIO_NET_F_MQ) || !is_ctrl(device, ctrl) ||
		!device->queues[ctrl].vq)
		return net->n_pairs;
	return MIN((unsigned int)net->state->pairs, net->n_pairs);
}

static void hold_calls(const struct net *net, struct device_queue *queue)
{
	struct net_coalesce coalesce = { 0 };

	if (net->device->features & NET_COALESCE_FEATURES && queue->index < NET_RINGS_MAX)
		coalesce = net->saved->single.coalesce[queue->index];
	device_queue_hold_calls(queue, coalesce.max_packets, coalesce.max_usecs);
}

static void net_resume(struct device_group *group)
{
	struct net_pair *pair = group->data;
	bool in_use = pair->index == 0;

	rx_reset(&pair->rx, NULL);
	for (unsigned int i = 0; i < group->n_queues; i++) {
		struct device_queue *queue = group->queues[i];

		queue->data = pair;
		hold_calls(pair->net, queue);
		in_use |= queue->enabled;
		if (queue->index % 2 == 0)
			rx_reset(&pair->rx, queue);
	}
	pair->net->backend->attach(pair, in_use && pair->index < pairs_in_use(pair->net));
	group->host_fd = pair->tap_fd;
}

/* A control ring that starts afresh means a new driver, which expects the device's reset state. */
static void net_queue_started(struct device *device, struct device_queue *queue, bool resumed)
{
	if (resumed || !is_ctrl(device, queue->index) || virtq_base(queue->vq) & 0x7fff7fff)
		return;
	device_pause(device);
	net_reset(device);
	device_resume(device);
}

/* The pairs in use depend on whether the control ring is running. */
static void net_queue_changed(struct device *device, struct device_queue *queue)
{
	if (!is_ctrl(device, queue->index))
		return;
	queue->data = NULL;
	device_pause(device);
	device_resume(device);
}

/* --- Announce --- */

/* RARP request for the guest's own address: every switch on the way learns the port */
static void send_rarp(struct net *net, const uint8_t mac[6])
{
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x80, 0x35, 0, 1, 8, 0, 6,
		4, 0, 3 };

	memcpy(frame + 6, mac, 6);
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 32, mac, 6);
	if (net->backend->announce)
		net->backend->announce(net, frame, sizeof(frame));
}

static void announce(struct device *device, const uint8_t mac[6])
{
	struct net *net = device->data;
	struct net_state state = *net->state;

	send_rarp(net, mac);
	if (!has_bit(device->features, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
		!has_bit(device->features, VIRTIO_NET_F_CTRL_VQ))
		return;
	state.announce = 1;
	net->state = state_commit(net->saved, &state);
	if (force_config(net))
		device_config_changed(device);
}

static void announce_source(struct net *net)
{
	uint8_t mac[6];

	if (state_source(net->saved, mac))
		send_rarp(net, mac);
}

/* The guest goes on here, and has not said so yet. A guest that announces itself needs its driver
 * for that, and what is sent to it meanwhile goes where it was. A reset changes nothing: a VMM
 * resets the device when it stops it. */
static void announce_arrival(struct device *device, uint64_t session)
{
	struct net *net = device->data;

	if (net->saved->session != session) {
		net->saved->session = session;
		net->saved->source = 0;
		net->saved->arrived = 0;
	}
	if (!net->saved->arrived || !device->queues[0].vq)
		return;
	net->saved->arrived = 0;
	announce_source(net);
}

/* An older frontend writes only the flat fields, and leaves the newer ones outdated. */
static void net_desired(struct device *device, const Bh__Desired *desired)
{
	const Bh__NetDesired *net = desired->net;
	bool flat = !net || net->rarp_seq < desired->rarp_seq;
	uint64_t seq = flat ? desired->rarp_seq : net->rarp_seq;
	ProtobufCBinaryData mac = flat ? desired->rarp_mac : net->rarp_mac;

	announce_arrival(device, desired->session);
	if (seq == device->ledger.header->own_seq)
		return;
	device->ledger.header->own_seq = seq;
	if (seq && mac.len == 6)
		announce(device, mac.data);
}

/* --- State --- */

/* A guest whose migration fails goes on here, and the other host has announced it by then. */
static size_t net_save(const struct device *device, uint8_t **ret_data)
{
	const struct net *net = device->data;

	if (!device->queues[0].vq)
		net->saved->arrived = 1;
	return stage_pack(net->saved, device->features, ret_data);
}

/* The driver knows its settings. It is only told that it was asked to announce itself. The address
 * is announced now: what is sent to the guest from here on waits for its rings, and is not lost
 * where it was. */
static int net_load(struct device *device, const struct device_stage *stage, char *why,
	size_t n_why)
{
	struct net *net = device->data;
	struct net_loaded loaded;
	int r = stage_unpack(stage, net->n_pairs, &loaded, why, n_why);

	if (r < 0)
		return r;
	net->state = state_commit_all(net->saved, &loaded.settings);
	net->saved->source = 0;
	state_note_source(net->saved, loaded.source);
	net->saved->arrived = 1;
	announce_source(net);
	net_apply(net);
	if (force_config(net) && loaded.settings.state.announce)
		device->offer.config_seq++;
	return 0;
}

/* --- Life cycle --- */

static const struct net_backend *find_backend(const char *name)
{
	static const struct net_backend *const all[] = { &backend_tap, &backend_echo,
		&backend_null };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}

static void make_pairs(struct net *net)
{
	check(net->n_pairs > 0);
	net->pairs = calloc(net->n_pairs, sizeof(*net->pairs));
	check(net->pairs);
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		struct net_pair *pair = &net->pairs[i];

		pair->net = net;
		pair->index = i;
		pair->tap_fd = -1;
		rx_reset(&pair->rx, NULL);
	}
}

/* Front-ends read GET_QUEUE_NUM either as pairs, or as rings including the control ring. The
 * larger number is returned, and as many pairs are served: those beyond the configured ones
 * transmit through the configured ones. */
static void fill_offer(struct net *net)
{
	struct device_offer *offer = &net->device->offer;

	offer->features = RING_FEATURES | OUR_FEATURES | net->backend->features;
	if (config_value(net->device->config, "mtu")->text)
		offer->features |= BIT(VIRTIO_NET_F_MTU);
	if (net->n_pairs > 1)
		offer->features |= BIT(VIRTIO_NET_F_MQ);
	offer->protocol_features = PROTOCOL_FEATURES;
	offer->queue_num = MIN(2 * net->n_pairs + 1, 127u);
	offer->n_queues = 2 * offer->queue_num;
	offer->queue_size_max = VIRTQ_SIZE_MAX;
	offer->n_groups = net->n_pairs;
	offer->poll_us = (uint32_t)config_value(net->device->config, "poll-us")->number;
}

static int net_prepare(struct device *device)
{
	struct net *net = device->data;

	net->device = device;
	net->n_pairs = (unsigned int)config_value(device->config, "queue-pairs")->number;
	memcpy(net->mac, &config_value(device->config, "mac")->number, sizeof(net->mac));
	net->backend = find_backend(config_value(device->config, "backend")->text);
	check(net->backend);
	fill_offer(net);
	make_pairs(net);
	return 0;
}

static int net_open(struct device *device)
{
	struct net *net = device->data;

	return net->backend->open(net);
}

static int net_start(struct device *device)
{
	struct net *net = device->data;

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		net->pairs[i].group = &device->groups[i];
		device->groups[i].data = &net->pairs[i];
	}
	return 0;
}

static void net_begin(struct device *device)
{
	struct net *net = device->data;

	net->saved = device->state;
	net->state = state_open(net->saved, net->mac);
	(void)force_config(net);
	net_apply(net);
}

static void net_close(struct device *device)
{
	struct net *net = device->data;

	if (!net->pairs)
		return;
	net->backend->close(net);
	free(net->pairs);
}

/* The control ring, which has writable buffers, never has an odd index. */
static bool net_reads_only(unsigned int index)
{
	return index % 2;
}

static void net_describe(struct device *device, char *buf, size_t n)
{
	struct net *net = device->data;

	net->backend->describe(net, buf, n);
}

static void net_trouble(struct device *device, char *buf, size_t n)
{
	struct net *net = device->data;

	if (net->backend->trouble)
		net->backend->trouble(net, buf, n);
}

const struct device_ops net_ops = {
	.type = "net",
	.data_bytes = sizeof(struct net),
	.state_bytes = sizeof(struct net_saved),
	.state_first_bytes = NET_SAVED_FIRST_BYTES,
	.prepare = net_prepare,
	.open = net_open,
	.start = net_start,
	.begin = net_begin,
	.close = net_close,
	.serve = net_serve,
	.group = net_group,
	.serves_disabled = true,
	.resume = net_resume,
	.negotiated = net_negotiated,
	.reset = net_reset,
	.queue_started = net_queue_started,
	.queue_changed = net_queue_changed,
	.reads_only = net_reads_only,
	.desired = net_desired,
	.describe = net_describe,
	.trouble = net_trouble,
	.feature_names = net_feature_names,
	.state_version = STAGE_VERSION,
	.save = net_save,
	.load = net_load,
};
