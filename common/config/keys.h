#pragma once

#include "config/config.h"

/* The tables of keys, one for each type of device. */

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

struct config_type {
	const char *name;
	const struct config_key *keys;
	size_t n_keys;
	/** complete() - judge the device whole and fill what follows from the rest; a text = what is wrong */
	const char *(*complete)(const struct config *config, struct config_device *device);
};

extern const struct config_type config_type_net, config_type_null;
