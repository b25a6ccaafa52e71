#pragma once

/* Names of systemd units. */

/** unit_escape() - escape an instance name as systemd does: other characters than letters, digits,
 * ':', '_' and '.' become \xNN; malloc'ed */
char *unit_escape(const char *instance);

/** unit_unescape() - undo that, in place */
void unit_unescape(char *text);

/** unit_name() - the unit of a process or socket: "bulkhead-ROLE@INSTANCE.KIND"; malloc'ed
 * @kind: "service" or "socket" */
char *unit_name(const char *role, const char *instance, const char *kind);
