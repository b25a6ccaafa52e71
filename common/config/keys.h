#pragma once

#include "config/config.h"

/* The tables of keys, one for each type of device: procs/TYPE/keys.c. */

enum config_kind {
	CONFIG_KIND_NUMBER,
	CONFIG_KIND_MAC,
	CONFIG_KIND_INTERFACE,
	CONFIG_KIND_ENUM,
};

struct config_key {
	const char *name;
	enum config_kind kind;
	const char *fallback;      /* as it would be written; NULL = absent */
	uint64_t min, max;         /* numbers */
	const char *const *words;  /* enums; ends with NULL */
};

/** struct config_type - the keys of a type of device, beside those that all have */
struct config_type {
	const struct config_key *keys;
	size_t n_keys;
	/** complete() - judge the device whole and fill what follows from the rest; a text = what is wrong */
	const char *(*complete)(const struct config *config, struct config_device *device);
};

/* config_type_TYPE, for each row of roles.def */
#define PROCESS(...)
#define DEVICE(name, ...) extern const struct config_type config_type_##name;
#include "config/roles.def"
#undef PROCESS
#undef DEVICE
