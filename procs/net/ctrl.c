/*
 * The control ring. Each chain holds one command, with room for an ack byte at its end. A command
 * is copied, checked as a whole, and applied to a copy of the state, which is committed only if all
 * of the command is valid.
 *
 * The loop thread serves this ring, because commands change what all threads read.
 * Spec: virtio 1.3, 5.1.6.5 Control Virtqueue.
 */
#include "net.h"

#include <endian.h>
#include <string.h>

#include "base/bytes.h"
#include "filter.h"

#define CTRL_OK 0
#define CTRL_ERR 1
#define CTRL_BATCH 16 /* chains per turn; drivers wait for each ack, so only one is in flight */

enum {
	CLASS_RX = 0,
	CLASS_MAC = 1,
	CLASS_VLAN = 2,
	CLASS_ANNOUNCE = 3,
	CLASS_MQ = 4,
	CLASS_OFFLOADS = 5,
	CLASS_NOTF_COAL = 6,
};

enum { MQ_VQ_PAIRS_SET = 0, MQ_HASH_CONFIG = 2 };

enum { COAL_TX_SET = 0, COAL_RX_SET = 1, COAL_VQ_SET = 2, COAL_VQ_GET = 3 };

struct command {
	const struct virtq_chain *chain;
	const struct ctrl_context *context;
	struct net_settings *settings; /* a copy; the state is passed by itself */
	struct ctrl_answer *answer;
	uint8_t number; /* the command within the class */
	size_t n;       /* bytes after class and command */
};

static bool read_at(const struct command *command, size_t at, void *buf, size_t n)
{
	return at + n <= command->n && virtq_read(command->chain, 2 + at, buf, n) == n;
}

static bool do_rx(const struct command *command, struct net_state *state)
{
	uint8_t on;

	if (command->number >= _NET_RX_MODE_N || command->n != 1 || !read_at(command, 0, &on, 1) ||
		on > 1)
		return false;
	if (command->number > NET_RX_ALLMULTI &&
		!has_bit(command->context->features, VIRTIO_NET_F_CTRL_RX_EXTRA))
		return false;
	state->modes = (uint8_t)((state->modes & ~(1u << command->number)) |
		(unsigned int)on << command->number);
	return true;
}

/* One of the two tables of MAC_TABLE_SET: a count, then addresses. Advances *at past it. */
static bool read_table(const struct command *command, size_t *at, struct net_state *state,
	uint16_t *ret_n, uint8_t *ret_overflow)
{
	unsigned int base = state->n_uni;
	uint32_t count;

	if (!read_at(command, *at, &count, sizeof(count)))
		return false;
	count = le32toh(count);
	*at += sizeof(count);
	if (count > (command->n - *at) / 6)
		return false;
	*ret_overflow = count > NET_MACS_MAX - base;
	*ret_n = *ret_overflow ? 0 : (uint16_t)count;
	if (*ret_n && !read_at(command, *at, state->macs[base], 6 * (size_t)*ret_n))
		return false;
	*at += 6 * (size_t)count;
	return true;
}

static bool do_mac(const struct command *command, struct net_state *state)
{
	size_t at = 0;
	uint16_t n_uni = 0;
	uint8_t mac[6];

	if (command->number == 1) {
		if (command->n != 6 || !read_at(command, 0, mac, 6) || (mac[0] & 1))
			return false;
		memcpy(state->mac, mac, 6);
		return true;
	}
	if (command->number != 0)
		return false;
	state->n_uni = state->n_multi = 0;
	if (!read_table(command, &at, state, &n_uni, &state->uni_overflow))
		return false;
	state->n_uni = n_uni;
	return read_table(command, &at, state, &state->n_multi, &state->multi_overflow) &&
		at == command->n;
}

static bool do_vlan(const struct command *command, struct net_state *state)
{
	uint16_t vlan;

	if (command->number > 1 || command->n != 2 || !read_at(command, 0, &vlan, sizeof(vlan)))
		return false;
	vlan = le16toh(vlan);
	if (vlan > 4095)
		return false;
	filter_set_vlan(state, vlan, command->number == 0);
	return true;
}

static bool do_announce(const struct command *command, struct net_state *state)
{
	if (command->number != 0)
		return false;
	state->announce = 0;
	return true;
}

/** struct hash_config - what comes before the key; of another size than in memory */
struct hash_config {
	uint32_t types;
	uint16_t reserved[4];
	uint8_t n_key;
} __attribute__((packed));

