/*
 * Redeems descriptors in batches: a record names hundreds, and a message of the side link carries
 * as many as the kernel allows.
 */
#include "device/wants.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "device/log.h"

void wants_deinit(struct wants *wants)
{
	for (size_t i = 0; i < wants->n; i++)
		fd_close(wants->fds[i]);
	wants->n = 0;
}

static void add(struct wants *wants, uint64_t token)
{
	if (token == 0 || wants->n >= ARRAY_SIZE(wants->tokens))
		return;
	wants->tokens[wants->n] = token;
	wants->fds[wants->n++] = -1;
}

static int get_all(struct wants *wants, struct device *device)
{
	for (size_t i = 0; i < wants->n; i += FDLINK_FDS_MAX) {
		size_t n = MIN(wants->n - i, (size_t)FDLINK_FDS_MAX);
		_cleanup_fdset_ struct fdset set = FDSET_INIT;
		int r = vault_redeem(device->core->vault, device->config->name, &wants->tokens[i],
			n, &set);

		if (r < 0)
			return r;
		for (size_t j = 0; j < n; j++)
			wants->fds[i + j] = fdset_steal(&set, j);
	}
	return 0;
}

/* By itself: a guest without its log is served, and one without its memory is not. */
static int get_log(struct wants *wants, struct device *device, const Bh__Desired *desired)
{
	_cleanup_fdset_ struct fdset set = FDSET_INIT;
	uint64_t token = log_token(desired);
	int r;

	if (!token || log_is_in_force(device, desired))
		return 0;
	r = vault_redeem(device->core->vault, device->config->name, &token, 1, &set);
	if (r < 0)
		return r == -ETIMEDOUT ? r : 0;
	add(wants, token);
	wants->fds[wants->n - 1] = fdset_steal(&set, 0);
	return 0;
}

static void collect_regions(struct device *device, const Bh__Desired *desired, struct wants *wants)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (!core_has_mapped(device->core, desired->regions[i]))
			add(wants, desired->regions[i]->token);
}

static void collect_rings(struct device *device, const Bh__Desired *desired, struct wants *wants)
{
	if (inflight_token(desired) != device->core->inflight.token)
		add(wants, inflight_token(desired));
	for (size_t i = 0; i < desired->n_rings; i++) {
		const Bh__Ring *ring = desired->rings[i];
		const struct ring_state *state;

		if (ring->index >= device->offer.n_queues)
			continue;
		state = &device->core->rings[ring->index];
		if (ring->kick_token != state->kick_token)
			add(wants, ring->kick_token);
		if (ring->call_token != state->call_token)
			add(wants, ring->call_token);
		if (ring->err_token != state->err_token)
			add(wants, ring->err_token);
	}
}

/* The record may have moved on since it was read. The vault has already dropped descriptors that
 * the new record does not name. */
Bh__Desired *wants_redeem(struct wants *wants, struct device *device, Bh__Desired *desired)
{
	for (;;) {
		Bh__Desired *newer = NULL;
		int r;

		collect_regions(device, desired, wants);
		if (device->core->serves)
			collect_rings(device, desired, wants);
		r = get_all(wants, device);
		if (r == 0 && device->core->serves)
			r = get_log(wants, device, desired);
		if (r == 0) {
			device->core->apply_error = NULL;
			return desired;
		}
		if (r == -ETIMEDOUT) {
			log_limited(LOG_WARNING, NULL, 0,
				"the memory manager does not answer; waiting for it");
			bh__desired__free_unpacked(desired, NULL);
			return NULL;
		}
		if (record_read_desired(device->core->record, &newer) < 0 ||
			newer->generation <= desired->generation) {
			if (newer)
				bh__desired__free_unpacked(newer, NULL);
			log_limited(LOG_WARNING, NULL, 0,
				"cannot redeem the descriptors of the record: %s", strerror(-r));
			device->core->apply_error = "descriptors that the VMM handed over are gone";
			return desired;
		}
		bh__desired__free_unpacked(desired, NULL);
		desired = newer;
		wants_deinit(wants);
	}
}

int wants_find(const struct wants *wants, uint64_t token)
{
	for (size_t i = 0; i < wants->n; i++)
		if (wants->tokens[i] == token)
			return wants->fds[i];
	return -1;
}

int wants_take(struct wants *wants, uint64_t token)
{
	for (size_t i = 0; i < wants->n; i++)
		if (wants->tokens[i] == token && wants->fds[i] >= 0)
			return fd_steal(&wants->fds[i]);
	return -1;
}
