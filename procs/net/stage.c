/*
 * The driver's settings by the control ring, as they leave one Bulkhead and enter another. The form
 * of a stage is judged by form.c, before it comes here.
 */
#include "stage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "filter.h"
#include "state.pb-c.h"

#define VLANS_MAX 4096

/* --- Pack --- */

static ProtobufCBinaryData mac_of(const uint8_t *mac)
{
	return (ProtobufCBinaryData){ .len = 6, .data = (uint8_t *)mac };
}

static size_t list_vlans(const struct net_state *state, uint32_t *vlans)
{
	size_t n = 0;

	for (uint32_t vlan = 0; vlan < VLANS_MAX; vlan++)
		if (state->vlans[vlan / 32] >> vlan % 32 & 1)
			vlans[n++] = vlan;
	return n;
}

static size_t list_coalesce(const struct net_saved *saved, Bh__CoalesceOfRing *rings,
	Bh__CoalesceOfRing **list)
{
	size_t n = 0;

	for (uint32_t i = 0; i < NET_RINGS_MAX; i++) {
		const struct net_coalesce *coalesce = &saved->single.coalesce[i];

		if (!coalesce->max_packets && !coalesce->max_usecs)
			continue;
		bh__coalesce_of_ring__init(&rings[n]);
		rings[n].index = i;
		rings[n].max_packets = coalesce->max_packets;
		rings[n].max_usecs = coalesce->max_usecs;
		list[n] = &rings[n];
		n++;
	}
	return n;
}

size_t stage_pack(const struct net_saved *saved, uint64_t features, uint8_t **ret_data)
{
	const struct net_state *state = &saved->halves[saved->active];
	uint8_t source[6];
	Bh__NetStage msg = BH__NET_STAGE__INIT;
	ProtobufCBinaryData macs[NET_MACS_MAX];
	uint32_t vlans[VLANS_MAX];
	Bh__CoalesceOfRing rings[NET_RINGS_MAX], *coalesce[NET_RINGS_MAX];

	for (size_t i = 0; i < state->n_uni + (size_t)state->n_multi; i++)
		macs[i] = mac_of(state->macs[i]);
	msg.mac = mac_of(state->mac);
	msg.modes = state->modes;
	msg.unicast_overflow = state->uni_overflow;
	msg.multicast_overflow = state->multi_overflow;
	msg.unicast = macs;
	msg.n_unicast = state->n_uni;
	msg.multicast = macs + state->n_uni;
	msg.n_multicast = state->n_multi;
	msg.vlans = vlans;
	msg.n_vlans = list_vlans(state, vlans);
	msg.queue_pairs = state->pairs;
	msg.offloads_set = state->offloads_set;
	msg.offloads = state->offloads_set ? state->offloads & features : 0;
	msg.announce = state->announce;
	msg.coalesce = coalesce;
	msg.n_coalesce =
		features & NET_COALESCE_FEATURES ? list_coalesce(saved, rings, coalesce) : 0;
	if (has_bit(features, VIRTIO_NET_F_HASH_REPORT)) {
		msg.hash_types = saved->single.hash.types;
		msg.hash_key.data = (uint8_t *)saved->single.hash.key;
		msg.hash_key.len = MIN(saved->single.hash.n_key, sizeof(saved->single.hash.key));
	}
	if (state_source(saved, source))
		msg.source = mac_of(source);
	*ret_data = malloc(bh__net_stage__get_packed_size(&msg) + 1);
	check(*ret_data);
	return bh__net_stage__pack(&msg, *ret_data);
}

/* --- Unpack --- */

/** struct verdict - why a stage is refused */
struct verdict {
	char *why;
	size_t n_why;
};

