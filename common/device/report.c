/*
 * The observed half of the record: what the device offers, and how much of the desired half is
 * applied.
 */
#include <stdlib.h>

#include "base/blame.h"
#include "device/image.h"
#include "device/log.h"
#include "device/tell.h"

#define DESCRIPTION_BYTES 128

/* The position of a ring that has run since its last start is in the ledger; otherwise the VMM's
 * is still valid. A running ring has none, because its thread moves it concurrently. */
static uint32_t position_of(struct device *device, const Bh__Ring *ring)
{
	const struct device_queue *queue = &device->queues[ring->index];
	const struct ledger_queue *slot = &device->ledger.queues[ring->index];

	if (!queue->vq && ring->start_id && slot->start_id == ring->start_id)
		return ledger_base(slot);
	return ring->position;
}

static void fill_ring_state(struct device *device, const Bh__Ring *ring, Bh__RingState *ret)
{
	struct ring_state *state = &device->core->rings[ring->index];

	bh__ring_state__init(ret);
	ret->index = ring->index;
	ret->running = device->queues[ring->index].vq != NULL;
	ret->position = position_of(device, ring);
	ret->start_id = ring->start_id;
	if (state->error) {
		ret->error = (char *)state->error;
		ret->error_start_id = state->error_start_id;
	} else if (*device->core->quarantine && ring->started) {
		ret->error = device->core->quarantine;
		ret->error_start_id = ring->start_id;
	}
}

static void on_reported(void *data, int error, const Bh__Envelope *reply)
{
	struct device *device = data;

	device->core->report_open = false;
	if (error)
		device->core->report_due = true;
	else if (!device->core->started) {
		device->core->started = true;
		proc_ready(device->proc);
		tell_ready(device);
	}
	if (!error)
		tell_state(device);
	if (!error && reply->report_observed_reply->not_deposited && shmem_deposit_again(device))
		device->core->report_due = true;
	if (device->core->report_due)
		device_report(device);
}

/* Rings that the VMM never set up are not reported. */
static size_t fill_rings(struct device *device, Bh__RingState *states, Bh__RingState **list)
{
	const Bh__Desired *applied = device->core->applied;
	size_t n = 0;

	for (size_t i = 0; i < applied->n_rings && n < VHOST_USER_MAX_QUEUES; i++) {
		if (applied->rings[i]->index >= device->offer.n_queues)
			continue;
		fill_ring_state(device, applied->rings[i], &states[n]);
		list[n] = &states[n];
		n++;
	}
	return n;
}

/** struct figures - the device's own, as a report has them */
struct figures {
	Bh__Figure figures[DEVICE_FIGURES_MAX], *list[DEVICE_FIGURES_MAX];
};

static void fill_figures(struct device *device, struct figures *ret, Bh__Observed *observed)
{
	struct device_figure own[DEVICE_FIGURES_MAX];
	size_t n = device->ops->figures ? device->ops->figures(device, own) : 0;

	for (size_t i = 0; i < n; i++) {
		bh__figure__init(&ret->figures[i]);
		ret->figures[i].name = (char *)own[i].name;
		ret->figures[i].unit = (char *)own[i].unit;
		ret->figures[i].value = own[i].value;
		ret->list[i] = &ret->figures[i];
	}
	observed->figures = ret->list;
	observed->n_figures = n;
}

/* A VMM that keeps a log migrates its guest. When all rings stand it asks for the state next, and
 * the guest stands still meanwhile: so it goes along. A worker that dies of that is quarantined
 * like one that dies of a record. */
static void add_state(struct device *device, Bh__ReportObserved *report)
{
	const struct device_core *core = device->core;
	char why[IMAGE_WHY_BYTES];

	if (!device->ops->save || !device_is_suspended(device) || !log_token(core->applied) ||
		*core->quarantine)
		return;
	blame_set(&device->ledger.header->blame, LEDGER_BLAME_RECORD, core->generation);
	(void)image_save(device, &report->state.data, &report->state.len, why);
	blame_finish();
}

void device_report(struct device *device)
{
	struct device_core *core = device->core;
	const struct device_offer *offer = &device->offer;
	Bh__Observed observed = BH__OBSERVED__INIT;
	Bh__ReportObserved report = BH__REPORT_OBSERVED__INIT;
	Bh__Envelope msg = BH__ENVELOPE__INIT;
	Bh__RingState states[VHOST_USER_MAX_QUEUES], *list[VHOST_USER_MAX_QUEUES];
	char description[DESCRIPTION_BYTES] = "", trouble[DESCRIPTION_BYTES] = "";
	struct shmem_report shmem;
	struct figures figures;

	core->report_due = true;
	if (core->report_open || !core->applied || !core->bus)
		return;
	if (device->ops->describe)
		device->ops->describe(device, description, sizeof(description));
	if (device->ops->trouble)
		device->ops->trouble(device, trouble, sizeof(trouble));
	observed.generation = ++core->report_generation;
	observed.applied = core->applied->generation;
	observed.apply_error = (char *)(core->apply_error ?: "");
	observed.features = offer->features;
	observed.protocol_features = image_protocol_features(device);
	observed.n_queues = offer->n_queues;
	observed.queue_num = offer->queue_num;
	observed.queue_size_max = offer->queue_size_max;
	observed.max_mem_slots = MAP_REGIONS_MAX;
	observed.config.data = (uint8_t *)offer->config;
	observed.config.len = offer->config_bytes;
	observed.config_writable.data = (uint8_t *)offer->config_writable;
	observed.config_writable.len = offer->config_bytes;
	observed.config_seq = offer->config_seq;
	observed.backend = description;
	observed.trouble = trouble;
	observed.quarantine = device->core->quarantine;
	observed.n_rings = fill_rings(device, states, list);
	observed.rings = list;
	shmem_report_init(&shmem, device, &observed);
	fill_figures(device, &figures, &observed);
	report.device = device->config->name;
	report.observed = &observed;
	add_state(device, &report);
	msg.body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED;
	msg.report_observed = &report;
	if (bus_client_call(core->bus, &msg, BUS_TIMEOUT_MS, on_reported, device) == 0) {
		core->report_open = true;
		core->report_due = false;
	}
	free(report.state.data);
	shmem_report_deinit(&shmem);
}

void device_config_changed(struct device *device)
{
	device->offer.config_seq++;
	device_report(device);
}
