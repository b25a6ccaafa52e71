/*
 * Transmit: 1 take a chain, 2 copy and check its header, 3 send, 4 complete; 5 publish the turn, 6
 * notify.
 *
 * A chain is in flight in the ledger from 1 to 5. If the worker dies in between, the frames of at
 * most one turn may have been sent already: its successor sends them again.
 */
#include "net.h"

#include <errno.h>

#include "base/fault.h"

static bool usable(const struct net *net, const struct virtq_chain *chain)
{
	return chain->out_bytes >= net->hdr_bytes + NET_FRAME_MIN &&
		chain->out_bytes - net->hdr_bytes <= NET_FRAME_MAX;
}

static int drop(const struct device_queue *queue, enum ledger_drop why)
{
	virtq_count_drop(queue->vq, why);
	return -EBADMSG;
}

/* 0 | -EAGAIN: the back-end is busy | other: the frame was dropped, and counted */
static int send_chain(struct net_pair *pair, const struct device_queue *queue,
	const struct virtq_chain *chain)
{
	struct net *net = pair->net;
	size_t frame_bytes = chain->out_bytes - net->hdr_bytes;
	struct net_hdr hdr = { 0 };
	unsigned int n;
	int r;

	if (chain->bad) {
		virtq_counters(queue->vq)->errors++;
		return drop(queue, LEDGER_DROP_CHAIN);
	}
	if (!queue->enabled)
		return drop(queue, LEDGER_DROP_DISABLED);
	if (!usable(net, chain))
		return drop(queue, LEDGER_DROP_MALFORMED);
	virtq_read(chain, 0, &hdr, net->hdr_bytes);
	fault_point("net", frame_bytes);
	if (header_check_tx(&hdr, frame_bytes, net->device->features))
		return drop(queue, LEDGER_DROP_MALFORMED);
	n = virtq_slice(chain->iov, chain->n_out, net->hdr_bytes, frame_bytes, &pair->tx_iov[1]);
	r = net->backend->send(pair, &hdr, pair->tx_iov, n + 1, frame_bytes);
	return r == 0 || r == -EAGAIN ? r : drop(queue, LEDGER_DROP_HOST);
}

/* Where the guest goes, its address is announced before it speaks. Once in a turn is enough. */
static void note_source(struct net *net, const struct virtq_chain *chain)
{
	uint8_t mac[6];

	if (!chain->bad && usable(net, chain) &&
		virtq_read(chain, net->hdr_bytes + sizeof(mac), mac, sizeof(mac)) == sizeof(mac))
		state_note_source(net->saved, mac);
}

static void count(struct device_queue *queue, const struct net *net,
	const struct virtq_chain *chain)
{
	virtq_counters(queue->vq)->bytes += chain->out_bytes - net->hdr_bytes;
	virtq_count_item(queue->vq);
}

enum device_wait tx_round(struct net_pair *pair, struct device_queue *queue)
{
	int n, done = 0;
	bool wait = false;

	if (device_queue_waits(queue))
		return DEVICE_SOON;
	n = virtq_fill(queue->vq, NET_BATCH);
	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	if (n && queue->enabled)
		note_source(pair->net, virtq_window(queue->vq, 0));
	for (; done < n; done++) {
		struct virtq_chain *chain = virtq_window(queue->vq, 0);
		int r = send_chain(pair, queue, chain);

		if (r == -EAGAIN) {
			wait = true;
			break;
		}
		virtq_take(queue->vq, 1);
		if (r == 0)
			count(queue, pair->net, chain);
		virtq_complete(queue->vq, chain, 0);
	}
	if (done) {
		virtq_publish(queue->vq);
		device_queue_call(queue);
	}
	if (wait)
		return DEVICE_OTHER; /* for buffers of the receive ring */
	return done == NET_BATCH ? DEVICE_MORE : DEVICE_KICK;
}
