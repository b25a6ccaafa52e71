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

static void failed(const char *guest, const char *why)
{
	writer_open(&out, NULL, '{');
	writer_text(&out, "name", guest);
	writer_text(&out, "error", why);
	writer_close(&out, '}');
}

static void put_peer(const Bh__PeerStatus *peer)
{
	writer_open(&out, NULL, '{');
	writer_text(&out, "name", peer->name);
	writer_text(&out, "role", peer->role);
	writer_number(&out, "pid", peer->pid);
	writer_number(&out, "connected_ms", peer->connected_ms);
	writer_number(&out, "restarts", peer->connects ? peer->connects - 1 : 0);
	writer_boolean(&out, "standby", peer->standby);
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
	writer_text(&out, "quarantine", device->quarantine);
	put_figures(device->observed);
	writer_open(&out, "rings", '[');
	for (size_t i = 0; i < device->desired->n_rings; i++)
		put_ring(device, device->desired->rings[i]);
	writer_close(&out, ']');
	writer_close(&out, '}');
}

static void guest(const Bh__GetStatusReply *status)
{
	writer_open(&out, NULL, '{');
	writer_text(&out, "name", status->guest);
	writer_number(&out, "uptime_ms", status->uptime_ms);
	writer_text(&out, "version", status->version);
	writer_open(&out, "processes", '[');
	for (size_t i = 0; i < status->n_peers; i++)
		put_peer(status->peers[i]);
	writer_close(&out, ']');
	writer_open(&out, "devices", '[');
	for (size_t i = 0; i < status->n_devices; i++)
		if (status->devices[i]->desired && status->devices[i]->observed)
			put_device(status->devices[i]);
	writer_close(&out, ']');
	writer_close(&out, '}');
}

const struct show show_json = { begin, guest, failed, end };
