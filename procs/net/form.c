/* The stage that network devices have in a snapshot. It is a part of common/snapshot. */
#include <string.h>

#include "base/bytes.h"
#include "snapshot/snapshot.h"
#include "snapshot/stage.h"
#include "virtio/vhost-user.h"

#define MODES_MAX 0x3f
#define MACS_MAX 1024 /* of each table; a device may hold fewer */
#define MAC_BYTES 6
#define VLANS 4096

static int judge_mac(const Bh__NetStage *net, struct snapshot_fault *fault)
{
	if (net->mac.len != MAC_BYTES)
		return snapshot_refuse(fault, "mac has %zu bytes; it has %d", net->mac.len,
			MAC_BYTES);
	if (net->mac.data[0] & 1)
		return snapshot_refuse(fault, "mac is a group's; it is that of one station");
	return 0;
}

static int judge_source(const Bh__NetStage *net, struct snapshot_fault *fault)
{
	if (net->source.len == 0)
		return 0;
	if (net->source.len != MAC_BYTES)
		return snapshot_refuse(fault, "source has %zu bytes; it has %d or none",
			net->source.len, MAC_BYTES);
	if (net->source.data[0] & 1)
		return snapshot_refuse(fault, "source is a group's; it is that of one station");
	return 0;
}

static int judge_table(const char *what, const ProtobufCBinaryData *macs, size_t n,
	struct snapshot_fault *fault)
{
	if (n > MACS_MAX)
		return snapshot_refuse(fault, "%s has %zu addresses; at most %d are possible", what,
			n, MACS_MAX);
	for (size_t i = 0; i < n; i++)
		if (macs[i].len != MAC_BYTES)
			return snapshot_refuse(fault, "%s has an address of %zu bytes; it has %d",
				what, macs[i].len, MAC_BYTES);
	return 0;
}

/* An entry of a list in which each number below n_numbers is there once at the most. */
static int judge_entry(const char *list_has, uint32_t number, int n_numbers, bool *seen,
	struct snapshot_fault *fault)
{
	if (number >= (uint32_t)n_numbers)
		return snapshot_refuse(fault, "%s %u; the last is %d", list_has, number,
			n_numbers - 1);
	if (seen[number])
		return snapshot_refuse(fault, "%s %u twice", list_has, number);
	seen[number] = true;
	return 0;
}

static int judge_vlans(const Bh__NetStage *net, struct snapshot_fault *fault)
{
	bool seen[VLANS] = { false };
	int r = 0;

	for (size_t i = 0; r == 0 && i < net->n_vlans; i++)
		r = judge_entry("vlans has", net->vlans[i], VLANS, seen, fault);
	return r;
}

static int judge_coalesce(const Bh__NetStage *net, struct snapshot_fault *fault)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };
	int r = 0;

	for (size_t i = 0; r == 0 && i < net->n_coalesce; i++)
		r = judge_entry("coalesce has ring", net->coalesce[i]->index, VHOST_USER_MAX_QUEUES,
			seen, fault);
	return r;
}

static int judge_hash(const Bh__NetStage *net, struct snapshot_fault *fault)
{
	if (net->hash_key.len > UINT8_MAX)
		return snapshot_refuse(fault, "hash_key has %zu bytes; at most %d are possible",
			net->hash_key.len, UINT8_MAX);
	if (net->hash_types && !net->hash_key.len)
		return snapshot_refuse(fault, "hash_types is 0x%x, and hash_key is empty",
			net->hash_types);
	return 0;
}

static int judge_numbers(const Bh__NetStage *net, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	if (net->modes > MODES_MAX)
		return snapshot_refuse(fault, "modes is 0x%x; there are 6 bits", net->modes);
	if (net->queue_pairs < 1 || net->queue_pairs > VHOST_USER_MAX_QUEUES / 2)
		return snapshot_refuse(fault, "queue_pairs is %u; possible are 1 to %d",
			net->queue_pairs, VHOST_USER_MAX_QUEUES / 2);
	if (net->offloads && !net->offloads_set)
		return snapshot_refuse(fault, "offloads is 0x%llx, and offloads_set is not",
			(unsigned long long)net->offloads);
	if (context->features_known && net->offloads & ~context->features)
		return snapshot_refuse(fault,
			"offloads has 0x%llx, which are no features that were acked",
			(unsigned long long)(net->offloads & ~context->features));
	return 0;
}

static int judge_net(const ProtobufCMessage *msg, const struct snapshot_context *context,
	struct snapshot_fault *fault)
{
	const Bh__NetStage *net = (const void *)msg;
	int r = judge_mac(net, fault);

	if (r == 0)
		r = judge_source(net, fault);
	if (r == 0)
		r = judge_numbers(net, context, fault);
	if (r == 0)
		r = judge_table("unicast", net->unicast, net->n_unicast, fault);
	if (r == 0)
		r = judge_table("multicast", net->multicast, net->n_multicast, fault);
	if (r == 0)
		r = judge_vlans(net, fault);
	if (r == 0)
		r = judge_coalesce(net, fault);
	if (r == 0)
		r = judge_hash(net, fault);
	return r;
}

const struct snapshot_stage snapshot_stage_net = {
	.name = "net",
	.version = 1,
	.type = &bh__net_stage__descriptor,
	.judge = judge_net,
};
