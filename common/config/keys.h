#pragma once

#include "config/config.h"

/* The tables of keys, one for each device type: procs/TYPE/keys.c. */

/** enum config_kind - the kind of a value, and the field of struct config_value that it sets
 * besides text */
enum config_kind {
	CONFIG_KIND_NUMBER,    /* number: a decimal from min to max */
	CONFIG_KIND_INTERFACE, /* the name of a network interface */
	CONFIG_KIND_ENUM,      /* one of words */
	CONFIG_KIND_PATH,      /* an absolute path; the file need not exist */
	/* number: bytes from min to max; suffixes K, M and G are powers of 1024 */
	CONFIG_KIND_SIZE,
	CONFIG_KIND_BOOL, /* number: 1 for yes, 0 for no */
	CONFIG_KIND_OWN,  /* number: what the key's parse() makes of the text */
	_CONFIG_KINDS,
};

/** struct config_key - a key of a device type */
struct config_key {
	const char *name;
	enum config_kind kind;
	const char *fallback;     /* in the syntax of the file; NULL = absent */
	uint64_t min, max;        /* numbers and sizes */
	const char *const *words; /* enums; ends with NULL */
	/* own: whether the text is a value, and its number; and what a value is, for the error */
	bool (*parse)(const char *text, uint64_t *ret_number);
	const char *must_be;
	/* the default where there is no fallback, made of what identifies the device: the same in
	 * every release; NULL = absent */
	void (*derive)(const char *identity, char *text, size_t n_text);
	/* "KEY.MEMBER" is a key as well, any number of times; see config_member() */
	bool has_members;
};

/** struct config_type - the keys of a device type, besides the common ones */
struct config_type {
	const struct config_key *keys;
	size_t n_keys;
	/** complete() - validate the device as a whole and compute derived values; returns NULL,
	 * or the error */
	const char *(*complete)(const struct config *config, struct config_device *device);
	/** holds() - what of the host's this device needs for itself, like the name of a TAP: no
	 * other device may name the same (config/claims.h). May be NULL; NULL = nothing. The
	 * device is valid. holds_key is the key that names it. */
	const char *(*holds)(const struct config_device *device);
	const char *holds_key;
};

/* config_type_TYPE, for each row of roles.def */
#define PROCESS(...)
#define DEVICE(name, ...) extern const struct config_type config_type_##name;
#include "config/roles.def"
#undef PROCESS
#undef DEVICE
