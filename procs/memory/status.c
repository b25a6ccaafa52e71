/* The status that the operator sees comes from records, vaults and ledgers; no worker is asked. */
#include "status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "build-config.h"
#include "details.h"
#include "virtq/ledger.h"

struct collected {
	Bh__GetStatusReply reply;
	Bh__PeerStatus *peers, **peer_list;
	Bh__DeviceStatus *devices, **device_list;
};

static void fill_peer(const struct peer *peer, Bh__PeerStatus *ret)
{
	ret->name = (char *)peer->name;
	ret->role = (char *)peer->role->name;
	ret->pid = (uint32_t)peer->pid;
	ret->connected_ms = peer->pid ? (clock_us() - peer->connected_usec) / 1000 : 0;
	ret->connects = peer->connects;
	ret->standby =
		peer->device && peer->pid && peer->device->serving && peer->device->serving != peer;
}

static void fill_self(struct memory *memory, Bh__PeerStatus *ret)
{
	ret->name = ret->role = (char *)memory->proc->role->name;
	ret->pid = (uint32_t)getpid();
	ret->connected_ms = (clock_us() - memory->started_usec) / 1000;
	ret->connects = 1;
}

static void fill_counters(const struct ledger_queue *queue, uint32_t index, Bh__QueueCounters *ret)
{
	bh__queue_counters__init(ret);
	ret->index = index;
	ret->chains = queue->counters.chains;
	ret->bytes = queue->counters.bytes;
	ret->dropped = queue->counters.dropped;
	ret->errors = queue->counters.errors;
	ret->kicks = queue->counters.kicks;
	ret->calls = queue->counters.calls;
	details_fill_queue(queue, ret);
}

static void add_ledger(const struct served *device, Bh__DeviceStatus *ret)
{
	struct ledger ledger;
	size_t n = device->desired->n_rings;

	if (device->ledger_fd < 0 || ledger_open_existing(&ledger, device->ledger_fd) < 0)
		return;
	ret->pause_us = ledger.header->pause_ns / 1000;
	ret->counters = calloc(n + 1, sizeof(*ret->counters));
	check(ret->counters);
	for (size_t i = 0; i < n; i++) {
		uint32_t index = device->desired->rings[i]->index;

		if (index >= ledger.n_queues)
			continue;
		ret->counters[ret->n_counters] = malloc(sizeof(**ret->counters));
		check(ret->counters[ret->n_counters]);
		fill_counters(&ledger.queues[index], index, ret->counters[ret->n_counters++]);
	}
	ledger_close(&ledger);
}

static void fill_device(const struct served *device, Bh__DeviceStatus *ret)
{
	ret->name = device->config->name;
	ret->type = device->config->type;
	ret->socket = device->config->socket;
	ret->desired = device->desired;
	ret->observed = device->observed;
	ret->vault_fds = (uint32_t)vault_count(device->vault);
	ret->vmm_connected = device->desired->connected;
	ret->quarantine = (char *)served_quarantine(device);
	add_ledger(device, ret);
	details_fill_device(device, ret);
}

static void collect(struct memory *memory, struct collected *c)
{
	bh__get_status_reply__init(&c->reply);
	c->peers = calloc(memory->n_peers + 1, sizeof(*c->peers));
	c->peer_list = calloc(memory->n_peers + 1, sizeof(*c->peer_list));
	c->devices = calloc(memory->n_devices, sizeof(*c->devices));
	c->device_list = calloc(memory->n_devices, sizeof(*c->device_list));
	check(c->peers && c->peer_list && c->devices && c->device_list);
	for (size_t i = 0; i <= memory->n_peers; i++) {
		bh__peer_status__init(&c->peers[i]);
		c->peer_list[i] = &c->peers[i];
		if (i == 0)
			fill_self(memory, &c->peers[i]);
		else
			fill_peer(&memory->peers[i - 1], &c->peers[i]);
	}
	for (size_t i = 0; i < memory->n_devices; i++) {
		bh__device_status__init(&c->devices[i]);
		c->device_list[i] = &c->devices[i];
		fill_device(&memory->devices[i], &c->devices[i]);
	}
}

static void release(struct collected *c, size_t n_devices)
{
	for (size_t i = 0; i < n_devices; i++) {
		for (size_t j = 0; j < c->devices[i].n_counters; j++) {
			details_free_queue(c->devices[i].counters[j]);
			free(c->devices[i].counters[j]);
		}
		details_free_device(&c->devices[i]);
		free(c->devices[i].counters);
	}
	free(c->peers);
	free(c->peer_list);
	free(c->devices);
	free(c->device_list);
}

int handle_get_status(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	struct memory *memory = context;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	struct collected c;

	collect(memory, &c);
	c.reply.guest = (char *)memory->proc->guest;
	c.reply.uptime_ms = (clock_us() - memory->started_usec) / 1000;
	c.reply.version = (char *)BULKHEAD_VERSION;
	c.reply.n_peers = memory->n_peers + 1;
	c.reply.peers = c.peer_list;
	c.reply.n_devices = memory->n_devices;
	c.reply.devices = c.device_list;
	body.body_case = BH__ENVELOPE__BODY_GET_STATUS_REPLY;
	body.get_status_reply = &c.reply;
	bus_request_reply(request, &body);
	release(&c, memory->n_devices);
	return 0;
}
