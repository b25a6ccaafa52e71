/* The names of keys: those that are common to all types, and those of each type's table. */
#include "config/names.h"

#include <ctype.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "config/nearest.h"
#include "config/roles.h"

bool config_check_name(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > CONFIG_NAME_MAX || !isalnum((unsigned char)*name))
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("_.-", *name))
			return false;
	return true;
}

const char *names_member(const struct config_key *key, const char *name)
{
	size_t n = strlen(key->name);

	if (strncmp(key->name, name, n) != 0)
		return NULL;
	if (!name[n])
		return &name[n];
	return key->has_members && name[n] == '.' && config_check_name(&name[n + 1]) ? &name[n + 1]
										     : NULL;
}

const struct config_key *names_find(const struct config_type *type, const char *name)
{
	for (size_t i = 0; i < type->n_keys; i++)
		if (names_member(&type->keys[i], name))
			return &type->keys[i];
	return NULL;
}

struct names names_of(const struct config_type *type)
{
	struct names keys = { { "type", "socket", "mode", "socket-group", "socket-user",
				      "socket-mode", "standby" },
		7 };

	check(type->keys || type->n_keys == 0);
	for (size_t i = 0; i < type->n_keys && keys.n < ARRAY_SIZE(keys.names); i++)
		keys.names[keys.n++] = type->keys[i].name;
	return keys;
}

bool names_is_misspelt(const struct config_device *device, const char *key)
{
	const struct role *role = device->type ? role_of_type(device->type) : NULL;
	const struct config_type *type =
		device->type ? (role ? role->type : NULL) : role_usual()->type;
	const struct names keys = type ? names_of(type) : (struct names){ .n = 0 };

	for (size_t i = 0; type && i < device->n_values; i++) {
		const char *meant = nearest(device->values[i].key, keys.names, keys.n);

		if (!names_find(type, device->values[i].key) && meant && strcmp(meant, key) == 0)
			return true;
	}
	return false;
}
