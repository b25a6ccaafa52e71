#include "filter.h"

#include <string.h>

#include "base/bytes.h"

static bool has_mode(const struct net_state *state, unsigned int mode)
{
	return state->modes >> mode & 1;
}

static bool wants_vlan(const struct net_state *state, const uint8_t *head, size_t n)
{
	uint16_t vlan;

	if (n < FILTER_HEAD_BYTES || head[12] != 0x81 || head[13] != 0x00)
		return true;
	vlan = (uint16_t)((head[14] & 0x0f) << 8 | head[15]);
	/* VID 0 is a priority tag, which belongs to no VLAN. */
	return vlan == 0 || (state->vlans[vlan / 32] >> vlan % 32 & 1);
}

static bool is_listed(const uint8_t (*macs)[6], size_t n, const uint8_t *mac)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(macs[i], mac, 6) == 0)
			return true;
	return false;
}

static bool wants_multicast(const struct net_state *state, const uint8_t *mac)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (memcmp(mac, broadcast, 6) == 0)
		return !has_mode(state, NET_RX_NOBCAST);
	if (has_mode(state, NET_RX_NOMULTI))
		return false;
	return has_mode(state, NET_RX_ALLMULTI) || state->multi_overflow ||
		is_listed(&state->macs[state->n_uni], state->n_multi, mac);
}

static bool wants_unicast(const struct net_state *state, const uint8_t *mac)
{
	if (has_mode(state, NET_RX_NOUNI))
		return false;
	return has_mode(state, NET_RX_ALLUNI) || state->uni_overflow ||
		memcmp(state->mac, mac, 6) == 0 || is_listed(state->macs, state->n_uni, mac);
}

bool filter_wants(const struct net_state *state, const uint8_t *head, size_t n, bool macs,
	bool vlans)
{
	/* 5.1.6.5.1: promiscuous receives everything, whatever else is set, including any VLAN */
	if (macs && has_mode(state, NET_RX_PROMISC))
		return true;
	if (vlans && !wants_vlan(state, head, n))
		return false;
	if (!macs)
		return true;
	if (n < 6)
		return false;
	return head[0] & 1 ? wants_multicast(state, head) : wants_unicast(state, head);
}

void filter_set_vlan(struct net_state *state, uint16_t vlan, bool in)
{
	uint32_t bit = UINT32_C(1) << vlan % 32;

	if (in)
		state->vlans[vlan / 32] |= bit;
	else
		state->vlans[vlan / 32] &= ~bit;
}
