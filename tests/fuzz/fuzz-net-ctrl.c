/*
 * Commands of a hostile driver on the control ring, each split into buffers as the driver likes. A
 * refused command changes nothing; an accepted one leaves settings that a successor takes over
 * unchanged.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/check.h"
#include "header.h"
#include "input.h"
#include "net.h"

#define SPANS_MAX 64
#define COMMAND_MAX 1024

static const uint8_t own_mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };

/* Each buffer is memory of its own, so that sanitizers see a byte too many. */
static void cut(struct virtq_chain *chain, const uint8_t *bytes, size_t n, uint8_t piece)
{
	static struct iovec iov[SPANS_MAX];

	*chain = (struct virtq_chain){ .iov = iov, .out_bytes = (uint32_t)n };
	while (n) {
		size_t len = chain->n_out + 1 < SPANS_MAX ? MIN(n, (size_t)piece + 1) : n;
		void *mem = malloc(len);

		check(mem);
		memcpy(mem, bytes, len);
		iov[chain->n_out++] = (struct iovec){ mem, len };
		bytes += len;
		n -= len;
	}
}

static void release(struct virtq_chain *chain)
{
	for (unsigned int i = 0; i < chain->n_out; i++)
		free(chain->iov[i].iov_base);
}

static void check_taken_over(const struct net_state *state)
{
	static struct net_saved saved;

	saved = (struct net_saved){ .version = NET_STATE_VERSION };
	saved.halves[0] = *state;
	check(same_bytes(state_open(&saved, own_mac), state, sizeof(*state)));
}

static void check_answer(const struct ctrl_answer *answer, uint32_t n_room, bool done)
{
	static const struct net_coalesce none;

	check(answer->n_bytes <= sizeof(answer->coalesce) && answer->n_bytes + 1 <= n_room);
	check(done || same_bytes(&answer->coalesce, &none, sizeof(none)));
}

static void execute(struct input *in, const struct ctrl_context *context,
	struct net_settings *settings)
{
	uint8_t piece = input_u8(in);
	size_t n = MIN((size_t)input_u16(in), (size_t)COMMAND_MAX);
	const uint8_t *bytes = input_view(in, n, &n);
	struct net_settings before = *settings;
	const struct net_state *state = &settings->state;
	struct ctrl_answer answer;
	struct virtq_chain chain;
	bool done;

	cut(&chain, bytes, n, piece);
	chain.in_bytes = 1 + piece % 16;
	done = ctrl_execute(context, &chain, settings, &answer);
	if (!done)
		check(same_bytes(settings, &before, sizeof(before)));
	check_answer(&answer, chain.in_bytes, done);
	check(state->pairs <= context->n_pairs);
	check((state->offloads & ~context->features) == 0);
	check(settings->single.hash.n_key <= HASH_KEY_MAX &&
		!(settings->single.hash.types & ~HASH_TYPES));
	check_taken_over(state);
	release(&chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	struct ctrl_context context = { .features = ~input_u64(&in) };
	struct net_settings settings = { 0 };

	context.n_pairs = 1 + input_u8(&in) % NET_PAIRS_MAX;
	for (unsigned int i = 0; i < NET_RINGS_MAX; i++)
		context.enabled[i] = i % 3 != 2;
	state_reset(&settings.state, own_mac);
	while (in.n)
		execute(&in, &context, &settings);
	return 0;
}
