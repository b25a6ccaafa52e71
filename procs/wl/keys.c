/* The keys of type = wl. */
#include "config/keys.h"

#include "base/bytes.h"

static const struct config_key keys[] = {
	{ "wayland", CONFIG_KIND_PATH, NULL, .has_members = true },
	{ "render-node", CONFIG_KIND_PATH, NULL },
	{ "resource-bridge", CONFIG_KIND_PATH, NULL },
	{ "contexts", CONFIG_KIND_NUMBER, "64", 1, 256 },
	{ "vfds", CONFIG_KIND_NUMBER, "448", 16, 448 },
	{ "mapped-memory", CONFIG_KIND_SIZE, "1G", 1 << 20, UINT64_C(1) << 32 },
};

static const char *complete_wl(const struct config *config, struct config_device *device)
{
	if (!config_value(device, "wayland")->text && !config_member(device, "wayland", NULL))
		return "needs a compositor: add wayland = /path/of/its/socket";
	return NULL;
}

const struct config_type config_type_wl = { keys, ARRAY_SIZE(keys), complete_wl };
