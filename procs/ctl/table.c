/* The output for people: a few lines for each guest. */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void nothing(void)
{
}

static const char *standing_of(const struct seen_process *process)
{
	return process->peer && process->peer->standby ? ", standing by" : "";
}

static void print_restarts(const struct seen_process *process)
{
	if (process->counted)
		printf(", restarts %" PRIu64, process->restarts);
}

static void print_process(const struct seen_process *process)
{
	printf("  %-12s %-10s ", process->name, process->role);
	if (process->pid)
		printf("pid %-8d ", (int)process->pid);
	if (process->state == SEEN_RUNNING && process->up_ms >= 0)
		printf("up %" PRId64 ".%" PRId64 " s", process->up_ms / 1000,
			process->up_ms / 100 % 10);
	else
		printf("%s",
			process->state == SEEN_STOPPED ? "not running"
						       : seen_state_names[process->state]);
	print_restarts(process);
	printf("%s", standing_of(process));
	if (process->state != SEEN_RUNNING && process->why)
		printf(": %s", process->why);
	printf("\n");
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

/* What the VMM has set up, in the record, and how much of it the worker has in force. */
static void print_settings(const Bh__DeviceStatus *device)
{
	uint64_t n = device->desired->generation - device->observed->applied;

	printf("    socket %s, VMM %s, %zu memory region(s), ", device->socket,
		device->vmm_connected ? "connected" : "not connected", device->desired->n_regions);
	if (n == 0)
		printf("all settings of the VMM in force\n");
	else
		printf("the last %" PRIu64 " setting(s) of the VMM not in force yet\n", n);
}

/* What a worker said of its backend holds as long as it runs. */
static const char *backend_of(const struct seen *seen, const Bh__DeviceStatus *device)
{
	for (size_t i = 0; i < seen->n_processes; i++) {
		const struct seen_process *process = &seen->processes[i];

		if (device->name && process->state == SEEN_RUNNING && process->peer &&
			process->peer->pid && !process->peer->standby &&
			strncmp(process->name, device->name, strlen(device->name)) == 0 &&
			strchr("+", process->name[strlen(device->name)]))
			return *device->observed->backend ? device->observed->backend
							  : "no backend yet";
	}
	return "its worker does not run";
}

static void print_device(const struct seen *seen, const Bh__DeviceStatus *device)
{
	const Bh__Desired *desired = device->desired;

	printf("  device %s: %s, %s\n", device->name, device->type, backend_of(seen, device));
	print_settings(device);
	print_figures(device->observed);
	for (size_t i = 0; i < desired->n_rings; i++)
		print_ring(device, desired->rings[i]);
}

static const char *health_of(const struct seen *seen)
{
	static const char *const texts[] = {
		[SEEN_HEALTHY] = "healthy",
		[SEEN_UNHEALTHY] = "NOT HEALTHY",
		[SEEN_UNCLEAR] = "cannot be told",
	};

	return texts[seen->health];
}

static void guest(const struct seen *seen)
{
	const Bh__GetStatusReply *reply = seen->reply;

	printf("guest %s: %s\n", seen->name, health_of(seen));
	for (size_t i = 0; i < seen->n_faults; i++)
		printf("  ! %s\n", seen->faults[i]);
	for (size_t i = 0; i < seen->n_processes; i++)
		print_process(&seen->processes[i]);
	for (size_t i = 0; reply && i < reply->n_devices; i++)
		if (reply->devices[i]->desired && reply->devices[i]->observed)
			print_device(seen, reply->devices[i]);
}

const struct show show_table = { nothing, guest, nothing };
