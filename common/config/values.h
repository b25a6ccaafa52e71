#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/keys.h"

/**
 * value_judge() - read a value by the kind of its key
 * @value: [in, out] text is there; number or mac is set
 * @text:  [out] what is wrong with it and what it must be, as it stands behind "KEY = VALUE: ";
 *               n_text bytes
 *
 * Returns: whether it is right; text is untouched then.
 */
bool value_judge(const struct config_key *key, struct config_value *value, char *text,
	size_t n_text);
