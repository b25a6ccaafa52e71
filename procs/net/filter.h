#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state.h"

/* Receive filtering: virtio 1.2, 5.1.6.5.1 Packet Receive Filtering and the following sections. */

#define FILTER_HEAD_BYTES 18 /* of a frame: addresses and a possible VLAN tag */

/** filter_wants() - whether a frame passes the guest's filters
 * @n:     bytes available in head; missing bytes match nothing
 * @macs:  filter by address
 * @vlans: filter by VLAN tag */
bool filter_wants(const struct net_state *state, const uint8_t *head, size_t n, bool macs,
	bool vlans);

/** filter_set_vlan() - add a VLAN (0 .. 4095) to the filter, or remove it */
void filter_set_vlan(struct net_state *state, uint16_t vlan, bool in);
