/* The output for people: a few lines for each guest. */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void nothing(void)
{
}

static void failed(const char *guest, const char *why)
{
	printf("guest %s: %s\n", guest, why);
}

static void print_peer(const Bh__PeerStatus *peer)
{
	if (!peer->pid) {
		printf("  %-12s %-10s not there now\n", peer->name, peer->role);
		return;
	}
	printf("  %-12s %-10s pid %-8u up %" PRIu64 ".%" PRIu64 " s, restarts %" PRIu64 "%s\n",
		peer->name, peer->role, peer->pid, peer->connected_ms / 1000,
		peer->connected_ms / 100 % 10, peer->connects ? peer->connects - 1 : 0,
		peer->standby ? ", standing by" : "");
}

static const Bh__QueueCounters *find_counters(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->n_counters; i++)
		if (device->counters[i]->index == index)
			return device->counters[i];
	return NULL;
}

static const Bh__RingState *find_state(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->observed->n_rings; i++)
		if (device->observed->rings[i]->index == index)
			return device->observed->rings[i];
	return NULL;
}

static void print_ring(const Bh__DeviceStatus *device, const Bh__Ring *ring)
{
	const Bh__QueueCounters *c = find_counters(device, ring->index);
	const Bh__RingState *state = find_state(device, ring->index);

	printf("    ring %-3u %-8s %-8s size %-5u", ring->index,
		state && state->running ? "running" : "stopped",
		ring->enabled ? "enabled" : "disabled", ring->size);
	if (c)
		printf(" chains %" PRIu64 ", bytes %" PRIu64 ", dropped %" PRIu64
		       ", errors %" PRIu64 ", kicks %" PRIu64 ", calls %" PRIu64,
			c->chains, c->bytes, c->dropped, c->errors, c->kicks, c->calls);
	printf("\n");
	if (state && *state->error)
		printf("             %s\n", state->error);
}

static void print_figures(const Bh__Observed *observed)
{
	for (size_t i = 0; i < observed->n_figures; i++)
		printf("%s%s %" PRIu64 "%s%s%s", i ? ", " : "    ", observed->figures[i]->name,
			observed->figures[i]->value, *observed->figures[i]->unit ? " " : "",
			observed->figures[i]->unit, i + 1 < observed->n_figures ? "" : "\n");
}

static void print_device(const Bh__DeviceStatus *device)
{
	const Bh__Desired *desired = device->desired;

	printf("  device %s: %s, %s\n", device->name, device->type,
		*device->observed->backend ? device->observed->backend : "no worker yet");
	printf("    socket %s, VMM %s, %zu memory region(s), generation %" PRIu64 " of %" PRIu64
	       " in force\n",
		device->socket, device->vmm_connected ? "connected" : "not connected",
		desired->n_regions, device->observed->applied, desired->generation);
	if (*device->quarantine)
		printf("    in quarantine: %s\n", device->quarantine);
	if (*device->observed->apply_error)
		printf("    %s\n", device->observed->apply_error);
	print_figures(device->observed);
	for (size_t i = 0; i < desired->n_rings; i++)
		print_ring(device, desired->rings[i]);
}

static void guest(const Bh__GetStatusReply *status)
{
	printf("guest %s\n", status->guest);
	for (size_t i = 0; i < status->n_peers; i++)
		print_peer(status->peers[i]);
	for (size_t i = 0; i < status->n_devices; i++)
		if (status->devices[i]->desired && status->devices[i]->observed)
			print_device(status->devices[i]);
}

const struct show show_table = { nothing, guest, failed, nothing };
