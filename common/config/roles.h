#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/config.h"

/*
 * Which processes there are: the rows of roles.def, and the processes that a guest's file makes of
 * them. Whatever starts, lists, names or judges processes reads this table, so a new process or a
 * new type of device is one row.
 */

struct config_type;

/** enum asker - as whom a process speaks to the memory manager: a column of the tables in
 * procs/memory */
enum asker {
	ROLE_NOBODY = 0, /* the memory manager itself */
	ROLE_FRONTEND = 1 << 0,
	ROLE_WORKER = 1 << 1,
	ROLE_CTL = 1 << 2, /* bulkheadctl, which is no process of a guest */
};

/** enum role_groups - the groups that a process has beside its own, see config/groups.h */
enum role_groups {
	NO_GROUPS,
	GROUPS_OF_PEERS, /* of everybody who speaks to it */
	GROUPS_OF_VMMS,  /* of the sockets that it connects to */
};

/** struct role - a row of the table */
struct role {
	const char *name;
	/*
	 * One process for each device (of the type of that name), or one for each guest. A worker
	 * that serves several devices would be a third kind, and process_next() would yield it once
	 * for all of them.
	 */
	bool per_device;
	bool may_stand_by; /* a device of it may have `standby = yes` */
	/* Rights in another guest's memory, for a link between guests, would be a column beside
	 * this one. */
	enum asker asks;
	enum role_groups groups;
	const char *folder; /* in the guest's runtime folder; NULL = the name of the endpoints */
	mode_t folder_mode;
	const struct config_type *type; /* of its keys; NULL = no device */
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

/** role_find() - the row of that name; NULL: there is none */
const struct role *role_find(const char *name);

/** role_of_type() - the row of a type of device; NULL: there is no such type */
const struct role *role_of_type(const char *type);

#define PEER_STANDBY "+standby"     /* ends the name of a second instance's endpoints */
#define INSTANCE_STANDBY ":standby" /* ends its --instance */

/** struct process - a process that a guest's file asks for */
struct process {
	const struct role *role;
	const struct config_device *device; /* NULL: it is the whole guest's */
	bool second;                        /* of a pair */
	char peer[CONFIG_NAME_MAX +
		sizeof(PEER_STANDBY)]; /* its endpoints' name: "memory", "net0", "net0+standby" */
	char instance[2 * CONFIG_NAME_MAX + sizeof(INSTANCE_STANDBY) +
		1]; /* "vm1", "vm1:net0", "vm1:net0:standby" */
};

/**
 * process_next() - go through the processes of a guest
 * @process: [in, out] begins as { 0 }; what it refers to is the config's
 *
 * Order:   those of the guest as the table has them, then each device's, the second instance after
 *          the first.
 * Returns: false at the end.
 */
bool process_next(const struct config *config, struct process *process);

/** process_peer() - what struct process calls its peer, computed from role and instance alone: for
 * whoever has only these
 * @peer: [out] cut at n bytes */
void process_peer(const char *role, const char *instance, char *peer, size_t n);
