#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The configuration of one guest: /etc/bulkhead/GUEST.conf, an INI file with a section for each
 * device.
 *
 *   [device net0]
 *   type = net
 *   socket = /run/vm1/net0.sock
 *   backend = tap
 *   tap = vm1-net0
 *
 * Keys common to all types: type, socket, mode (server|client), socket-group, socket-user,
 * socket-mode, standby (yes|no). The keys of a type are defined in procs/TYPE/keys.c with their
 * kind, range and default.
 */

/* guests and devices: [A-Za-z0-9_.-], beginning with a letter or digit */
#define CONFIG_NAME_MAX 32
#define CONFIG_DEVICES_MAX 64
#define CONFIG_SOCKET_MODE 0660 /* the default */

struct config_value {
	const char *key; /* from the table */
	char *member;    /* of "KEY.MEMBER", a name (CONFIG_NAME_MAX); NULL = it is KEY itself */
	char *text;      /* as written, or the default; NULL if neither */
	uint64_t number; /* kinds number, size (in bytes), bool (0 or 1) and own */
	bool given;      /* written in the file */
	unsigned int line;
};

struct config_device {
	char *name;
	char *type;
	char *socket;
	bool client;        /* mode = client: the frontend connects to the VMM's socket */
	char *socket_group; /* group that may connect; NULL = the default */
	char *socket_user;  /* owner of the socket, who may connect; NULL = the frontend's user */
	unsigned int socket_mode; /* of the socket's file */
	bool standby;             /* a second instance of the worker is a hot standby */
	struct config_value *values;
	size_t n_values;
	unsigned int line;
	unsigned int socket_line; /* 0 = no socket */
	unsigned int access_line; /* of socket-user or socket-mode; 0 = neither */
};

struct config {
	char *guest;
	char *path;
	struct config_device *devices;
	size_t n_devices;
	char *text; /* of the file, as it was read; not terminated */
	size_t n_text;
};

/**
 * config_load() - read and validate a guest's file
 * @path:      "-" is not special; the guest is the base name without ".conf"
 * @ret_error: [out] on failure a malloc'ed text "FILE:LINE: what is wrong; what to do" with one
 *             line for each error in the file
 *
 * Errors: 0 | -EINVAL the file is invalid | other negative errno: it could not be read.
 */
int config_load(const char *path, struct config **ret_config, char **ret_error);

/** config_free() - free a config with all its values; NULL is allowed. Returns NULL. */
struct config *config_free(struct config *config);

/** config_device() - find a device by name; borrowed from the config, NULL = none */
const struct config_device *config_device(const struct config *config, const char *name);

/** config_value() - find a value; borrowed from the config, never NULL. A key that is not in the
 * table of the device's type is a bug of the caller and aborts. */
const struct config_value *config_value(const struct config_device *device, const char *key);

/** config_member() - iterate over "KEY.MEMBER", in the order of the file
 * @last: NULL = begin
 * Returns: the next value, borrowed from the config; NULL = there are no more. */
const struct config_value *config_member(const struct config_device *device, const char *key,
	const struct config_value *last);

/** config_check_name() - whether this is a valid name for a guest or device: see
 * CONFIG_NAME_MAX */
bool config_check_name(const char *name);