static bool set_hash(const struct command *command)
{
	struct net_hash hash = { 0 };
	struct hash_config config;

	if (!read_at(command, 0, &config, sizeof(config)) || config.n_key > sizeof(hash.key) ||
		command->n != sizeof(config) + config.n_key)
		return false;
	hash.types = le32toh(config.types);
	hash.n_key = config.n_key;
	if (hash.types & ~HASH_TYPES || (hash.types && !hash.n_key))
		return false;
	if (hash.n_key && !read_at(command, sizeof(config), hash.key, hash.n_key))
		return false;
	command->settings->single.hash = hash;
	return true;
}

static bool do_mq(const struct command *command, struct net_state *state)
{
	uint16_t pairs;

	if (command->number == MQ_HASH_CONFIG)
		return set_hash(command);
	if (command->number != MQ_VQ_PAIRS_SET || command->n != 2 ||
		!read_at(command, 0, &pairs, sizeof(pairs)))
		return false;
	pairs = le16toh(pairs);
	if (pairs == 0 || pairs > command->context->n_pairs)
		return false;
	state->pairs = pairs;
	return true;
}

static bool do_offloads(const struct command *command, struct net_state *state)
{
	uint64_t offloads;

	if (command->number != 0 || command->n != 8 ||
		!read_at(command, 0, &offloads, sizeof(offloads)))
		return false;
	offloads = le64toh(offloads);
	if (offloads & ~(command->context->features & NET_GUEST_OFFLOADS))
		return false;
	state->offloads = offloads;
	state->offloads_set = 1;
	return true;
}

/* --- Coalescing of notifications --- */

static bool read_coalesce(const struct command *command, size_t at, struct net_coalesce *ret)
{
	uint32_t numbers[2];

	if (!read_at(command, at, numbers, sizeof(numbers)))
		return false;
	ret->max_packets = le32toh(numbers[0]);
	ret->max_usecs = le32toh(numbers[1]);
	return true;
}

static bool set_kind(const struct command *command)
{
	struct net_coalesce coalesce;

	if (command->n != 8 || !read_coalesce(command, 0, &coalesce))
		return false;
	for (unsigned int i = command->number == COAL_TX_SET; i < NET_RINGS_MAX; i += 2)
		command->settings->single.coalesce[i] = coalesce;
	return true;
}

/* The ring that a command designates, and its entry. A ring keeps it while the VMM stops or
 * disables it, because only a reset of the device lets a driver do that. */
static struct net_coalesce *find_ring(const struct command *command)
{
	const struct ctrl_context *context = command->context;
	unsigned int n_pairs = has_bit(context->features, VIRTIO_NET_F_MQ) ? context->n_pairs : 1;
	uint16_t index;

	if (!read_at(command, 0, &index, sizeof(index)))
		return NULL;
	index = le16toh(index);
	return index < MIN(2 * n_pairs, NET_RINGS_MAX + 0u) && context->enabled[index]
		? &command->settings->single.coalesce[index]
		: NULL;
}

static bool set_ring(const struct command *command)
{
	struct net_coalesce *coalesce = command->n == 12 ? find_ring(command) : NULL;

	return coalesce && read_coalesce(command, 4, coalesce);
}

static bool get_ring(const struct command *command)
{
	struct ctrl_answer *answer = command->answer;
	const struct net_coalesce *coalesce;

	if (command->chain->in_bytes <= sizeof(answer->coalesce))
		return false;
	answer->n_bytes = sizeof(answer->coalesce);
	coalesce = command->n == 4 ? find_ring(command) : NULL;
	if (!coalesce)
		return false;
	answer->coalesce.max_packets = htole32(coalesce->max_packets);
	answer->coalesce.max_usecs = htole32(coalesce->max_usecs);
	return true;
}

static bool do_coalesce(const struct command *command, struct net_state *state)
{
	switch (command->number) {
	case COAL_TX_SET:
	case COAL_RX_SET:
		return set_kind(command);
	case COAL_VQ_SET:
		return set_ring(command);
	case COAL_VQ_GET:
		return get_ring(command);
	default:
		return false;
	}
}

/* --- All classes --- */

