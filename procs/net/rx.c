/*
 * Receive: 1 load chains until the largest possible frame fits; 2 the back-end writes a frame
 * behind the space for the header; 3 take the chains it fills, write the header, complete them; 4
 * publish the turn; 5 notify.
 *
 * No chain is taken before a frame is in it: a worker that dies before step 4 loses the frames of
 * one turn but no buffers. Loaded chains stay loaded across frames, so small frames do not pay for
 * the room a large one needs.
 *
 * A chain too small for any frame is returned unused, but only if it is first, to preserve order.
 * Frames go into the chains before it as long as they fit. If an ordinary frame does not, those are
 * returned too.
 */
#include "net.h"

#include <endian.h>
#include <string.h>

#include "base/bytes.h"

void rx_reset(struct net_rx *rx, struct device_queue *queue)
{
	rx->queue = queue;
	rx->n_loaded = 0;
	rx->chain_at = rx->first = rx->end = 1;
	rx->bytes = 0;
	rx->headed = false;
	rx->n_frames = 0;
}

static void give_back_first(struct net_rx *rx)
{
	struct virtq *vq = rx->queue->vq;
	struct virtq_chain *chain = virtq_window(vq, 0);

	virtq_take(vq, 1);
	virtq_counters(vq)->errors++;
	virtq_complete(vq, chain, 0);
	rx->n_frames++;
}

void rx_give_back(struct net_rx *rx)
{
	while (rx->n_loaded) {
		give_back_first(rx);
		rx->n_loaded--;
	}
	rx->chain_at = rx->first = rx->end = 1;
	rx->bytes = 0;
	rx->headed = false;
}

static void make_space(struct net_rx *rx, unsigned int n)
{
	unsigned int by = rx->chain_at - 1;

	if (rx->end + n <= 1 + NET_RX_SPANS || by == 0)
		return;
	memmove(&rx->iov[1], &rx->iov[rx->chain_at], (rx->end - rx->chain_at) * sizeof(rx->iov[0]));
	rx->end -= by;
	rx->first -= by;
	rx->chain_at = 1;
}

enum load {
	LOAD_MORE, /* one chain was loaded, or returned */
	LOAD_NONE, /* the driver has made no more available */
	LOAD_FULL, /* no more fit behind the loaded ones */
	LOAD_OVER, /* enough chains were returned in this turn */
};

static bool holds_frame(const struct net_pair *pair, const struct virtq_chain *chain)
{
	return !chain->bad && chain->in_bytes > pair->net->hdr_bytes && chain->n_in <= NET_RX_SPANS;
}

/* The loaded chains either suffice for ordinary frames, or are returned to make room. */
static enum load blocked(const struct net_pair *pair, struct net_rx *rx)
{
	if (rx->bytes >= NET_FRAME_ORDINARY + pair->net->hdr_bytes)
		return LOAD_FULL;
	rx_give_back(rx);
	return rx->n_frames < NET_BATCH ? LOAD_MORE : LOAD_OVER;
}

/* Loads one more chain of the window into iov. */
static enum load load_chain(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	struct virtq *vq = rx->queue->vq;
	struct virtq_chain *chain;

	if (virtq_fill(vq, rx->n_loaded + 1) <= (int)rx->n_loaded)
		return virtq_all_posted(vq) ? LOAD_FULL : LOAD_NONE;
	chain = virtq_window(vq, rx->n_loaded);
	if (!holds_frame(pair, chain)) {
		if (rx->n_loaded)
			return blocked(pair, rx);
		give_back_first(rx);
		return rx->n_frames < NET_BATCH ? LOAD_MORE : LOAD_OVER;
	}
	make_space(rx, chain->n_in);
	if (rx->end + chain->n_in > 1 + NET_RX_SPANS)
		return blocked(pair, rx);
	memcpy(&rx->iov[rx->end], chain->iov + chain->n_out, chain->n_in * sizeof(rx->iov[0]));
	rx->end += chain->n_in;
	rx->bytes += chain->in_bytes;
	rx->n_loaded++;
	return LOAD_MORE;
}

