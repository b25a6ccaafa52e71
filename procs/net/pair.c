/*
 * The thread of a queue pair: serve in turns while there is work; when there is none, ask driver and back-end
 * to wake us, look once more, and sleep. Rings are looked at without waiting for a kick: after a start
 * or a change every turn begins by looking.
 *
 * The gate: the loop's thread closes it and waits until nobody is inside; what the threads share is changed only
 * then. A thread passes the gate once a turn, so a turn is bounded. It is closed at first: threads are made before
 * there is anything to serve, and one that has not come as far as the gate keeps nobody waiting.
 */
#include "net.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "device/thread.h"

#define POLL_MS DEVICE_DEAF_MS /* how often a ring without a kick descriptor is looked at when idle */

static const uint64_t one = 1;

/* --- The gate --- */

void net_pause(struct net *net)
{
	struct net_gate *gate = &net->gate;

	if (gate->depth++)
		return;
	pthread_mutex_lock(&gate->lock);
	atomic_store(&gate->closed, true);
	for (unsigned int i = 0; gate->n_inside && i < net->n_pairs; i++)
		if (write(net->pairs[i].wake_fd, &one, sizeof(one)) < 0)
			continue; /* full: it is awake */
	while (gate->n_inside)
		pthread_cond_wait(&gate->still, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

void net_resume(struct net *net)
{
	struct net_gate *gate = &net->gate;

	check(gate->depth);
	if (--gate->depth)
		return;
	pthread_mutex_lock(&gate->lock);
	atomic_store(&gate->closed, false);
	pthread_cond_broadcast(&gate->go);
	pthread_mutex_unlock(&gate->lock);
}

/* Before the gate, its lock held. false: the thread is to end */
static bool wait_for_gate(struct net_gate *gate)
{
	while (atomic_load(&gate->closed) && !gate->quit)
		pthread_cond_wait(&gate->go, &gate->lock);
	gate->n_inside += !gate->quit;
	return !gate->quit;
}

static bool enter_gate(struct net_gate *gate)
{
	bool in;

	pthread_mutex_lock(&gate->lock);
	in = wait_for_gate(gate);
	pthread_mutex_unlock(&gate->lock);
	return in;
}

static bool pass_gate(struct net_gate *gate)
{
	bool in;

	if (!atomic_load_explicit(&gate->closed, memory_order_acquire))
		return true;
	pthread_mutex_lock(&gate->lock);
	gate->n_inside--;
	pthread_cond_signal(&gate->still);
	in = wait_for_gate(gate);
	pthread_mutex_unlock(&gate->lock);
	return in;
}

/* --- Serving --- */

static bool serve(struct net_pair *pair, enum rx_status *ret_rx)
{
	bool more = false;

	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->vq && !device_queue_waits(pair->tx[i]))
			more |= tx_round(pair, pair->tx[i]);
	*ret_rx = pair->rx.queue ? pair->net->backend->receive(pair) : RX_OFF;
	return more || *ret_rx == RX_MORE;
}

/* Whether something came between the last look and the request to be woken. */
static bool ask_for_kicks(struct net_pair *pair, enum rx_status rx)
{
	bool more = false;

	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->vq && virtq_window_len(pair->tx[i]->vq) == 0 && !device_queue_waits(pair->tx[i]))
			more |= virtq_kick_on(pair->tx[i]->vq);
	if (rx == RX_STARVED && pair->rx.queue && pair->rx.queue->vq)
		more |= virtq_kick_on(pair->rx.queue->vq);
	return more;
}

static void forbid_kicks(struct net_pair *pair)
{
	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->vq)
			virtq_kick_off(pair->tx[i]->vq);
	if (pair->rx.queue && pair->rx.queue->vq)
		virtq_kick_off(pair->rx.queue->vq);
}

static void watch_tap(struct net_pair *pair, bool want)
{
	struct epoll_event event = { .events = want ? EPOLLIN : 0, .data.fd = pair->tap_fd };

	if (pair->tap_fd < 0 || want == pair->tap_armed)
		return;
	if (epoll_ctl(pair->epoll_fd, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, pair->tap_fd, &event) == 0)
		pair->tap_armed = want;
}

/* Edges alone wake us: a descriptor that is ready for ever does so once. */
static void watch_kick(struct net_pair *pair, struct device_queue *queue)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = queue->kick_fd };

	queue->deaf = false;
	if (queue->kick_fd >= 0)
		(void)epoll_ctl(pair->epoll_fd, EPOLL_CTL_ADD, queue->kick_fd, &event);
}

static void drain_kick(struct net_pair *pair, struct device_queue *queue)
{
	if (device_queue_drain_kick(queue))
		return;
	(void)epoll_ctl(pair->epoll_fd, EPOLL_CTL_DEL, queue->kick_fd, NULL);
	queue->deaf = true;
}

static void drain(struct net_pair *pair, int fd)
{
	uint64_t n;

	if (fd == pair->wake_fd) {
		if (read(fd, &n, sizeof(n)) < 0)
			return;
		return;
	}
	if (pair->rx.queue && pair->rx.queue->kick_fd == fd)
		drain_kick(pair, pair->rx.queue);
	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->kick_fd == fd)
			drain_kick(pair, pair->tx[i]);
}

