/*
 * Memory tells which transfers there are, and this process works at those whose turn it is ours: at
 * each on its own, none waiting for another. One that is told of no more, or whose next step is not
 * ours, is let go.
 */
#include "snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"
#include "bus/bus.h"
#include "config/config.h"
#include "fd/fdstore.h"
#include "work.h"

#define RETRY_USEC 20000

struct snapshot {
	struct proc *proc;
	struct hands hands;
	struct vault_link *vault;
	struct bus_client *bus;
	sd_event_source *retry;
	uint64_t seq; /* of memory's changes; 0 = all is asked for anew */
	struct work *works[CONFIG_DEVICES_MAX];
	size_t n_works;
};

static void watch(struct snapshot *snapshot);

/* --- What there is to do --- */

static bool is_ours(const Bh__Transfer *transfer)
{
	return transfer->step ==
		(transfer->load ? BH__TRANSFER__STEP__FIRST : BH__TRANSFER__STEP__SECOND);
}

static struct work *find(const struct snapshot *snapshot, const Bh__Transfer *transfer)
{
	for (size_t i = 0; i < snapshot->n_works; i++)
		if (work_is_of(snapshot->works[i], transfer))
			return snapshot->works[i];
	return NULL;
}

static bool is_wanted(const struct work *work, const Bh__WatchTransfersReply *reply)
{
	for (size_t i = 0; i < reply->n_transfers; i++)
		if (work_is_of(work, reply->transfers[i]))
			return is_ours(reply->transfers[i]);
	return false;
}

static void let_go(struct snapshot *snapshot, const Bh__WatchTransfersReply *reply)
{
	for (size_t i = snapshot->n_works; i-- > 0;) {
		if (is_wanted(snapshot->works[i], reply))
			continue;
		work_end(snapshot->works[i]);
		snapshot->works[i] = snapshot->works[--snapshot->n_works];
	}
}

/* One that is saved without its state comes with another answer. */
static void begin(struct snapshot *snapshot, const Bh__Transfer *transfer)
{
	struct work *work;

	if ((!transfer->load && transfer->state.len == 0) ||
		snapshot->n_works == CONFIG_DEVICES_MAX)
		return;
	work = work_begin(&snapshot->hands, transfer);
	if (work)
		snapshot->works[snapshot->n_works++] = work;
	else
		log_device(LOG_ERR, transfer->device, "there is no memory to move its state");
}

static void take(struct snapshot *snapshot, const Bh__WatchTransfersReply *reply)
{
	let_go(snapshot, reply);
	for (size_t i = 0; i < reply->n_transfers; i++) {
		const Bh__Transfer *transfer = reply->transfers[i];
		struct work *work = find(snapshot, transfer);

		if (!is_ours(transfer))
			continue;
		if (!work)
			begin(snapshot, transfer);
		else if (snapshot->seq == 0)
			work_go_on(work);
	}
	snapshot->seq = reply->transfer_seq;
}

/* --- Memory --- */

static void ask_anew(struct snapshot *snapshot)
{
	snapshot->seq = 0;
	timer_after(snapshot->retry, RETRY_USEC);
}

static void on_transfers(void *data, int error, const Bh__Envelope *reply)
{
	struct snapshot *snapshot = data;

	if (error) {
		ask_anew(snapshot);
		return;
	}
	take(snapshot, reply->watch_transfers_reply);
	watch(snapshot);
}

static void watch(struct snapshot *snapshot)
{
	Bh__WatchTransfers request = BH__WATCH_TRANSFERS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	request.transfer_seq = snapshot->seq;
	request.patient = true;
	body.body_case = BH__ENVELOPE__BODY_WATCH_TRANSFERS;
	body.watch_transfers = &request;
	if (bus_client_call(snapshot->bus, &body, BUS_WATCH_MS, on_transfers, snapshot) < 0)
		ask_anew(snapshot);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	watch(data);
	return 0;
}

/* --- Life --- */

static void on_greeted(void *data, int error, const uint64_t *tokens, struct fdset *fds)
{
}

static int open_bus(struct snapshot *snapshot)
{
	struct proc *proc = snapshot->proc;
	_cleanup_free_ char *bus = proc_bus_path(proc, proc->peer);
	_cleanup_free_ char *link = proc_link_path(proc, proc->peer);
	int r = bus_client_listen(&snapshot->bus, proc->event, bus, proc_user(proc, "memory"));

	if (r == 0)
		r = vault_new(&snapshot->vault, link, NULL);
	if (r == 0)
		r = vault_watch(snapshot->vault, proc->event, NULL, NULL);
	if (r == 0)
		r = vault_ask_greet(snapshot->vault, on_greeted, NULL);
	if (r == 0)
		r = sd_event_add_time_relative(proc->event, &snapshot->retry, CLOCK_MONOTONIC, 0,
			1000, on_retry, snapshot);
	if (r < 0)
		log_error("cannot reach the memory manager: %s", strerror(-r));
	return r;
}

int snapshot_start(struct proc *proc)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int r;

	check(snapshot);
	proc->data = snapshot;
	snapshot->proc = proc;
	r = open_bus(snapshot);
	if (r < 0)
		return r;
	sd_event_source_set_enabled(snapshot->retry, SD_EVENT_OFF);
	snapshot->hands = (struct hands){
		.event = proc->event, .vault = snapshot->vault, .bus = snapshot->bus
	};
	fdstore_drop_rest();
	watch(snapshot);
	proc_ready(proc);
	return 0;
}

void snapshot_stop(struct proc *proc)
{
	struct snapshot *snapshot = proc->data;

	if (!snapshot)
		return;
	bus_client_free(snapshot->bus);
	for (size_t i = 0; i < snapshot->n_works; i++)
		work_end(snapshot->works[i]);
	sd_event_source_disable_unref(snapshot->retry);
	vault_free(snapshot->vault);
	free(snapshot);
	proc->data = NULL;
}
