#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"

/*
 * The table of processes: the rows of roles.def, and the processes that a guest's file asks for.
 * All code that starts, lists, names or checks processes uses this table, so a new process or
 * device type is one row.
 */

struct config_type;

/** enum asker - a process's role towards the memory manager: a column of the tables in
 * procs/memory */
enum asker {
	ROLE_NOBODY = 0, /* the memory manager itself */
	ROLE_FRONTEND = 1 << 0,
	ROLE_WORKER = 1 << 1,
	ROLE_CTL = 1 << 2, /* bulkheadctl, which does not belong to a guest */
	ROLE_SNAPSHOT = 1 << 3,
};

/** enum role_groups - the supplementary groups of a process, see config/groups.h */
enum role_groups {
	NO_GROUPS,
	GROUPS_OF_PEERS, /* of all processes that connect to it */
	GROUPS_OF_VMMS,  /* of the sockets that it connects to */
};

/** struct role - a row of the table */
struct role {
	const char *name;
	/*
	 * One process per device (of the type of that name), or one per guest. A worker that serves
	 * several devices would be a third kind, and process_next() would yield it once for all of
	 * them.
	 */
	bool per_device;
	bool may_stand_by; /* its devices may have `standby = yes` */
	/* For a link between guests, rights in another guest's memory would be a column here. */
	enum asker asks;
	enum role_groups groups;
	const char *folder; /* in the guest's runtime directory; NULL = the name of the endpoints */
	mode_t folder_mode;
	const struct config_type *type; /* its keys; NULL = not a device */
};

enum {
#define PROCESS(...) +1
#define DEVICE(...)
	ROLES_PER_GUEST = 0
#include "config/roles.def"
	,
#undef DEVICE
#define DEVICE(...) +1
	N_ROLES = 0
#include "config/roles.def"
#undef PROCESS
#undef DEVICE
};

extern const struct role roles[N_ROLES];

/** role_find() - the row with that name; NULL = none */
const struct role *role_find(const char *name);

/** role_of_type() - the row of a device type; NULL = no such type */
const struct role *role_of_type(const char *type);

/** role_usual() - the first device type of the table, which is meant where none is named */
const struct role *role_usual(void);

/** role_types() - the names of all device types; returns how many */
size_t role_types(const char *names[N_ROLES]);

#define PEER_STANDBY "+standby"     /* suffix of a second instance's endpoint names */
#define INSTANCE_STANDBY ":standby" /* suffix of its --instance */

/** struct process - a process that a guest's file asks for */
struct process {
	const struct role *role;
	const struct config_device *device; /* NULL: serves the whole guest */
	bool second;                        /* of a pair */
	char peer[CONFIG_NAME_MAX +
		sizeof(PEER_STANDBY)]; /* its endpoints' name: "memory", "net0", "net0+standby" */
	char instance[2 * CONFIG_NAME_MAX + sizeof(INSTANCE_STANDBY) +
		1]; /* "vm1", "vm1:net0", "vm1:net0:standby" */
};

/**
 * process_next() - iterate over the processes of a guest
 * @process: [in, out] initially { 0 }; its pointers are borrowed from the config
 *
 * Order:   those of the guest in the table's order, then each device's, the second instance after
 *          the first.
 * Returns: false at the end.
 */
bool process_next(const struct config *config, struct process *process);

/** process_peer() - compute struct process's peer from role and instance alone
 * @peer: [out] cut at n bytes */
void process_peer(const char *role, const char *instance, char *peer, size_t n);
