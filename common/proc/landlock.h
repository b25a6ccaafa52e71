#pragma once

/**
 * landlock_restrict() - give up what paths and signals still allow
 * @role:   [in] a row of the table of processes, or SANDBOX_KEEPER (sandbox.h)
 * @folder: [in] the one folder in which the process makes and writes files; NULL = none. Sockets
 *          may be made and removed anywhere, since a VMM's folder comes and goes.
 *
 * From then on this process and those that it starts execute no program, make and open no other
 * file for writing, make no TCP connection, send no signal to others and trace nobody.
 *
 * State: no_new_privs is set, and the process has one thread. sandbox_load() comes later, and
 *        leaves no right to call this.
 * A kernel without landlock, or a service manager's filter that refuses it, is no error; a newer
 * one restricts more.
 */
void landlock_restrict(const char *role, const char *folder);

/** landlock_version() - what this kernel has: 1 or more | negative errno, nothing */
int landlock_version(void);
