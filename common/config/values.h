#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/keys.h"

/**
 * value_judge() - parse a value according to the kind of its key
 * @value: [in, out] text is given; number or mac is set
 * @text:  [out] what is wrong and what it must be, to follow "KEY = VALUE: "; n_text bytes
 *
 * Returns: whether it is valid; text is then unchanged.
 */
bool value_judge(const struct config_key *key, struct config_value *value, char *text,
	size_t n_text);