/* Excludes the guest's header, which may cross spans, from the area that frames are read into. */
static void skip_header(struct net_rx *rx, size_t n)
{
	while (n) {
		struct iovec *iov = &rx->iov[rx->first];
		size_t part = MIN(n, iov->iov_len);

		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		n -= part;
		if (iov->iov_len == 0)
			rx->first++;
	}
}

enum rx_status rx_load(struct net_pair *pair, size_t frame_bytes, size_t *ret_room)
{
	struct net_rx *rx = &pair->rx;
	const struct net *net = pair->net;
	size_t need = frame_bytes + net->hdr_bytes;
	enum load load = LOAD_MORE;

	if (!rx->queue || !rx->queue->vq || !rx->queue->enabled)
		return RX_OFF;
	while (load == LOAD_MORE && (net->mergeable ? rx->bytes < need : rx->n_loaded == 0))
		load = load_chain(pair);
	if (virtq_fill(rx->queue->vq, 1) < 0) {
		device_queue_broken(rx->queue, virtq_error(rx->queue->vq));
		rx_reset(rx, NULL);
		return RX_OFF;
	}
	if (rx->n_loaded == 0 || (net->mergeable && rx->bytes < need && load != LOAD_FULL))
		return RX_STARVED;
	if (!rx->headed) {
		skip_header(rx, net->hdr_bytes);
		rx->headed = true;
	}
	*ret_room = (net->mergeable ? rx->bytes : virtq_window(rx->queue->vq, 0)->in_bytes) -
		net->hdr_bytes;
	return RX_MORE;
}

/* The loaded chains that a frame of this size fills; it is in them, so they are long enough. */
static unsigned int chains_for(const struct net_rx *rx, size_t bytes,
	struct virtq_chain **ret_chains)
{
	unsigned int n = 0;
	size_t have = 0;

	do {
		ret_chains[n] = virtq_window(rx->queue->vq, n);
		have += ret_chains[n++]->in_bytes;
	} while (have < bytes);
	return n;
}

/* The next frame starts in the chain after those that were filled. */
static void advance(struct net_rx *rx, struct virtq_chain *const *chains, unsigned int n)
{
	unsigned int spans = 0;

	for (unsigned int i = 0; i < n; i++) {
		spans += chains[i]->n_in;
		rx->bytes -= chains[i]->in_bytes;
	}
	rx->chain_at += spans;
	rx->first = rx->chain_at;
	rx->n_loaded -= n;
	rx->headed = false;
}

void rx_deliver(struct net_pair *pair, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;
	const struct net *net = pair->net;
	struct virtq *vq = rx->queue->vq;
	size_t left = frame_bytes + net->hdr_bytes;
	struct virtq_chain *chains[NET_RX_SPANS];
	unsigned int n = chains_for(rx, left, chains);

	rx->hdr.num_buffers = htole16((uint16_t)n);
	virtq_write(chains[0], 0, &rx->hdr, net->hdr_bytes);
	advance(rx, chains, n);
	virtq_take(vq, n);
	for (unsigned int i = 0; i < n; i++) {
		size_t part = MIN(left, (size_t)chains[i]->in_bytes);

		virtq_complete(vq, chains[i], (uint32_t)part);
		left -= part;
	}
	virtq_counters(vq)->bytes += frame_bytes;
	virtq_count_item(vq);
	rx->n_frames++;
}

void rx_discard(struct net_pair *pair, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;

	virtq_mark_window(rx->queue->vq, MIN(pair->net->hdr_bytes + frame_bytes, rx->bytes));
}

void rx_drop(struct net_pair *pair, enum ledger_drop why)
{
	virtq_count_drop(pair->rx.queue->vq, why);
}

void rx_flush(struct net_rx *rx)
{
	if (!rx->n_frames || !rx->queue || !rx->queue->vq)
		return;
	virtq_publish(rx->queue->vq);
	device_queue_call(rx->queue);
	rx->n_frames = 0;
}
