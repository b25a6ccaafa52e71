#include "state.h"

#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"

void state_reset(struct net_state *state, const uint8_t mac[6])
{
	memset(state, 0, sizeof(*state));
	memcpy(state->mac, mac, sizeof(state->mac));
	/* A driver that never sets filters expects to receive everything. */
	state->modes = 1 << NET_RX_PROMISC;
	state->pairs = 1;
}

static bool state_is_sound(const struct net_state *state)
{
	return state->n_uni + state->n_multi <= NET_MACS_MAX && state->pairs >= 1 &&
		state->modes < 1 << _NET_RX_MODE_N && !(state->mac[0] & 1);
}

struct net_state *state_open(struct net_saved *saved, const uint8_t mac[6])
{
	if (saved->version == 0 || saved->active > 1 ||
		!state_is_sound(&saved->halves[saved->active])) {
		saved->active = 0;
		state_reset(&saved->halves[0], mac);
		saved->version = NET_STATE_VERSION;
	}
	return &saved->halves[saved->active];
}

struct net_state *state_commit(struct net_saved *saved, const struct net_state *changed)
{
	uint32_t other = !saved->active;

	saved->halves[other] = *changed;
	/* All stores of a killed process take effect in program order, so a compiler barrier
	 * suffices. */
	atomic_signal_fence(memory_order_seq_cst);
	saved->active = other;
	return &saved->halves[other];
}

struct net_state *state_commit_all(struct net_saved *saved, const struct net_settings *changed)
{
	saved->single = changed->single;
	return state_commit(saved, &changed->state);
}

void state_note_source(struct net_saved *saved, const uint8_t mac[6])
{
	uint64_t source = 0;

	memcpy(&source, mac, 6);
	if (!(mac[0] & 1) && atomic_load_explicit(&saved->source, memory_order_relaxed) != source)
		atomic_store_explicit(&saved->source, source, memory_order_relaxed);
}

bool state_source(const struct net_saved *saved, uint8_t ret_mac[6])
{
	uint64_t source = atomic_load_explicit(&saved->source, memory_order_relaxed);

	memcpy(ret_mac, &source, 6);
	return source && !(ret_mac[0] & 1);
}