static const struct {
	unsigned int feature; /* required for the class */
	bool (*execute)(const struct command *command, struct net_state *state);
} classes[] = {
	[CLASS_RX] = { VIRTIO_NET_F_CTRL_RX, do_rx },
	[CLASS_MAC] = { VIRTIO_NET_F_CTRL_RX, do_mac }, /* or CTRL_MAC_ADDR: see allowed() */
	[CLASS_VLAN] = { VIRTIO_NET_F_CTRL_VLAN, do_vlan },
	[CLASS_ANNOUNCE] = { VIRTIO_NET_F_GUEST_ANNOUNCE, do_announce },
	[CLASS_MQ] = { VIRTIO_NET_F_MQ, do_mq }, /* or HASH_REPORT: likewise */
	[CLASS_OFFLOADS] = { VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, do_offloads },
	[CLASS_NOTF_COAL] = { VIRTIO_NET_F_NOTF_COAL, do_coalesce }, /* or VQ_NOTF_COAL: likewise */
};

static bool allowed(uint64_t features, uint8_t class, uint8_t number)
{
	if (class >= ARRAY_SIZE(classes))
		return false;
	if (class == CLASS_MAC && number == 1)
		return has_bit(features, VIRTIO_NET_F_CTRL_MAC_ADDR);
	if (class == CLASS_MQ && number == MQ_HASH_CONFIG)
		return has_bit(features, VIRTIO_NET_F_HASH_REPORT);
	if (class == CLASS_NOTF_COAL && number >= COAL_VQ_SET)
		return has_bit(features, VIRTIO_NET_F_VQ_NOTF_COAL);
	return has_bit(features, classes[class].feature);
}

bool ctrl_execute(const struct ctrl_context *context, const struct virtq_chain *chain,
	struct net_settings *settings, struct ctrl_answer *ret_answer)
{
	struct net_settings changed = *settings;
	struct command command = {
		.chain = chain, .context = context, .settings = &changed, .answer = ret_answer
	};
	uint8_t head[2];

	*ret_answer = (struct ctrl_answer){ 0 };
	if (virtq_read(chain, 0, head, sizeof(head)) != sizeof(head) ||
		!allowed(context->features, head[0], head[1]))
		return false;
	command.number = head[1];
	command.n = chain->out_bytes - sizeof(head);
	if (!classes[head[0]].execute(&command, &changed.state))
		return false;
	*settings = changed;
	return true;
}

/* --- The ring --- */

static void put_in_force(struct net *net, const struct net_settings *settings)
{
	device_pause(net->device);
	net->state = state_commit_all(net->saved, settings);
	net_apply(net);
	device_resume(net->device);
	net_show_config(net);
}

static struct ctrl_context context_of(const struct net *net)
{
	const struct device *device = net->device;
	struct ctrl_context context = { .features = device->features, .n_pairs = net->n_pairs };

	for (uint32_t i = 0; i < MIN(device->offer.n_queues, NET_RINGS_MAX + 0u); i++)
		context.enabled[i] = device->queues[i].vq && device->queues[i].enabled;
	return context;
}

/* Returns the bytes that were written. */
static uint32_t execute(struct net *net, struct virtq_chain *chain)
{
	const struct ctrl_context context = context_of(net);
	struct net_settings settings = { *net->state, net->saved->single };
	struct ctrl_answer answer;
	uint8_t ack = CTRL_ERR;

	if (ctrl_execute(&context, chain, &settings, &answer)) {
		ack = CTRL_OK;
		if (!answer.n_bytes)
			put_in_force(net, &settings);
	}
	virtq_write(chain, 0, &answer.coalesce, answer.n_bytes);
	virtq_write(chain, answer.n_bytes, &ack, 1);
	return (uint32_t)answer.n_bytes + 1;
}

static void serve_chain(struct net *net, struct virtq *vq, struct virtq_chain *chain)
{
	virtq_take(vq, 1);
	if (chain->bad || chain->in_bytes < 1) {
		virtq_counters(vq)->errors++;
		virtq_complete(vq, chain, 0);
		return;
	}
	virtq_complete(vq, chain, execute(net, chain));
}

enum device_wait ctrl_round(struct net *net, struct device_queue *queue)
{
	int n = virtq_fill(queue->vq, CTRL_BATCH);

	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	for (int i = 0; i < n; i++)
		serve_chain(net, queue->vq, virtq_window(queue->vq, 0));
	virtq_publish(queue->vq);
	device_queue_call(queue);
	return n == CTRL_BATCH ? DEVICE_MORE : DEVICE_KICK;
}
