#pragma once

/** struct target - the GUEST[:DEVICE] of a command line */
struct target {
	char *guest;  /* borrowed: the argument, which is cut */
	char *device; /* NULL = all */
};

/** target_parse() - take an argument apart
 * Errors: 0 | -EINVAL, after a line that says what a name is. */
int target_parse(char *text, struct target *ret);
