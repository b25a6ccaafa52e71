#pragma once

/** rlimits_raise() - raise the limits of this process and its children as far as they go, and judge
 * them
 * Errors: 0 | -EMFILE, -ENOMEM: too little for anything to work; logged. */
int rlimits_raise(void);
