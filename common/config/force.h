#pragma once

#include <stdbool.h>

#include "config/config.h"

/*
 * The configuration in force of a guest is a copy of its file: RUNTIME_DIR/.config/GUEST.conf. The
 * processes read the copy, so a file may be edited, broken or removed while its guest is served. A
 * valid file becomes the configuration in force when its guest starts, and later when the operator
 * says so (bulkheadctl apply).
 */

/** force_path() - where the copy is, or would be; malloc'ed */
char *force_path(const char *runtime_dir, const char *guest);

/** force_put() - make a configuration the one in force; atomic
 * Errors: 0 | negative errno: the former one is still there. */
int force_put(const char *runtime_dir, const struct config *config);

/** force_put_origin() - note which file a launcher was told to serve; 0 | negative errno */
int force_put_origin(const char *runtime_dir, const char *guest, const char *file);

/** force_origin() - the file that was noted; malloc'ed; NULL = none */
char *force_origin(const char *runtime_dir, const char *guest);

/** force_drop() - the guest has neither any more */
void force_drop(const char *runtime_dir, const char *guest);

/** force_load() - the configuration in force; NULL = there is none, or it cannot be read */
struct config *force_load(const char *runtime_dir, const char *guest);

/** force_is() - whether two configurations were read from the same text */
bool force_is(const struct config *a, const struct config *b);

/** force_runs() - whether anything of a guest with this configuration is there: the runtime
 * directory of a process, or the socket of a device */
bool force_runs(const char *runtime_dir, const struct config *config);
