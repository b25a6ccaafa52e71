/* Every length is judged before the list is walked. */
#include "plausible.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/bytes.h"
#include "config/config.h"
#include "config/roles.h"
#include "virtio/vhost-user.h"

#define PEERS_MAX (ROLES_PER_GUEST + 2 * CONFIG_DEVICES_MAX) /* each with its standby */
#define FIGURES_MAX 64
#define CAUSES_MAX 16
#define LIMITS_MAX 64

/* The text at that offset differs between any two entries of a list of pointers. */
static bool texts_differ(const void *list, size_t n, size_t offset)
{
	const char *const *entries = list;

	for (size_t i = 1; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(*(char *const *)(const void *)(entries[i] + offset),
				    *(char *const *)(const void *)(entries[j] + offset)) == 0)
				return false;
	return true;
}

#define DIFFER(list, n, text) texts_differ(list, n, offsetof(typeof(**(list)), text))

static bool rings_differ(const Bh__Desired *desired)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };

	for (size_t i = 0; i < desired->n_rings; i++) {
		uint32_t index = desired->rings[i]->index;

		if (index >= ARRAY_SIZE(seen) || seen[index])
			return false;
		seen[index] = true;
	}
	return true;
}

static bool pauses_are_classes(const Bh__Pauses *pauses)
{
	if (pauses->n_limit_us > LIMITS_MAX || pauses->n_counts > LIMITS_MAX + 1)
		return false;
	for (size_t i = 1; i < pauses->n_limit_us; i++)
		if (pauses->limit_us[i] <= pauses->limit_us[i - 1])
			return false;
	return true;
}

static const char *judge_counters(const Bh__DeviceStatus *device)
{
	if (device->n_counters > VHOST_USER_MAX_QUEUES)
		return "too many counters";
	for (size_t i = 0; i < device->n_counters; i++) {
		const Bh__QueueCounters *counters = device->counters[i];

		if (counters->n_drops > CAUSES_MAX ||
			!DIFFER(counters->drops, counters->n_drops, name))
			return "reasons of drops that cannot be";
	}
	return NULL;
}

static const char *judge_pauses(const Bh__DeviceStatus *device)
{
	if (device->n_pauses > CAUSES_MAX || !DIFFER(device->pauses, device->n_pauses, cause))
		return "causes of pauses that cannot be";
	for (size_t i = 0; i < device->n_pauses; i++)
		if (!pauses_are_classes(device->pauses[i]))
			return "pauses that cannot be";
	return NULL;
}

static const char *judge_records(const Bh__DeviceStatus *device)
{
	const Bh__Desired *desired = device->desired;
	const Bh__Observed *observed = device->observed;

	if (desired && (desired->n_rings > VHOST_USER_MAX_QUEUES || !rings_differ(desired)))
		return "rings that cannot be";
	if (observed && observed->n_rings > VHOST_USER_MAX_QUEUES)
		return "rings that cannot be";
	if (observed && observed->n_figures > FIGURES_MAX)
		return "figures that cannot be";
	return NULL;
}

const char *plausible_status(const Bh__GetStatusReply *status)
{
	const char *wrong = NULL;

	if (status->n_peers > PEERS_MAX || !DIFFER(status->peers, status->n_peers, name))
		return "processes that cannot be";
	if (status->n_devices > CONFIG_DEVICES_MAX ||
		!DIFFER(status->devices, status->n_devices, name))
		return "devices that cannot be";
	for (size_t i = 0; !wrong && i < status->n_devices; i++)
		wrong = judge_records(status->devices[i]) ?: judge_counters(status->devices[i])
								?: judge_pauses(status->devices[i]);
	return wrong;
}
