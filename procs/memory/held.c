/*
 * One timer serves all: when it is due, every answer that is held is given. How long one is held is
 * not exact, and need not be.
 */
#include "held.h"

#include "base/cleanup.h"
#include "base/timer.h"
#include "positions.h"
#include "watch.h"

#define HOLD_USEC 10000
/* The frontend's connection has a few contexts, and its watch is in one. */
#define HELD_MAX 4

/* A frontend that does not wait for the worker's report takes no notice of it. */
void held_answer(struct bus_request *request, const struct served *device, const char *refused,
	bool stale)
{
	Bh__CommitDesiredReply reply = BH__COMMIT_DESIRED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	reply.generation = device->desired->generation;
	reply.refused = (char *)refused;
	reply.stale = stale;
	reply.quarantined = served_is_deadly(device);
	if (held_is_applied(device))
		reply.observed = device->observed;
	positions_fill(device, &reply);
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY;
	body.commit_desired_reply = &reply;
	bus_request_reply(request, &body);
}

static unsigned int count(const struct memory *memory)
{
	unsigned int n = 0;

	for (size_t i = 0; i < memory->n_devices; i++)
		n += memory->devices[i].commit != NULL;
	return n;
}

static void give(struct memory *memory, struct served *device)
{
	struct bus_request *request = ptr_steal(&device->commit);

	if (held_is_applied(device))
		watch_seen(memory, device);
	held_answer(request, device, "", false);
}

static void on_gone(void *data, struct bus_request *request)
{
	struct served *device = data;

	if (device->commit == request)
		device->commit = NULL;
}

static int on_due(sd_event_source *source, uint64_t usec, void *data)
{
	struct memory *memory = data;

	for (size_t i = 0; i < memory->n_devices; i++)
		if (memory->devices[i].commit)
			give(memory, &memory->devices[i]);
	return 0;
}

int held_open(struct memory *memory)
{
	int r = sd_event_add_time(memory->proc->event, &memory->holding, CLOCK_MONOTONIC, 0, 1000,
		on_due, memory);

	return r < 0 ? r : sd_event_source_set_enabled(memory->holding, SD_EVENT_OFF);
}

bool held_begin(struct memory *memory, struct served *device, struct bus_request *request)
{
	if (device->commit)
		give(memory, device);
	if (device->n_attached == 0 || count(memory) >= HELD_MAX)
		return false;
	device->commit = request;
	bus_request_on_gone(request, on_gone, device);
	if (sd_event_source_get_enabled(memory->holding, NULL) == 0)
		timer_after(memory->holding, HOLD_USEC);
	return true;
}

void held_applied(struct memory *memory, struct served *device)
{
	if (device->commit && held_is_applied(device))
		give(memory, device);
}
