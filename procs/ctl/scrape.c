/* A guest that does not answer costs a second, and is then one that is down. */
#include "scrape.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "query.h"

#define ANSWER_MS 1000

/* A device without a record is none that could be told about. */
static void leave_out_incomplete(Bh__GetStatusReply *status)
{
	size_t n = 0;

	for (size_t i = 0; i < status->n_devices; i++) {
		Bh__DeviceStatus *device = status->devices[i];

		if (device->desired && device->observed)
			status->devices[n++] = device;
		else
			bh__device_status__free_unpacked(device, NULL);
	}
	status->n_devices = n;
}

static void keep(const Bh__GetStatusReply *status, void *data)
{
	size_t n = bh__get_status_reply__get_packed_size(status);
	_cleanup_free_ uint8_t *bytes = malloc(n + 1);
	Bh__GetStatusReply **ret = data;

	check(bytes);
	bh__get_status_reply__pack(status, bytes);
	*ret = bh__get_status_reply__unpack(NULL, n, bytes);
	check(*ret);
	leave_out_incomplete(*ret);
}

static void take(struct scraped *ret, const struct look *look, const char *name, bool wants_memory)
{
	size_t n_peers;

	ret->guest = name;
	look_guest(look, name, &ret->seen);
	(void)query_status(look->runtime_dir, name, ANSWER_MS, keep, &ret->status);
	ret->taken_us = clock_us();
	n_peers = ret->status ? ret->status->n_peers : 0;
	ret->usage = calloc(n_peers + 1, sizeof(*ret->usage));
	check(ret->usage);
	for (size_t i = 0; i < n_peers; i++)
		ret->usage[i] = usage_read(ret->status->peers[i]->pid, wants_memory);
}

void scrape_take(struct scrape *ret, const struct look *look, char *const names[], size_t n,
	bool wants_memory)
{
	if (n == 0) {
		names = look->guests.names;
		n = look->guests.n;
	}
	*ret = (struct scrape){ .guests = calloc(n + 1, sizeof(*ret->guests)), .n = n };
	check(ret->guests);
	for (size_t i = 0; i < n; i++)
		take(&ret->guests[i], look, names[i], wants_memory);
}

static bool is_unknown(const struct scraped *guest, const struct look *look)
{
	const struct seen *seen = &guest->seen;

	return look->guests_error >= 0 && !seen->file && !seen->n_processes && !seen->dead &&
		!seen->hidden && query_answers(look->runtime_dir, guest->guest) == ANSWERS_NOBODY;
}

int scrape_known(const struct scrape *scrape, const struct look *look)
{
	for (size_t i = 0; i < scrape->n; i++) {
		const struct scraped *guest = &scrape->guests[i];

		if (guest->status || !is_unknown(guest, look))
			continue;
		fprintf(stderr,
			"%s: there is no such guest: no file of it%s%s, and nobody serves it\n",
			guest->guest, look->config_dir ? " in " : "", look->config_dir ?: "");
		return -ENOENT;
	}
	return 0;
}

void scrape_free(struct scrape *scrape)
{
	for (size_t i = 0; i < scrape->n; i++) {
		if (scrape->guests[i].status)
			bh__get_status_reply__free_unpacked(scrape->guests[i].status, NULL);
		free(scrape->guests[i].usage);
		seen_deinit(&scrape->guests[i].seen);
	}
	free(scrape->guests);
	*scrape = (struct scrape){ 0 };
}

uint64_t scrape_restarts(const struct scraped *guest, const Bh__PeerStatus *process)
{
	for (size_t i = 0; i < guest->seen.n_processes; i++)
		if (guest->seen.processes[i].counted &&
			strcmp(guest->seen.processes[i].name, process->name) == 0)
			return guest->seen.processes[i].restarts;
	return process->connects ? process->connects - 1 : 0;
}

/* Without the feature of several pairs the control queue comes behind the first one. */
const char *scrape_direction(const Bh__DeviceStatus *device, uint32_t index)
{
	uint32_t pairs = has_bit(device->desired->features, VIRTIO_NET_F_MQ)
		? device->observed->n_queues / 2
		: 1;

	if (strcmp(device->type, "net") != 0)
		return "";
	if (index >= 2 * pairs)
		return "control";
	return index % 2 ? "transmit" : "receive";
}

const Bh__QueueCounters *scrape_counters(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->n_counters; i++)
		if (device->counters[i]->index == index)
			return device->counters[i];
	return NULL;
}

const Bh__RingState *scrape_ring(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->observed->n_rings; i++)
		if (device->observed->rings[i]->index == index)
			return device->observed->rings[i];
	return NULL;
}
