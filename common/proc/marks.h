#pragma once

#include "base/blame.h"

/*
 * A file of marks (base/blame.h), one for each device, in this process's fd store: for processes that serve
 * many devices and must not let the input of one stop the others.
 */

struct marks;

/** marks_open() - the file that a former process left, or a new one; for the life of the process
 * Errors: 0 | negative errno */
int marks_open(struct marks **ret_marks);

/** marks_of() - the mark of a device; borrowed. Aborts with more devices than a guest may have. */
struct blame_mark *marks_of(struct marks *marks, const char *device);
