#pragma once

/** rights_drop() - become nobody, without capabilities, for good: what is open stays open. An
 * ordinary user stays who it is, and can gain nothing
 * Errors: 0 | negative errno: the caller must not go on. */
int rights_drop(void);
