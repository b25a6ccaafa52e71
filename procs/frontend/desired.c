/*
 * A record is changed in a copy: a change that is refused leaves the present one as it was.
 * protobuf-c frees what it unpacked piece by piece with free(), so pieces may be added with
 * malloc().
 */
#include "desired.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "protocol.h"

#define CONFIG_WRITES_MAX 64

static uint8_t *pack(const Bh__Desired *desired, size_t *ret_n)
{
	uint8_t *buf = malloc(bh__desired__get_packed_size(desired) + 1);

	check(buf);
	*ret_n = bh__desired__pack(desired, buf);
	return buf;
}

bool desired_is_same(Bh__Desired *next, const Bh__Desired *desired)
{
	uint64_t generation = next->generation;
	_cleanup_free_ uint8_t *a = NULL, *b = NULL;
	size_t n_a, n_b;

	next->generation = desired->generation;
	a = pack(next, &n_a);
	next->generation = generation;
	b = pack(desired, &n_b);
	return n_a == n_b && memcmp(a, b, n_a) == 0;
}

Bh__Desired *desired_next(const Bh__Desired *desired)
{
	size_t n;
	_cleanup_free_ uint8_t *buf = pack(desired, &n);
	Bh__Desired *next;

	next = bh__desired__unpack(NULL, n, buf);
	check(next);
	next->generation++;
	return next;
}

/* What counts on over all sessions stays, so that no worker takes something new for something
 * done. */
Bh__Desired *desired_empty(const Bh__Desired *desired, bool connected)
{
	Bh__Desired *next = malloc(sizeof(*next));

	check(next);
	bh__desired__init(next);
	next->generation = desired->generation + 1;
	next->session = desired->session + connected;
	next->connected = connected;
	next->rarp_seq = desired->rarp_seq;
	next->reset_epoch = desired->reset_epoch;
	return next;
}

Bh__Desired *desired_free(Bh__Desired *desired)
{
	if (desired)
		bh__desired__free_unpacked(desired, NULL);
	return NULL;
}

/* --- Rings --- */

Bh__Ring *desired_find_ring(const Bh__Desired *desired, uint32_t index)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->index == index)
			return desired->rings[i];
	return NULL;
}

/* A front-end without bit 30 knows no SET_VRING_ENABLE. */
bool desired_enables_rings(const Bh__Desired *desired)
{
	return desired->features_set && !has_bit(desired->features, VHOST_USER_F_PROTOCOL_FEATURES);
}

Bh__Ring *desired_ring(Bh__Desired *desired, uint32_t index)
{
	Bh__Ring *ring = desired_find_ring(desired, index);

	if (ring)
		return ring;
	desired->rings =
		reallocarray(desired->rings, desired->n_rings + 1, sizeof(*desired->rings));
	ring = malloc(sizeof(*ring));
	check(desired->rings && ring);
	bh__ring__init(ring);
	ring->index = index;
	ring->enabled = desired_enables_rings(desired);
	desired->rings[desired->n_rings++] = ring;
	return ring;
}

/* A ring that was never started has a position only if the VMM has set it. */
void desired_take_positions(Bh__Desired *desired, const Bh__Transfer *transfer, uint32_t n_queues)
{
	for (size_t i = 0; i < transfer->n_rings; i++) {
		const Bh__RingState *state = transfer->rings[i];
		Bh__Ring *ring;

		if (state->index >= n_queues)
			continue;
		ring = desired_ring(desired, state->index);
		if (ring->started || ring->held || (!ring->start_id && ring->position))
			continue;
		ring->position = state->position;
		ring->start_id = 0;
	}
}

/* --- Regions --- */

bool desired_any_started(const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->started)
			return true;
	return false;
}

Bh__Region *desired_add_region(Bh__Desired *desired)
{
	Bh__Region *region = malloc(sizeof(*region));

	desired->regions =
		reallocarray(desired->regions, desired->n_regions + 1, sizeof(*desired->regions));
	check(desired->regions && region);
	bh__region__init(region);
	desired->regions[desired->n_regions++] = region;
	return region;
}

void desired_remove_region(Bh__Desired *desired, size_t i)
{
	bh__region__free_unpacked(desired->regions[i], NULL);
	desired->regions[i] = desired->regions[--desired->n_regions];
}

void desired_clear_regions(Bh__Desired *desired)
{
	while (desired->n_regions)
		desired_remove_region(desired, desired->n_regions - 1);
}

/* --- Device --- */

Bh__Inflight *desired_new_inflight(Bh__Desired *desired)
{
	if (desired->inflight)
		bh__inflight__free_unpacked(desired->inflight, NULL);
	desired->inflight = malloc(sizeof(*desired->inflight));
	check(desired->inflight);
	bh__inflight__init(desired->inflight);
	return desired->inflight;
}

Bh__Log *desired_new_log(Bh__Desired *desired)
{
	if (desired->log)
		bh__log__free_unpacked(desired->log, NULL);
	desired->log = malloc(sizeof(*desired->log));
	check(desired->log);
	bh__log__init(desired->log);
	return desired->log;
}

static void drop_oldest_write(Bh__Desired *desired)
{
	bh__config_write__free_unpacked(desired->config_writes[0], NULL);
	memmove(desired->config_writes, desired->config_writes + 1,
		--desired->n_config_writes * sizeof(*desired->config_writes));
}

Bh__ConfigWrite *desired_add_config_write(Bh__Desired *desired, const uint8_t *data, size_t n)
{
	Bh__ConfigWrite *write = malloc(sizeof(*write));

	if (desired->n_config_writes == CONFIG_WRITES_MAX)
		drop_oldest_write(desired);
	desired->config_writes = reallocarray(desired->config_writes, desired->n_config_writes + 1,
		sizeof(*desired->config_writes));
	check(desired->config_writes && write);
	bh__config_write__init(write);
	/* numbers that go on over sessions: see desired_empty() */
	write->seq = desired->generation;
	write->data.data = malloc(n);
	check(write->data.data);
	memcpy(write->data.data, data, n);
	write->data.len = n;
	desired->config_writes[desired->n_config_writes++] = write;
	return write;
}

void desired_set_rarp_mac(Bh__Desired *desired, const uint8_t mac[6])
{
	free(desired->rarp_mac.data);
	desired->rarp_mac.data = malloc(6);
	check(desired->rarp_mac.data);
	memcpy(desired->rarp_mac.data, mac, 6);
	desired->rarp_mac.len = 6;
	desired->rarp_seq++;
}
