/*
 * A device that completes out of order and from other threads, as one of disks will; a worker for
 * tests alone, in the place of bulkhead-net. A request says how long it takes, and is answered with
 * its own number, read when it is completed: through the chain that was taken when it came.
 */
#include "async.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/device.h"
#include "device/thread.h"

#define N_QUEUES 2
#define N_THREADS 2
#define BATCH 16
#define SETTLE_LOOKS 3 /* until what a dead instance had under way counts as over */

/** struct job - a taken chain */
struct job {
	struct job *next;
	struct device_queue *queue;
	struct virtq_chain *chain;
	unsigned int n_held; /* due as soon as the other ring holds that many; 0 = never */
	uint64_t due_ns;     /* and no later than this */
};

struct async {
	struct device *device;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool quit;
	struct job *waiting; /* under the lock, as the next */
	struct job *done[N_QUEUES];
	_Atomic unsigned int n_held[N_QUEUES]; /* taken and not published; the serving thread's */
	pthread_t threads[N_THREADS];
	unsigned int n_threads;
	unsigned int n_looks;
};

/* --- The other threads --- */

static uint64_t due_ns(const struct async *async, const struct job *job)
{
	unsigned int other = 1 - job->queue->index;

	return job->n_held && async->n_held[other] >= job->n_held ? 0 : job->due_ns;
}

static struct job **first_due(struct async *async)
{
	struct job **first = &async->waiting;

	for (struct job **at = first; *at; at = &(*at)->next)
		if (due_ns(async, *at) < due_ns(async, *first))
			first = at;
	return first;
}

/* Until it is due, another one comes, or the end. The lock is held. */
static void wait_for(struct async *async, uint64_t due_ns)
{
	struct timespec until = { .tv_sec = (time_t)(due_ns / 1000000000),
		.tv_nsec = (long)(due_ns % 1000000000) };

	pthread_cond_timedwait(&async->changed, &async->lock, &until);
}

static struct job *take_due(struct async *async)
{
	struct job **first, *job;

	while (!async->quit) {
		first = first_due(async);
		if (!*first) {
			pthread_cond_wait(&async->changed, &async->lock);
		} else if (due_ns(async, *first) > clock_ns()) {
			wait_for(async, (*first)->due_ns);
		} else {
			job = *first;
			*first = job->next;
			return job;
		}
	}
	return NULL;
}

static void answer(const struct job *job)
{
	struct async_request request = { 0 };
	struct async_answer answer;

	virtq_read(job->chain, 0, &request, sizeof(request));
	answer = (struct async_answer){ .id = request.id ^ ASYNC_MAGIC };
	virtq_write(job->chain, 0, &answer, sizeof(answer));
}

static void *thread_main(void *data)
{
	struct async *async = data;
	struct job *job;
	unsigned int i;

	pthread_mutex_lock(&async->lock);
	i = async->device->n_groups + async->n_threads++;
	pthread_mutex_unlock(&async->lock);
	device_thread_begin(async->device, i);
	pthread_mutex_lock(&async->lock);
	while ((job = take_due(async))) {
		pthread_mutex_unlock(&async->lock);
		answer(job);
		pthread_mutex_lock(&async->lock);
		job->next = async->done[job->queue->index];
		async->done[job->queue->index] = job;
		device_queue_wake(job->queue);
	}
	pthread_mutex_unlock(&async->lock);
	device_thread_end(async->device, i);
	return NULL;
}

/* --- The serving thread --- */

static void submit(struct async *async, struct device_queue *queue, struct virtq_chain *chain)
{
	struct async_request request = { 0 };
	struct job *job = calloc(1, sizeof(*job));

	check(job);
	virtq_read(chain, 0, &request, sizeof(request));
	*job = (struct job){ .queue = queue,
		.chain = chain,
		.n_held = request.n_held,
		.due_ns = clock_ns() + request.delay_us * UINT64_C(1000) };
	async->n_held[queue->index]++;
	pthread_mutex_lock(&async->lock);
	job->next = async->waiting;
	async->waiting = job;
	pthread_cond_broadcast(&async->changed);
	pthread_mutex_unlock(&async->lock);
}

