#pragma once

#include <stddef.h>

#include "config/host.h"

/* Files are judged before anything that runs is touched. Faults go to standard error, one line
 * each. */

/** check_is_usual() - whether systemd serves guests there, from the usual folder of files */
bool check_is_usual(const char *runtime_dir);

/** check_folder() - where the files of a runtime directory's guests are; NULL = each elsewhere
 * @config_dir: what the operator says; NULL = nothing */
const char *check_folder(const char *runtime_dir, const char *config_dir);

/** check_host() - the files of this host's guests, and what is in force; host_deinit() it. A guest
 * that a launcher serves has the file that the launcher was told
 * @config_dir: as in check_folder() */
void check_host(struct host *host, const char *runtime_dir, const char *config_dir);

/** check_report() - report what is wrong with a guest's file; returns whether anything is */
bool check_report(const struct host_guest *guest);

/**
 * check_run() - the command: judge files, against each other and all guests of the host
 * @files: [in] none: those of all guests
 *
 * Errors: 0 | -EINVAL, reported.
 */
int check_run(const char *runtime_dir, const char *config_dir, char *files[], size_t n);

/**
 * check_before_upgrade() - whether new processes of a guest could read its configuration
 *
 * A faulty file is reported, and is no error if another configuration is in force.
 * Errors: 0 | -EINVAL, reported.
 */
int check_before_upgrade(const char *runtime_dir, const char *guest);
