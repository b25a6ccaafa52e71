/*
 * Transmit, in bursts: 1 parse a burst of chains; for each of them 2 ask for the memory of one that
 * comes later, 3 copy and check its header, 4 send; 5 take and complete the burst, 6 publish it, 7
 * notify.
 *
 * If the worker dies between 4 and 6, the frames of at most one burst have been sent already: its
 * successor sends them again.
 */
#include "net.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
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

static void read_header(struct net_hdr *hdr, const struct virtq_chain *chain, size_t n_bytes)
{
	if (likely(n_bytes >= sizeof(*hdr) && chain->iov->iov_len >= sizeof(*hdr)))
		memcpy(hdr, chain->iov->iov_base, sizeof(*hdr));
	else
		virtq_read(chain, 0, hdr, MIN(n_bytes, sizeof(*hdr)));
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
	read_header(&hdr, chain, net->hdr_bytes);
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

static void count(const struct device_queue *queue, const struct net *net,
	const struct virtq_chain *chain)
{
	virtq_counters(queue->vq)->bytes += chain->out_bytes - net->hdr_bytes;
	virtq_count_item(queue->vq);
}

/* Returns how many of the n chains are done with; if not all, the back-end is busy. */
static unsigned int send_burst(struct net_pair *pair, const struct device_queue *queue,
	unsigned int n)
{
	struct virtq *vq = queue->vq;
	unsigned int done = 0, asked = 0;

	for (; done < n; done++) {
		const struct virtq_chain *chain = virtq_window(vq, done);
		int r;

		for (; asked < n && asked <= done + NET_AHEAD; asked++)
			virtq_ask(vq, asked, NET_FRAME_ORDINARY);
		r = send_chain(pair, queue, chain);
		if (r == -EAGAIN)
			break;
		if (r == 0)
			count(queue, pair->net, chain);
		fault_point("net-tx-sent", done);
	}
	return done;
}

static void publish(struct device_queue *queue, unsigned int n)
{
	virtq_finish(queue->vq, n, NULL);
	fault_point("net-tx-taken", n);
	virtq_publish(queue->vq);
	fault_point("net-tx-published", n);
	device_queue_call(queue);
}

enum device_wait tx_round(struct net_pair *pair, struct device_queue *queue)
{
	unsigned int done;
	int n;

	if (device_queue_waits(queue))
		return DEVICE_SOON;
	n = virtq_fill(queue->vq, NET_BATCH);
	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	if (n && queue->enabled)
		note_source(pair->net, virtq_window(queue->vq, 0));
	done = send_burst(pair, queue, (unsigned int)n);
	if (done)
		publish(queue, done);
	if (done < (unsigned int)n)
		return DEVICE_OTHER; /* for buffers of the receive ring */
	return done == NET_BATCH ? DEVICE_MORE : DEVICE_KICK;
}
