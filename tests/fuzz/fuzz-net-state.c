/*
 * The settings that a worker of net finds in its ledger, written by a predecessor of any release
 * that may have been compromised. They are taken over or reset, and received frames are filtered
 * by them.
 */
#include "base/bytes.h"
#include "base/check.h"
#include "filter.h"
#include "input.h"
#include "state.h"

static const uint8_t own_mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };

static void check_sound(const struct net_saved *saved, const struct net_state *state)
{
	check(saved->version && saved->active <= 1 && state == &saved->halves[saved->active]);
	check((size_t)state->n_uni + state->n_multi <= NET_MACS_MAX);
	check(state->pairs >= 1 && !(state->mac[0] & 1));
}

static void receive(struct input *in, const struct net_state *state)
{
	uint8_t how = input_u8(in), head[FILTER_HEAD_BYTES];
	size_t n = input_bytes(in, head, how % (FILTER_HEAD_BYTES + 1));

	(void)filter_wants(state, head, n, how & 32, how & 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct net_saved saved;
	struct input in = { data, n };
	struct net_state *state, copy;

	saved.version = input_u8(&in);
	saved.active = input_u8(&in);
	saved.active = saved.active < 128 ? saved.active & 1 : input_u32(&in);
	input_bytes(&in, saved.halves, sizeof(saved.halves));
	state = state_open(&saved, own_mac);
	check_sound(&saved, state);
	copy = *state;
	filter_set_vlan(&copy, input_u16(&in) % 4096, true);
	state = state_commit(&saved, &copy);
	check(state_open(&saved, own_mac) == state && same_bytes(state, &copy, sizeof(copy)));
	while (in.n)
		receive(&in, state);
	return 0;
}
