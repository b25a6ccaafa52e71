/* The keys of type = net. */
#include "config/keys.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

static const char *const backends[] = { "tap", "echo", "null", NULL };

static const struct config_key keys[] = {
	{ "backend", CONFIG_KIND_ENUM, "tap", .words = backends },
	{ "tap", CONFIG_KIND_INTERFACE, NULL },
	{ "mac", CONFIG_KIND_MAC, NULL },
	{ "mtu", CONFIG_KIND_NUMBER, NULL, 68, 65535 },
	{ "queue-pairs", CONFIG_KIND_NUMBER, "1", 1, 64 },
	{ "generate", CONFIG_KIND_NUMBER, NULL, 60, 65535 },
};

/* FNV-1a hash */
void config_derive_mac(const char *text, uint8_t mac[6])
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (const char *p = text; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3ULL;
	memcpy(mac, &hash, 6);
	mac[0] = (uint8_t)((mac[0] & ~1) | 2); /* unicast, locally administered */
}

static const char *complete_net(const struct config *config, struct config_device *device)
{
	const struct config_value *backend = config_value(device, "backend");
	struct config_value *mac = (struct config_value *)config_value(device, "mac");
	char name[2 * CONFIG_NAME_MAX + 2];

	if (strcmp(backend->text, "tap") == 0 && !config_value(device, "tap")->text)
		return "backend = tap needs 'tap = INTERFACE'";
	if (strcmp(backend->text, "null") != 0 && config_value(device, "generate")->text)
		return "'generate' goes with backend = null only";
	snprintf(name, sizeof(name), "%s:%s", config->guest, device->name);
	if (!mac->text)
		config_derive_mac(name, mac->mac);
	return NULL;
}

const struct config_type config_type_net = { keys, ARRAY_SIZE(keys), complete_net };
