/* The lists are made for one answer, and freed behind it. */
#include "details.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/interface.h"

/* --- Of a queue --- */

void details_fill_queue(const struct ledger_queue *queue, Bh__QueueCounters *ret)
{
	Bh__Figure *figures = calloc(LEDGER_DROPS, sizeof(*figures));

	ret->items = queue->detail.items;
	ret->drops = calloc(LEDGER_DROPS, sizeof(*ret->drops));
	check(figures && ret->drops);
	for (unsigned int i = 0; i < LEDGER_DROPS; i++) {
		bh__figure__init(&figures[i]);
		figures[i].name = (char *)ledger_drop_name(i);
		figures[i].value = queue->detail.drops[i];
		ret->drops[i] = &figures[i];
	}
	ret->n_drops = LEDGER_DROPS;
}

void details_free_queue(Bh__QueueCounters *counters)
{
	if (counters->n_drops)
		free(counters->drops[0]);
	free(counters->drops);
}

/* --- Of a device --- */

static Bh__Pauses *new_pauses(const struct served *device, enum pause_cause cause)
{
	const struct pause_histogram *histogram = &device->pauses.of[cause];
	Bh__Pauses *pauses = malloc(sizeof(*pauses));

	check(pauses);
	bh__pauses__init(pauses);
	pauses->cause = (char *)pause_cause_name(cause);
	pauses->n_limit_us = PAUSE_LIMITS;
	pauses->limit_us = (uint64_t *)pause_limits_us;
	pauses->n_counts = PAUSE_LIMITS + 1;
	pauses->counts = (uint64_t *)histogram->counts;
	pauses->sum_us = histogram->sum_us;
	return pauses;
}

void details_fill_device(const struct served *device, Bh__DeviceStatus *ret)
{
	ret->pauses = calloc(PAUSE_CAUSES, sizeof(*ret->pauses));
	check(ret->pauses);
	for (unsigned int i = 0; i < PAUSE_CAUSES; i++)
		ret->pauses[ret->n_pauses++] = new_pauses(device, i);
	ret->interface = (char *)config_interface(device->config);
}

void details_free_device(Bh__DeviceStatus *status)
{
	for (size_t i = 0; i < status->n_pauses; i++)
		free(status->pauses[i]);
	free(status->pauses);
}
