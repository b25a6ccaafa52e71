/* The output for programs. */
#include "show.h"

#include <stdbool.h>
#include <stdio.h>

#include "writer.h"

static struct writer out;

static void begin(void)
{
	out.to = stdout;
	writer_open(&out, NULL, '{');
	writer_open(&out, "guests", '[');
}

static void end(void)
{
	writer_close(&out, ']');
	writer_close(&out, '}');
	putchar('\n');
}

static void put_process(const struct seen_process *process)
{
	const Bh__PeerStatus *peer = process->peer;

	writer_open(&out, NULL, '{');
	writer_text(&out, "name", process->name);
	writer_text(&out, "role", process->role);
	writer_text(&out, "state", seen_state_names[process->state]);
	writer_text(&out, "says", process->why ?: "");
	writer_number(&out, "pid", process->pid > 0 ? (uint64_t)process->pid : 0);
	writer_boolean(&out, "connected", peer && peer->pid);
	if (process->up_ms >= 0)
		writer_number(&out, "up_ms", (uint64_t)process->up_ms);
	writer_number(&out, "connected_ms", peer ? peer->connected_ms : 0);
	if (process->counted)
		writer_number(&out, "restarts", process->restarts);
	writer_boolean(&out, "standby", peer && peer->standby);
	writer_close(&out, '}');
}

static void put_counters(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->n_counters; i++) {
		const Bh__QueueCounters *c = device->counters[i];

		if (c->index != index)
			continue;
		writer_open(&out, "counters", '{');
		writer_number(&out, "chains", c->chains);
		writer_number(&out, "bytes", c->bytes);
		writer_number(&out, "dropped", c->dropped);
		writer_number(&out, "errors", c->errors);
		writer_number(&out, "kicks", c->kicks);
		writer_number(&out, "calls", c->calls);
		writer_close(&out, '}');
	}
}

static void put_ring(const Bh__DeviceStatus *device, const Bh__Ring *ring)
{
	writer_open(&out, NULL, '{');
	writer_number(&out, "index", ring->index);
	writer_number(&out, "size", ring->size);
	writer_boolean(&out, "started", ring->started);
	writer_boolean(&out, "enabled", ring->enabled);
	for (size_t i = 0; i < device->observed->n_rings; i++) {
		const Bh__RingState *state = device->observed->rings[i];

		if (state->index != ring->index)
			continue;
		writer_boolean(&out, "running", state->running);
		writer_number(&out, "position", state->position);
		writer_text(&out, "error", state->error);
		break; /* a worker may report a ring twice, but JSON keys must be unique */
	}
	put_counters(device, ring->index);
	writer_close(&out, '}');
}

static void put_figures(const Bh__Observed *observed)
{
	writer_open(&out, "figures", '[');
	for (size_t i = 0; i < observed->n_figures; i++) {
		writer_open(&out, NULL, '{');
		writer_text(&out, "name", observed->figures[i]->name);
		writer_number(&out, "value", observed->figures[i]->value);
		writer_text(&out, "unit", observed->figures[i]->unit);
		writer_close(&out, '}');
	}
	writer_close(&out, ']');
}

static void put_device(const Bh__DeviceStatus *device)
{
	writer_open(&out, NULL, '{');
	writer_text(&out, "name", device->name);
	writer_text(&out, "type", device->type);
	writer_text(&out, "socket", device->socket);
	writer_boolean(&out, "vmm_connected", device->vmm_connected);
	writer_number(&out, "features", device->desired->features);
	writer_number(&out, "protocol_features", device->desired->protocol_features);
	writer_number(&out, "offered_features", device->observed->features);
	writer_number(&out, "regions", device->desired->n_regions);
	writer_number(&out, "generation", device->desired->generation);
	writer_number(&out, "applied", device->observed->applied);
	writer_number(&out, "vault_fds", device->vault_fds);
	writer_text(&out, "backend", device->observed->backend);
	writer_text(&out, "error", device->observed->apply_error);
	writer_text(&out, "trouble", device->observed->trouble);
	writer_text(&out, "quarantine", device->quarantine);
	put_figures(device->observed);
	writer_open(&out, "rings", '[');
	for (size_t i = 0; i < device->desired->n_rings; i++)
		put_ring(device, device->desired->rings[i]);
	writer_close(&out, ']');
	writer_close(&out, '}');
}

static const char *manager_of(const struct seen *seen)
{
	return seen->manager == SEEN_LAUNCHER   ? "launcher"
		: seen->manager == SEEN_SYSTEMD ? "systemd"
						: "";
}

static const char *health_of(const struct seen *seen)
{
	return seen->health == SEEN_HEALTHY      ? "healthy"
		: seen->health == SEEN_UNHEALTHY ? "unhealthy"
						 : "unknown";
}

static void put_faults(const struct seen *seen)
{
	writer_open(&out, "faults", '[');
	for (size_t i = 0; i < seen->n_faults; i++)
		writer_text(&out, NULL, seen->faults[i]);
	writer_close(&out, ']');
}

static void guest(const struct seen *seen)
{
	const Bh__GetStatusReply *reply = seen->reply;

	writer_open(&out, NULL, '{');
	writer_text(&out, "name", seen->name);
	writer_text(&out, "file", seen->file ?: "");
	writer_text(&out, "manager", manager_of(seen));
	writer_text(&out, "health", health_of(seen));
	put_faults(seen);
	if (reply) {
		writer_number(&out, "uptime_ms", reply->uptime_ms);
		writer_text(&out, "version", reply->version);
	}
	writer_open(&out, "processes", '[');
	for (size_t i = 0; i < seen->n_processes; i++)
		put_process(&seen->processes[i]);
	writer_close(&out, ']');
	writer_open(&out, "devices", '[');
	for (size_t i = 0; reply && i < reply->n_devices; i++)
		if (reply->devices[i]->desired && reply->devices[i]->observed)
			put_device(reply->devices[i]);
	writer_close(&out, ']');
	writer_close(&out, '}');
}

const struct show show_json = { begin, guest, end };
