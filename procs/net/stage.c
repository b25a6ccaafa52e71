/*
 * The driver's settings by the control ring, as they leave one Bulkhead and enter another. A state
 * is judged by the rules that the control ring has: what a driver could not have set is refused.
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
#include "state.h"
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

size_t stage_pack(const struct net_state *state, uint64_t features, uint8_t **ret_data)
{
	Bh__NetStage msg = BH__NET_STAGE__INIT;
	ProtobufCBinaryData macs[NET_MACS_MAX];
	uint32_t vlans[VLANS_MAX];

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
	msg.offloads = state->offloads & features;
	msg.announce = state->announce;
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

static int read_mac(const Bh__NetStage *msg, struct net_state *state,
	const struct verdict *verdict)
{
	if (msg->mac.len != 6)
		return refuse(verdict, "net: mac has %zu bytes; 6 are due", msg->mac.len);
	if (msg->mac.data[0] & 1)
		return refuse(verdict, "net: mac is a multicast address");
	memcpy(state->mac, msg->mac.data, 6);
	return 0;
}

static int read_table(const char *field, const ProtobufCBinaryData *macs, size_t n,
	struct net_state *state, const struct verdict *verdict)
{
	size_t at = state->n_uni + (size_t)state->n_multi;

	if (n > NET_MACS_MAX - at)
		return refuse(verdict, "net: %s has %zu addresses; %d in both tables are possible",
			field, n, NET_MACS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (macs[i].len != 6)
			return refuse(verdict, "net: %s has an address of %zu bytes; 6 are due",
				field, macs[i].len);
		memcpy(state->macs[at + i], macs[i].data, 6);
	}
	return 0;
}

static int read_filters(const Bh__NetStage *msg, struct net_state *state,
	const struct verdict *verdict)
{
	if (msg->modes >= 1 << _NET_RX_MODE_N)
		return refuse(verdict, "net: modes 0x%x; bits 0 to %d are known", msg->modes,
			_NET_RX_MODE_N - 1);
	state->modes = (uint8_t)msg->modes;
	state->uni_overflow = msg->unicast_overflow;
	state->multi_overflow = msg->multicast_overflow;
	if (read_table("unicast", msg->unicast, msg->n_unicast, state, verdict) < 0)
		return -EINVAL;
	state->n_uni = (uint16_t)msg->n_unicast;
	if (read_table("multicast", msg->multicast, msg->n_multicast, state, verdict) < 0)
		return -EINVAL;
	state->n_multi = (uint16_t)msg->n_multicast;
	return 0;
}

static int read_vlans(const Bh__NetStage *msg, struct net_state *state,
	const struct verdict *verdict)
{
	for (size_t i = 0; i < msg->n_vlans; i++) {
		if (msg->vlans[i] >= VLANS_MAX)
			return refuse(verdict, "net: vlans has %u; ids go up to %d", msg->vlans[i],
				VLANS_MAX - 1);
		filter_set_vlan(state, (uint16_t)msg->vlans[i], true);
	}
	return 0;
}

static int read_offloads(const Bh__NetStage *msg, uint64_t features, struct net_state *state,
	const struct verdict *verdict)
{
	uint64_t unknown = msg->offloads & ~(features & NET_GUEST_OFFLOADS);

	if (unknown)
		return refuse(verdict, "net: offloads has bit %d, which was not acked",
			__builtin_ctzll(unknown));
	state->offloads_set = msg->offloads_set;
	state->offloads = msg->offloads;
	return 0;
}

static int read_rest(const Bh__NetStage *msg, const struct device_stage *stage,
	unsigned int n_pairs, struct net_state *state, const struct verdict *verdict)
{
	if (msg->queue_pairs < 1 || msg->queue_pairs > n_pairs)
		return refuse(verdict, "net: queue_pairs %u; this device has queue-pairs = %u",
			msg->queue_pairs, n_pairs);
	state->pairs = (uint16_t)msg->queue_pairs;
	state->announce = msg->announce;
	return read_offloads(msg, stage->features, state, verdict);
}

int stage_unpack(const struct device_stage *stage, unsigned int n_pairs,
	struct net_state *ret_state, char *why, size_t n_why)
{
	const struct verdict verdict = { why, n_why };
	struct net_state state = { .pairs = 0 };
	Bh__NetStage *msg = bh__net_stage__unpack(NULL, stage->n_bytes, stage->data);
	int r;

	if (!msg)
		return refuse(&verdict, "net: the stage is not in form");
	r = read_mac(msg, &state, &verdict);
	if (r == 0)
		r = read_filters(msg, &state, &verdict);
	if (r == 0)
		r = read_vlans(msg, &state, &verdict);
	if (r == 0)
		r = read_rest(msg, stage, n_pairs, &state, &verdict);
	bh__net_stage__free_unpacked(msg, NULL);
	if (r == 0)
		*ret_state = state;
	return r;
}