static int sleep_ms(const struct net_pair *pair)
{
	const struct device_queue *rx = pair->rx.queue;

	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->poll || pair->tx[i]->deaf)
			return POLL_MS;
	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->vq && device_queue_waits(pair->tx[i]))
			return DEVICE_WAIT_MS;
	return rx && (rx->poll || rx->deaf) ? POLL_MS : -1;
}

static void listen_again(struct net_pair *pair)
{
	if (pair->rx.queue && pair->rx.queue->deaf)
		watch_kick(pair, pair->rx.queue);
	for (unsigned int i = 0; i < pair->n_tx; i++)
		if (pair->tx[i]->deaf)
			watch_kick(pair, pair->tx[i]);
}

static void sleep_until_work(struct net_pair *pair, enum rx_status rx)
{
	struct epoll_event events[8];
	int n;

	blame_unset();
	watch_tap(pair, rx == RX_IDLE && !pair->tap_failed);
	n = epoll_wait(pair->epoll_fd, events, 8, sleep_ms(pair));
	for (int i = 0; i < n; i++)
		if (events[i].data.fd != pair->tap_fd)
			drain(pair, events[i].data.fd);
	if (n == 0)
		listen_again(pair);
	forbid_kicks(pair);
}

static void give_up_rings(struct net_pair *pair)
{
	static const char why[] = "the file behind guest memory was cut short";

	for (unsigned int i = 0; i < pair->n_tx; i++)
		device_queue_broken(pair->tx[i], why);
	if (pair->rx.queue)
		device_queue_broken(pair->rx.queue, why);
	pair->n_tx = 0;
	pair->rx.queue = NULL;
}

static void *pair_main(void *data)
{
	struct net_pair *pair = data;
	struct device *device = pair->net->device;
	struct net_gate *gate = &pair->net->gate;

	if (!enter_gate(gate))
		return NULL;
	device_thread_begin(device, pair->index);
	do {
		enum rx_status rx;

		if (map_poisoned(device->map))
			give_up_rings(pair);
		if (serve(pair, &rx) || ask_for_kicks(pair, rx))
			continue;
		sleep_until_work(pair, rx);
	} while (pass_gate(gate));
	device_thread_end(device, pair->index);
	return NULL;
}

/* --- What a thread serves --- */

/* The set is made anew: descriptors that are gone leave no trace in it. */
static void make_set(struct net_pair *pair)
{
	struct epoll_event wake = { .events = EPOLLIN, .data.fd = pair->wake_fd };

	fd_close(pair->epoll_fd);
	pair->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	check(pair->epoll_fd >= 0);
	pair->tap_armed = false;
	check(epoll_ctl(pair->epoll_fd, EPOLL_CTL_ADD, pair->wake_fd, &wake) == 0);
	if (pair->rx.queue)
		watch_kick(pair, pair->rx.queue);
	for (unsigned int i = 0; i < pair->n_tx; i++)
		watch_kick(pair, pair->tx[i]);
}

/* A driver with a control ring says how many pairs it looks at, and begins with one; where the VMM keeps that
 * ring for itself, it enables the rings that are looked at. */
static unsigned int pairs_in_use(const struct net *net)
{
	if (!net->ctrl || !has_bit(net->device->features, NET_F_MQ))
		return net->n_pairs;
	return MIN((unsigned int)net->state->pairs, net->n_pairs);
}

void pairs_assign(struct net *net)
{
	unsigned int n = pairs_in_use(net);

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		struct net_pair *pair = &net->pairs[i];
		struct device_queue *rx = &net->device->queues[2 * i];
		bool in_use = i == 0;

		rx_reset(&pair->rx, rx->vq && rx != net->ctrl ? rx : NULL);
		in_use |= pair->rx.queue && rx->enabled;
		pair->n_tx = 0;
		for (unsigned int j = i; 2 * j + 1 < net->device->offer.n_queues; j += net->n_pairs) {
			struct device_queue *tx = &net->device->queues[2 * j + 1];

			if (tx->vq && tx != net->ctrl && pair->n_tx < NET_TX_MAX)
				pair->tx[pair->n_tx++] = tx;
			in_use |= tx->vq && tx->enabled;
		}
		net->backend->attach(pair, in_use && i < n);
		make_set(pair);
	}
}

/* --- Life --- */

int pairs_start(struct net *net)
{
	int r = 0;

	while (net->n_threads < net->n_pairs && r == 0) {
		struct net_pair *pair = &net->pairs[net->n_threads];

		make_set(pair); /* with nothing to serve yet a thread sleeps, too */
		r = device_thread_start(&pair->thread, pair_main, pair);
		net->n_threads += r == 0;
	}
	return r;
}

void pairs_stop(struct net *net)
{
	struct net_gate *gate = &net->gate;

	net_pause(net);
	pthread_mutex_lock(&gate->lock);
	atomic_store(&gate->closed, true);
	gate->quit = true;
	pthread_cond_broadcast(&gate->go);
	pthread_mutex_unlock(&gate->lock);
	while (net->n_threads > 0)
		pthread_join(net->pairs[--net->n_threads].thread, NULL);
}
