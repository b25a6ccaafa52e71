#pragma once

#include <stddef.h>

/** nearest() - the word of the list that somebody most likely meant, by edit distance; capitals are
 * no difference
 * @list: [in] at least one word */
const char *nearest(const char *word, const char *const *list, size_t n);