static void complete(struct async *async, struct device_queue *queue)
{
	struct job *job;

	pthread_mutex_lock(&async->lock);
	job = async->done[queue->index];
	async->done[queue->index] = NULL;
	pthread_mutex_unlock(&async->lock);
	while (job) {
		struct job *next = job->next;

		virtq_complete(queue->vq, job->chain, sizeof(struct async_answer));
		async->n_held[queue->index]--;
		free(job);
		job = next;
	}
	virtq_publish(queue->vq);
	device_queue_call(queue);
}

static enum device_wait take(struct async *async, struct device_queue *queue, unsigned int n_max)
{
	int n = virtq_fill(queue->vq, n_max);

	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	for (int i = 0; i < n; i++) {
		struct virtq_chain *chain = virtq_window(queue->vq, 0);

		virtq_take(queue->vq, 1);
		submit(async, queue, chain);
	}
	return n == (int)n_max ? DEVICE_MORE : DEVICE_KICK;
}

static enum device_wait async_serve(struct device_queue *queue)
{
	struct async *async = queue->device->data;

	complete(async, queue);
	if (device_queue_may_take(queue))
		return take(async, queue, MIN(device_queue_may_take(queue), (unsigned int)BATCH));
	if (!async->n_held[queue->index])
		device_drained(queue);
	return DEVICE_OTHER;
}

/* --- The table --- */

static void async_drain(struct device_queue *queue)
{
	struct async *async = queue->device->data;

	if (!async->n_held[queue->index] && !device_queue_may_take(queue))
		device_drained(queue);
}

static int async_prepare(struct device *device)
{
	struct async *async = device->data;
	pthread_condattr_t attr;

	async->device = device;
	pthread_mutex_init(&async->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&async->changed, &attr);
	pthread_condattr_destroy(&attr);
	device->offer.features = BIT(28) /* INDIRECT_DESC */ | BIT(29) /* EVENT_IDX */ |
		BIT(30) /* PROTOCOL_FEATURES */ | BIT(32) /* VERSION_1 */ |
		BIT(34) /* RING_PACKED */;
	/* MQ, REPLY_ACK, INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS */
	device->offer.protocol_features = BIT(0) | BIT(3) | BIT(12) | BIT(15);
	device->offer.n_queues = device->offer.queue_num = device->offer.n_groups = N_QUEUES;
	device->offer.queue_size_max = VIRTQ_SIZE_MAX;
	return 0;
}

static int async_start(struct device *device)
{
	struct async *async = device->data;
	int r = 0;

	for (unsigned int i = 0; i < N_THREADS && r == 0; i++)
		r = device_thread_start(&async->threads[i], thread_main, async);
	return r;
}

static int async_settle(struct device *device)
{
	struct async *async = device->data;

	return async->n_looks++ < SETTLE_LOOKS ? -EAGAIN : 0;
}

static void free_jobs(struct job *job)
{
	while (job) {
		struct job *next = job->next;

		free(job);
		job = next;
	}
}

/* What is under way is given up: it is in flight in the ledger, and a successor begins it anew. */
static void async_close(struct device *device)
{
	struct async *async = device->data;

	pthread_mutex_lock(&async->lock);
	async->quit = true;
	pthread_cond_broadcast(&async->changed);
	pthread_mutex_unlock(&async->lock);
	for (unsigned int i = 0; i < N_THREADS && async->threads[i]; i++)
		pthread_join(async->threads[i], NULL);
	free_jobs(async->waiting);
	for (unsigned int i = 0; i < N_QUEUES; i++)
		free_jobs(async->done[i]);
}

static const struct device_ops async_ops = {
	.type = "net",
	.data_bytes = sizeof(struct async),
	.prepare = async_prepare,
	.start = async_start,
	.settle = async_settle,
	.close = async_close,
	.serve = async_serve,
	.drain = async_drain,
};

int main(int argc, char *argv[])
{
	return device_main(argc, argv, &async_ops);
}
