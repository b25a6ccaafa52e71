#pragma once

#include "config/config.h"

/* The tables of keys, one for each type of device: procs/TYPE/keys.c. */

/** enum config_kind - what a value may be, and which field of struct config_value it fills beside
 * the text */
enum config_kind {
	CONFIG_KIND_NUMBER,    /* number: a decimal from min to max */
	CONFIG_KIND_MAC,       /* mac: a unicast address */
	CONFIG_KIND_INTERFACE, /* the name of a network interface */
	CONFIG_KIND_ENUM,      /* one of words */
	CONFIG_KIND_PATH,      /* an absolute path; whether there is such a file is not looked at */
	/* number: bytes from min to max; K, M and G behind it are powers of 1024 */
	CONFIG_KIND_SIZE,
	CONFIG_KIND_BOOL, /* number: 1 for yes, 0 for no */
	_CONFIG_KINDS,
};

/** struct config_key - a key of a type of device */
struct config_key {
	const char *name;
	enum config_kind kind;
	const char *fallback;     /* as it would be written; NULL = absent */
	uint64_t min, max;        /* numbers and sizes */
	const char *const *words; /* enums; ends with NULL */
};

/** struct config_type - the keys of a type of device, beside those that all have */
struct config_type {
	const struct config_key *keys;
	size_t n_keys;
	/** complete() - judge the device whole and fill what follows from the rest; a text = what
	 * is wrong */
	const char *(*complete)(const struct config *config, struct config_device *device);
};

/* config_type_TYPE, for each row of roles.def */
#define PROCESS(...)
#define DEVICE(name, ...) extern const struct config_type config_type_##name;
#include "config/roles.def"
#undef PROCESS
#undef DEVICE
