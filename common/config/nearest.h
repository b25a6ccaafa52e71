#pragma once

#include <stddef.h>

/** nearest() - the word of the list closest to the given one by edit distance, ignoring case
 * @list: [in] at least one word */
const char *nearest(const char *word, const char *const *list, size_t n);
