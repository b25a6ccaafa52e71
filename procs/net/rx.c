/*
 * Receive, in bursts: 1 parse a burst of chains; for each frame 2 load chains until the largest
 * possible frame fits, and ask for the memory of some that come later, 3 the back-end writes the
 * frame behind the space for the header, 4 write the header; 5 take and complete the chains of the
 * burst, 6 publish them, 7 notify.
 *
 * No chain is taken before a frame is in it: a worker that dies before step 6 loses the frames of
 * one burst but no buffers. Loaded chains stay loaded across frames, so small frames do not pay for
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
#include "base/fault.h"

void rx_reset(struct net_rx *rx, struct device_queue *queue)
{
	rx->queue = queue;
	rx->n_held = rx->n_asked = 0;
	rx->n_loaded = 0;
	rx->chain_at = rx->first = rx->end = 1;
	rx->bytes = 0;
	rx->headed = false;
	rx->n_frames = 0;
}

/* The delivered frames' chains leave the window, to be published. */
static void finish_held(struct net_rx *rx)
{
	virtq_finish(rx->queue->vq, rx->n_held, rx->held_bytes);
	fault_point("net-rx-taken", rx->n_held);
	rx->n_asked -= MIN(rx->n_asked, rx->n_held);
	rx->n_held = 0;
}

static void hold(struct net_rx *rx, uint32_t n_bytes)
{
	rx->held_bytes[rx->n_held++] = n_bytes;
	if (unlikely(rx->n_held == NET_RX_SPANS))
		finish_held(rx);
}

/* The first chain behind the held ones */
static void give_back_first(struct net_rx *rx)
{
	virtq_counters(rx->queue->vq)->errors++;
	hold(rx, 0);
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
	LOAD_BROKEN,
};

/* Parses a burst when no chain is left, and keeps the memory of those that come next on its way.
 * LOAD_MORE: a chain follows the loaded ones. */
static enum load look_ahead(struct net_rx *rx, size_t frame_bytes)
{
	struct virtq *vq = rx->queue->vq;
	unsigned int n = rx->n_held + rx->n_loaded, end;

	if (virtq_window_len(vq) <= n) {
		int have = virtq_fill(vq, n + NET_BATCH);

		if (have < 0)
			return LOAD_BROKEN;
		if ((unsigned int)have <= n)
			return virtq_all_posted(vq) && !rx->n_held ? LOAD_FULL : LOAD_NONE;
	}
	end = MIN(n + 1 + NET_AHEAD, virtq_window_len(vq));
	for (; rx->n_asked < end; rx->n_asked++)
		virtq_ask(vq, rx->n_asked, frame_bytes);
	return LOAD_MORE;
}

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
static enum load load_chain(struct net_pair *pair, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;
	struct virtq *vq = rx->queue->vq;
	const struct virtq_chain *chain;
	enum load load = look_ahead(rx, frame_bytes);

	if (load != LOAD_MORE)
		return load;
	chain = virtq_window(vq, rx->n_held + rx->n_loaded);
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
	const struct iovec *whole = &rx->iov[rx->first];

	rx->hdr_at = whole->iov_len >= n ? whole->iov_base : NULL;
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
		load = load_chain(pair, need);
	if (unlikely(load == LOAD_BROKEN)) {
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
	fault_point("net-rx-loaded", rx->n_held);
	*ret_room =
		(net->mergeable ? rx->bytes : virtq_window(rx->queue->vq, rx->n_held)->in_bytes) -
		net->hdr_bytes;
	return RX_MORE;
}

/* How many of the loaded chains a frame of this size fills; it is in them, so they are long
 * enough. */
static unsigned int chains_for(const struct net_rx *rx, size_t bytes)
{
	unsigned int n = 0;
	size_t have = 0;

	do
		have += virtq_window(rx->queue->vq, rx->n_held + n++)->in_bytes;
	while (have < bytes);
	return n;
}

size_t rx_head(const struct net_rx *rx, size_t frame_bytes, uint8_t *ret_head, size_t n_max)
{
	size_t n = 0;

	n_max = MIN(n_max, frame_bytes);
	for (unsigned int i = rx->first; i < rx->end && n < n_max; i++) {
		size_t part = MIN(rx->iov[i].iov_len, n_max - n);

		memcpy(ret_head + n, rx->iov[i].iov_base, part);
		n += part;
	}
	return n;
}

static void write_hash_header(const struct net_pair *pair, const struct virtq_chain *chain,
	size_t frame_bytes)
{
	const struct net_rx *rx = &pair->rx;
	struct net_hdr_hash hdr = { .hdr = rx->hdr };
	uint8_t head[HASH_HEAD_BYTES];
	size_t n = rx_head(rx, frame_bytes, head, sizeof(head));

	if (pair->net->hash.types)
		hdr.hash_report = htole16(hash_frame(&pair->net->hash, head, n, &hdr.hash_value));
	hdr.hash_value = htole32(hdr.hash_value);
	virtq_write(chain, 0, &hdr, sizeof(hdr));
}

/* Its last word apart, because bytes of which some were just stored are slow to load. */
static void write_header(struct net_pair *pair, unsigned int n_chains, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;
	size_t n_bytes = pair->net->hdr_bytes;
	const struct virtq_chain *chain;
	uint16_t n = htole16((uint16_t)n_chains);

	if (likely(rx->hdr_at && n_bytes == NET_HDR_BYTES)) {
		memcpy(rx->hdr_at, &rx->hdr, NET_HDR_LEGACY_BYTES);
		memcpy(rx->hdr_at + NET_HDR_LEGACY_BYTES, &n, sizeof(n));
		return;
	}
	rx->hdr.num_buffers = n;
	chain = virtq_window(rx->queue->vq, rx->n_held);
	if (n_bytes == NET_HDR_HASH_BYTES)
		write_hash_header(pair, chain, frame_bytes);
	else
		virtq_write(chain, 0, &rx->hdr, n_bytes);
}

/* The first loaded chain holds n_bytes of a frame. The next frame starts in the one behind it. */
static void hold_loaded(struct net_rx *rx, const struct virtq_chain *chain, size_t n_bytes)
{
	rx->n_loaded--;
	rx->bytes -= chain->in_bytes;
	rx->chain_at += chain->n_in;
	if (rx->n_loaded == 0)
		rx->chain_at = rx->end = 1;
	rx->first = rx->chain_at;
	rx->headed = false;
	hold(rx, (uint32_t)n_bytes);
	fault_point("net-rx-held", rx->n_held);
}

void rx_deliver(struct net_pair *pair, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;
	struct virtq *vq = rx->queue->vq;
	size_t left = frame_bytes + pair->net->hdr_bytes;
	unsigned int n = chains_for(rx, left);

	write_header(pair, n, frame_bytes);
	for (; n; n--) {
		const struct virtq_chain *chain = virtq_window(vq, rx->n_held);
		size_t part = MIN(left, (size_t)chain->in_bytes);

		hold_loaded(rx, chain, part);
		left -= part;
	}
	virtq_counters(vq)->bytes += frame_bytes;
	virtq_count_item(vq);
	rx->n_frames++;
}

void rx_discard(struct net_pair *pair, size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;

	finish_held(rx);
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
	finish_held(rx);
	virtq_publish(rx->queue->vq);
	fault_point("net-rx-published", rx->n_frames);
	device_queue_call(rx->queue);
	rx->n_frames = 0;
}
