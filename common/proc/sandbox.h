#pragma once

/*
 * The system calls that a process is left with: an allow-list of its own, out of the table in
 * syscalls.def. It is loaded once, before the process's first thread and its first hostile byte,
 * and holds for all threads and processes that it starts. Nothing lifts it.
 *
 * $BULKHEAD_SYSCALLS says what becomes of a call that is not in the list:
 *
 *   refuse  (the default) it fails with EPERM. What is refused cannot be done either way, and a
 *           process that serves a VM goes on, even if the list lacks a call that a library of
 *           another release makes.
 *   kill    SIGSYS ends the process, and a line names the call: how the tests run. For a host that
 *           prefers a device in quarantine to a process that was taken over.
 *   log     it is made, and the kernel logs it (as audit records): to find out what the list lacks.
 *
 * Builds with a sanitizer are exempt: its runtime makes calls of its own.
 */

/**
 * sandbox_load() - restrict this process to its list
 * @role: [in] a row of the table of processes, or SANDBOX_KEEPER
 *
 * State:  the process has one thread and no_new_privs.
 * Errors: 0 | negative errno, logged. A kernel without seccomp is no error: a line says so.
 */
int sandbox_load(const char *role);

#define SANDBOX_KEEPER "(keeper)"
