/*
 * bulkhead-net as a later release may have it. It keeps LATER_BYTES behind what this release keeps,
 * and saves a field that this release does not know, in a stage of version LATER_VERSION.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "net.h"
#include "state.h"

struct later_saved {
	struct net_saved saved;
	uint8_t more[LATER_BYTES];
};

static struct device_ops later;

static void begin(struct device *device)
{
	struct later_saved *saved = device->state;

	log_notice("the grown state has been opened %u times before",
		saved->more[LATER_BYTES - 1]++);
	net_ops.begin(device);
}

/* Field 1000, a number: 1. */
static size_t save(const struct device *device, uint8_t **ret_data)
{
	static const uint8_t field[] = { 0xc0, 0x3e, 1 };
	size_t n = net_ops.save(device, ret_data);

	*ret_data = realloc(*ret_data, n + sizeof(field));
	check(*ret_data);
	memcpy(*ret_data + n, field, sizeof(field));
	return n + sizeof(field);
}

static int load(struct device *device, const struct device_stage *stage, char *why, size_t n_why)
{
	log_notice("a stage of version %u is loaded", stage->version);
	return net_ops.load(device, stage, why, n_why);
}

int main(int argc, char *argv[])
{
	later = net_ops;
	later.state_bytes = sizeof(struct later_saved);
	later.state_version = LATER_VERSION;
	later.begin = begin;
	later.save = save;
	later.load = load;
	return device_main(argc, argv, &later);
}
