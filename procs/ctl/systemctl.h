#pragma once

#include <stdbool.h>
#include <stddef.h>

/* systemctl, run with many units at once. It blocks until systemd has done what was asked. */

/** struct unit_names - names of units; initially { 0 } */
struct unit_names {
	char **names; /* [0] is private */
	size_t n;
};

/** unit_names_add() - add a name, which is consumed */
void unit_names_add(struct unit_names *units, char *name);

/** unit_names_at() - the i-th; borrowed */
const char *unit_names_at(const struct unit_names *units, size_t i);

/** unit_names_deinit() - free them */
void unit_names_deinit(struct unit_names *units);

/** systemctl_is_there() - whether systemd is this host's service manager */
bool systemctl_is_there(void);

/**
 * systemctl_run() - have systemd do something; without units nothing happens
 * @verb: "start", "stop", "restart"
 *
 * Errors: 0 | -EIO: systemctl failed, and has said why on standard error | negative errno.
 */
int systemctl_run(const char *verb, const struct unit_names *units);

/** systemctl_reload() - have systemd run the generator and read all units; as systemctl_run() */
int systemctl_reload(void);

/**
 * systemctl_active() - ask which units are active
 * @active: [out] one for each; false as well where systemd does not answer
 */
void systemctl_active(const struct unit_names *units, bool *active);
