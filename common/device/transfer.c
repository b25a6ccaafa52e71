#include "device/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "device/image.h"
#include "record/copy.h"

/** struct transfer - of one device */
struct transfer {
	uint64_t seq;       /* of the last news */
	Bh__Transfer *turn; /* to be taken; NULL = none */
	uint64_t done_id;   /* of the last step that was taken */

	/* what is to be reported */
	bool due;
	bool open; /* the report is on its way */
	char why[IMAGE_WHY_BYTES];
	uint8_t *state; /* saved */
	size_t state_bytes;
	Bh__RingState *rings; /* loaded */
	size_t n_rings;
};

struct transfer *transfer_new(void)
{
	struct transfer *transfer = calloc(1, sizeof(*transfer));

	check(transfer);
	return transfer;
}

static void drop_turn(struct transfer *transfer)
{
	if (transfer->turn)
		bh__transfer__free_unpacked(transfer->turn, NULL);
	transfer->turn = NULL;
}

static void drop_report(struct transfer *transfer)
{
	free(transfer->state);
	free(transfer->rings);
	transfer->state = NULL;
	transfer->rings = NULL;
	transfer->state_bytes = transfer->n_rings = 0;
	transfer->due = false;
	*transfer->why = '\0';
}

void transfer_free(struct transfer *transfer)
{
	if (!transfer)
		return;
	drop_turn(transfer);
	drop_report(transfer);
	free(transfer);
}

/* --- News --- */

void transfer_ask(const struct device *device, Bh__WatchDesired *request)
{
	request->transfers = device->ops->save && device->ops->load;
	request->transfer_seq = device->core->transfer->seq;
}

bool transfer_hear(struct device *device, const Bh__WatchDesiredReply *reply)
{
	struct transfer *transfer = device->core->transfer;
	bool news = !reply->unchanged && reply->transfer_seq != transfer->seq;

	if (!news)
		return false;
	transfer->seq = reply->transfer_seq;
	drop_turn(transfer);
	if (reply->transfer && reply->transfer->id != transfer->done_id) {
		transfer->turn = record_copy_transfer(reply->transfer);
		check(transfer->turn);
	}
	/* the same answer may say that the operator has released the device */
	return reply->generation == device->core->generation && !*device->core->quarantine;
}

void transfer_unheard(struct device *device)
{
	device->core->transfer->seq = 0;
}

/* --- The step --- */

static const struct device_queue *find_running(const struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq)
			return &device->queues[i];
	return NULL;
}

static void note_positions(struct transfer *transfer, const Bh__RingsStage *stage)
{
	transfer->rings = calloc(stage->n_rings + 1, sizeof(*transfer->rings));
	check(transfer->rings);
	for (size_t i = 0; i < stage->n_rings; i++) {
		bh__ring_state__init(&transfer->rings[i]);
		transfer->rings[i].index = stage->rings[i]->index;
		transfer->rings[i].position = stage->rings[i]->position;
	}
	transfer->n_rings = stage->n_rings;
}

static void load(struct device *device, struct transfer *transfer)
{
	const ProtobufCBinaryData *data = &transfer->turn->state;
	struct image image;
	int r = image_open(&image, device, data->data, data->len, transfer->why);

	if (r == 0) {
		device_pause(device);
		r = image_load(&image, device, transfer->why);
		device_resume(device);
	}
	if (r == 0)
		note_positions(transfer, image.rings);
	image_close(&image);
}

/* Only the operator may save the state of a device whose rings run. A VMM that comes resets the
 * device. */
static bool is_refused(struct device *device, struct transfer *transfer)
{
	const struct device_queue *running = find_running(device);

	if (*device->core->quarantine)
		snprintf(transfer->why, sizeof(transfer->why), "the device is in quarantine");
	else if (transfer->turn->load && !device->connected)
		snprintf(transfer->why, sizeof(transfer->why),
			"no VMM is connected, and when one comes it resets the device");
	else if (running && (transfer->turn->load || !transfer->turn->by_operator))
		snprintf(transfer->why, sizeof(transfer->why),
			"ring %u runs: the device is not suspended", running->index);
	return *transfer->why;
}

/* A worker that dies of a state is quarantined like one that dies of a record. */
static void take_step(struct device *device, struct transfer *transfer)
{
	bool loads = transfer->turn->load;

	blame_set(&device->ledger.header->blame, LEDGER_BLAME_RECORD, transfer->turn->generation);
	fault_point(loads ? "load" : "save", 0);
	transfer->done_id = transfer->turn->id;
	if (is_refused(device, transfer))
		log_notice("the device's state was not %s: %s", loads ? "loaded" : "saved",
			transfer->why);
	else if (loads)
		load(device, transfer);
	else
		(void)image_save(device, &transfer->state, &transfer->state_bytes, transfer->why);
	drop_turn(transfer);
	transfer->due = true;
	blame_finish();
	if (loads)
		device_report(device);
}

static bool may_act(const struct device *device, const struct transfer *transfer)
{
	const struct device_core *core = device->core;

	return transfer->turn && !transfer->due && core->serves && core->settled && core->applied &&
		core->applied->generation >= transfer->turn->generation;
}

/* --- The report --- */

static void on_reported(void *data, int error, const Bh__Envelope *reply)
{
	struct device *device = data;
	struct transfer *transfer = device->core->transfer;

	transfer->open = false;
	/* what was lost on the way is told again; a memory manager that was started anew, and does
	 * not know the transfer, takes no notice of it */
	if (error != -ECONNRESET && error != -ETIMEDOUT)
		drop_report(transfer);
	transfer_go_on(device);
}

static void report(struct device *device, struct transfer *transfer)
{
	_cleanup_free_ Bh__RingState **list = calloc(transfer->n_rings + 1, sizeof(*list));
	Bh__ReportTransfer request = BH__REPORT_TRANSFER__INIT;
	Bh__Envelope msg = BH__ENVELOPE__INIT;

	check(list);
	for (size_t i = 0; i < transfer->n_rings; i++)
		list[i] = &transfer->rings[i];
	request.device = device->config->name;
	request.id = transfer->done_id;
	request.error = transfer->why;
	request.state.data = transfer->state;
	request.state.len = transfer->state_bytes;
	request.rings = list;
	request.n_rings = transfer->n_rings;
	msg.body_case = BH__ENVELOPE__BODY_REPORT_TRANSFER;
	msg.report_transfer = &request;
	transfer->open =
		bus_client_call(device->core->bus, &msg, BUS_TIMEOUT_MS, on_reported, device) == 0;
}

void transfer_go_on(struct device *device)
{
	struct transfer *transfer = device->core->transfer;

	if (transfer->open || !device->core->bus)
		return;
	if (may_act(device, transfer))
		take_step(device, transfer);
	if (transfer->due)
		report(device, transfer);
}
