/* The output for programs. Numbers above 2^53 are written in full; a reader that needs them must
 * parse them as integers. */
#include "show.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

static bool first;

static void comma(void)
{
	if (!first)
		putchar(',');
	first = false;
}

static void open_(const char *key, char bracket)
{
	comma();
	if (key)
		printf("\"%s\":", key);
	putchar(bracket);
	first = true;
}

static void close_(char bracket)
{
	putchar(bracket);
	first = false;
}

static void text(const char *key, const char *value)
{
	comma();
	printf("\"%s\":\"", key);
	for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if (*p < ' ')
			printf("\\u%04x", *p);
		else
			putchar(*p);
	}
	putchar('"');
}

static void number(const char *key, uint64_t value)
{
	comma();
	printf("\"%s\":%" PRIu64, key, value);
}

static void boolean(const char *key, bool value)
{
	comma();
	printf("\"%s\":%s", key, value ? "true" : "false");
}

static void begin(void)
{
	putchar('{');
	first = true;
	open_("guests", '[');
}

static void end(void)
{
	printf("]}\n");
}

static void failed(const char *guest, const char *why)
{
	open_(NULL, '{');
	text("name", guest);
	text("error", why);
	close_('}');
}

static void put_peer(const Bh__PeerStatus *peer)
{
	open_(NULL, '{');
	text("name", peer->name);
	text("role", peer->role);
	number("pid", peer->pid);
	number("connected_ms", peer->connected_ms);
	number("restarts", peer->connects ? peer->connects - 1 : 0);
	boolean("standby", peer->standby);
	close_('}');
}

static void put_counters(const Bh__DeviceStatus *device, uint32_t index)
{
	for (size_t i = 0; i < device->n_counters; i++) {
		const Bh__QueueCounters *c = device->counters[i];

		if (c->index != index)
			continue;
		open_("counters", '{');
		number("chains", c->chains);
		number("bytes", c->bytes);
		number("dropped", c->dropped);
		number("errors", c->errors);
		number("kicks", c->kicks);
		number("calls", c->calls);
		close_('}');
	}
}

static void put_ring(const Bh__DeviceStatus *device, const Bh__Ring *ring)
{
	open_(NULL, '{');
	number("index", ring->index);
	number("size", ring->size);
	boolean("started", ring->started);
	boolean("enabled", ring->enabled);
	for (size_t i = 0; i < device->observed->n_rings; i++) {
		const Bh__RingState *state = device->observed->rings[i];

		if (state->index != ring->index)
			continue;
		boolean("running", state->running);
		number("position", state->position);
		text("error", state->error);
		break; /* a worker may report a ring twice, but JSON keys must be unique */
	}
	put_counters(device, ring->index);
	close_('}');
}

static void put_device(const Bh__DeviceStatus *device)
{
	open_(NULL, '{');
	text("name", device->name);
	text("type", device->type);
	text("socket", device->socket);
	boolean("vmm_connected", device->vmm_connected);
	number("features", device->desired->features);
	number("protocol_features", device->desired->protocol_features);
	number("offered_features", device->observed->features);
	number("regions", device->desired->n_regions);
	number("generation", device->desired->generation);
	number("applied", device->observed->applied);
	number("vault_fds", device->vault_fds);
	text("backend", device->observed->backend);
	text("error", device->observed->apply_error);
	text("quarantine", device->quarantine);
	open_("rings", '[');
	for (size_t i = 0; i < device->desired->n_rings; i++)
		put_ring(device, device->desired->rings[i]);
	close_(']');
	close_('}');
}

static void guest(const Bh__GetStatusReply *status)
{
	open_(NULL, '{');
	text("name", status->guest);
	number("uptime_ms", status->uptime_ms);
	text("version", status->version);
	open_("processes", '[');
	for (size_t i = 0; i < status->n_peers; i++)
		put_peer(status->peers[i]);
	close_(']');
	open_("devices", '[');
	for (size_t i = 0; i < status->n_devices; i++)
		if (status->devices[i]->desired && status->devices[i]->observed)
			put_device(status->devices[i]);
	close_(']');
	close_('}');
}

const struct show show_json = { begin, guest, failed, end };
