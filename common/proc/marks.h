#pragma once

#include "base/blame.h"

/*
 * Marks (base/blame.h) for a process that serves many devices, so that the input of one device does
 * not stop the others: one mark per device, in a file that the process keeps in its fd store.
 */

struct marks;

/** marks_open() - map the file of the former instance, or a new one; never unmapped
 * Errors: 0 | negative errno. */
int marks_open(struct marks **ret_marks);

/** marks_of() - the mark of a device; borrowed. Aborts for more devices than a guest may have. */
struct blame_mark *marks_of(struct marks *marks, const char *device);
