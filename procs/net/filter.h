#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state.h"

/* Which frames the guest wants to receive: virtio 1.2, 5.1.6.5.1 Packet Receive Filtering and
 * following. */

#define FILTER_HEAD_BYTES 18 /* of a frame: addresses, and a VLAN tag if there is one */

/** filter_wants() - whether the guest wants a frame that begins so
 * @n:     bytes of head that are there; what is not there matches nothing
 * @macs:  filter by address
 * @vlans: filter by VLAN tag */
bool filter_wants(const struct net_state *state, const uint8_t *head, size_t n, bool macs,
	bool vlans);

/** filter_set_vlan() - let a VLAN (0 .. 4095) in, or no more */
void filter_set_vlan(struct net_state *state, uint16_t vlan, bool in);