static int refuse(const struct verdict *verdict, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(const struct verdict *verdict, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(verdict->why, verdict->n_why, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* What the device does not have: all else about a stage is form. */
static int judge(const Bh__NetStage *msg, uint64_t features, unsigned int n_pairs,
	const struct verdict *verdict)
{
	uint64_t unknown = msg->offloads & ~(features & NET_GUEST_OFFLOADS);

	if (msg->n_unicast + msg->n_multicast > NET_MACS_MAX)
		return refuse(verdict,
			"stage net: unicast and multicast have %zu addresses; the device has room for %d",
			msg->n_unicast + msg->n_multicast, NET_MACS_MAX);
	if (msg->queue_pairs > n_pairs)
		return refuse(verdict, "stage net: queue_pairs is %u; this device has %u",
			msg->queue_pairs, n_pairs);
	for (size_t i = 0; i < msg->n_coalesce; i++)
		if (msg->coalesce[i]->index >= NET_RINGS_MAX)
			return refuse(verdict,
				"stage net: coalesce has ring %u; this device has settings of %d",
				msg->coalesce[i]->index, NET_RINGS_MAX);
	if (msg->hash_types & ~HASH_TYPES)
		return refuse(verdict, "stage net: hash_types is 0x%x; this device has 0x%x",
			msg->hash_types, HASH_TYPES);
	if (msg->hash_key.len > HASH_KEY_MAX)
		return refuse(verdict,
			"stage net: hash_key has %zu bytes; this device has room for %d",
			msg->hash_key.len, HASH_KEY_MAX);
	if (unknown)
		return refuse(verdict, "stage net: offloads has bit %d, which no driver can set",
			__builtin_ctzll(unknown));
	return 0;
}

static uint16_t copy_macs(uint8_t (*to)[6], const ProtobufCBinaryData *macs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memcpy(to[i], macs[i].data, 6);
	return (uint16_t)n;
}

static void fill_source(uint8_t source[6], const Bh__NetStage *msg)
{
	static const uint8_t none[6] = { 1 };

	memcpy(source, msg->source.len ? msg->source.data : none, 6);
}

static void fill_coalesce(struct net_coalesce coalesce[NET_RINGS_MAX], const Bh__NetStage *msg)
{
	memset(coalesce, 0, NET_RINGS_MAX * sizeof(*coalesce));
	for (size_t i = 0; i < msg->n_coalesce; i++)
		coalesce[msg->coalesce[i]->index] =
			(struct net_coalesce){ .max_packets = msg->coalesce[i]->max_packets,
				.max_usecs = msg->coalesce[i]->max_usecs };
}

static void fill_hash(struct net_hash *hash, const Bh__NetStage *msg)
{
	*hash = (struct net_hash){ .types = msg->hash_types, .n_key = (uint8_t)msg->hash_key.len };
	if (hash->n_key)
		memcpy(hash->key, msg->hash_key.data, hash->n_key);
}

static void fill(struct net_state *state, const Bh__NetStage *msg)
{
	*state = (struct net_state){ .modes = (uint8_t)msg->modes,
		.uni_overflow = msg->unicast_overflow,
		.multi_overflow = msg->multicast_overflow,
		.announce = msg->announce,
		.offloads_set = msg->offloads_set,
		.pairs = (uint16_t)msg->queue_pairs,
		.offloads = msg->offloads };
	memcpy(state->mac, msg->mac.data, 6);
	state->n_uni = copy_macs(state->macs, msg->unicast, msg->n_unicast);
	state->n_multi = copy_macs(&state->macs[state->n_uni], msg->multicast, msg->n_multicast);
	for (size_t i = 0; i < msg->n_vlans; i++)
		filter_set_vlan(state, (uint16_t)msg->vlans[i], true);
}

int stage_unpack(const struct device_stage *stage, unsigned int n_pairs, struct net_loaded *ret,
	char *why, size_t n_why)
{
	const struct verdict verdict = { why, n_why };
	Bh__NetStage *msg = bh__net_stage__unpack(NULL, stage->n_bytes, stage->data);
	int r;

	if (!msg)
		return refuse(&verdict, "stage net: there is no memory for it");
	r = judge(msg, stage->features, n_pairs, &verdict);
	if (r == 0) {
		fill(&ret->settings.state, msg);
		fill_source(ret->source, msg);
		fill_coalesce(ret->settings.single.coalesce, msg);
		fill_hash(&ret->settings.single.hash, msg);
	}
	bh__net_stage__free_unpacked(msg, NULL);
	return r;
}
