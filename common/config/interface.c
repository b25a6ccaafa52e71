#include "config/interface.h"

#include <stdbool.h>
#include <string.h>

#include "config/keys.h"
#include "config/roles.h"

static bool names_interface(const struct config_type *type, const char *key)
{
	for (size_t i = 0; i < type->n_keys; i++)
		if (strcmp(type->keys[i].name, key) == 0)
			return type->keys[i].kind == CONFIG_KIND_INTERFACE;
	return false;
}

const char *config_interface(const struct config_device *device)
{
	const struct config_type *type = role_of_type(device->type)->type;

	for (size_t i = 0; i < device->n_values; i++)
		if (device->values[i].text && names_interface(type, device->values[i].key))
			return device->values[i].text;
	return "";
}
