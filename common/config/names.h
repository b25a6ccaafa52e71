#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/keys.h"

/* Which keys a device can have, and which of them a wrong name means. */

/** struct names - of all keys of a type of device */
struct names {
	const char *names[32]; /* static texts */
	size_t n;
};

/** names_of() - the keys that a device of that type can have */
struct names names_of(const struct config_type *type);

/** names_member() - the member of "KEY.MEMBER"; "" of KEY itself; NULL: it is neither */
const char *names_member(const struct config_key *key, const char *name);

/** names_find() - the key of a type that has this name, a member's included; NULL = none */
const struct config_key *names_find(const struct config_type *type, const char *name);

/** names_is_misspelt() - whether an unknown key of the device is probably a misspelling of this
 * one, and will be reported as such */
bool names_is_misspelt(const struct config_device *device, const char *key);
