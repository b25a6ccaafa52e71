/*
 * The journal gets a line for each start of a worker, and one whenever a driver takes the device
 * into use. Features have the names of the specification, which a driver's developer will look for.
 */
#include "device/tell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "build-config.h"
#include "device/core.h"
#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

#define FEATURES_BYTES 900

static const struct feature_name common_names[] = {
	{ VIRTIO_F_NOTIFY_ON_EMPTY, "NOTIFY_ON_EMPTY" },
	{ VHOST_F_LOG_ALL, "LOG_ALL" },
	{ VIRTIO_F_ANY_LAYOUT, "ANY_LAYOUT" },
	{ VIRTIO_RING_F_INDIRECT_DESC, "INDIRECT_DESC" },
	{ VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX" },
	{ VHOST_USER_F_PROTOCOL_FEATURES, "PROTOCOL_FEATURES" },
	{ VIRTIO_F_VERSION_1, "VERSION_1" },
	{ VIRTIO_F_ACCESS_PLATFORM, "ACCESS_PLATFORM" },
	{ VIRTIO_F_RING_PACKED, "RING_PACKED" },
	{ VIRTIO_F_IN_ORDER, "IN_ORDER" },
	{ VIRTIO_F_ORDER_PLATFORM, "ORDER_PLATFORM" },
	{ 38, "NOTIFICATION_DATA" }, /* which older headers lack */
	{ VIRTIO_F_NOTIF_CONFIG_DATA, "NOTIF_CONFIG_DATA" },
	{ VIRTIO_F_RING_RESET, "RING_RESET" },
	{ 0 },
};

/* --- Names of features --- */

static const char *find_name(const struct feature_name *names, unsigned int bit)
{
	for (; names && names->name; names++)
		if (names->bit == bit)
			return names->name;
	return NULL;
}

static const char *name_features(const struct device *device, uint64_t features, char *buf,
	size_t n)
{
	size_t at = 0;

	*buf = '\0';
	for (unsigned int bit = 0; bit < 64 && at < n; bit++) {
		const char *name =
			find_name(device->ops->feature_names, bit) ?: find_name(common_names, bit);
		const char *gap = at ? ", " : "";

		if (!has_bit(features, bit))
			continue;
		at += (size_t)(name ? snprintf(buf + at, n - at, "%s%s", gap, name)
				    : snprintf(buf + at, n - at, "%sbit %u", gap, bit));
	}
	return at ? buf : "none";
}

/* --- What is said --- */

static unsigned int count_running(const struct device *device)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		n += device->queues[i].vq != NULL;
	return n;
}

static void describe(struct device *device, char *buf, size_t n)
{
	*buf = '\0';
	if (device->ops->describe)
		device->ops->describe(device, buf, n);
}

/* Nobody notes when a process is killed: then its successor knows only how long it took itself. */
static void describe_resumption(const struct device *device, char *buf, size_t n)
{
	const struct ledger_header *header = device->ledger.header;
	uint64_t since_start = clock_us() - device->proc->started_usec;

	if (count_running(device) == 0)
		snprintf(buf, n, "no ring runs");
	else if (header && header->pause_ns && device->core->was_left)
		snprintf(buf, n, "resumed after %" PRIu64 ".%" PRIu64 " ms",
			header->pause_ns / 1000000, header->pause_ns / 100000 % 10);
	else
		snprintf(buf, n, "resumed %" PRIu64 ".%" PRIu64 " ms after its start",
			since_start / 1000, since_start / 100 % 10);
}

void tell_ready(struct device *device)
{
	char features[FEATURES_BYTES], backend[128], resumed[64];
	uint64_t in_force = device->core->applied ? device->core->applied->features : 0;

	describe(device, backend, sizeof(backend));
	describe_resumption(device, resumed, sizeof(resumed));
	LOG_EVENT(SERVES,
		log_info("version " BULKHEAD_VERSION " serves %s, %s; features: %s", backend,
			resumed, name_features(device, in_force, features, sizeof(features))));
	device->core->told_features = in_force;
}

static void tell_features(struct device *device)
{
	char features[FEATURES_BYTES];
	uint64_t in_force = device->core->applied ? device->core->applied->features : 0;

	if (in_force == device->core->told_features || count_running(device) == 0)
		return;
	device->core->told_features = in_force;
	LOG_EVENT(NEGOTIATED,
		log_limited(LOG_INFO, NULL, 0, "the guest's driver has negotiated: %s",
			name_features(device, in_force, features, sizeof(features))));
}

void tell_state(struct device *device)
{
	char backend[128], text[sizeof(device->core->told_status)];

	tell_features(device);
	describe(device, backend, sizeof(backend));
	snprintf(text, sizeof(text), "%s, %u of %u rings run", *backend ? backend : "in service",
		count_running(device), device->offer.n_queues);
	if (strcmp(text, device->core->told_status) == 0)
		return;
	memcpy(device->core->told_status, text, sizeof(text));
	proc_status(device->proc, "%s", text);
}
