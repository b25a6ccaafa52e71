#pragma once

#include <stddef.h>

/** nearest() - the word of the list that the given one is probably meant to be: by edit distance,
 * ignoring case, or because the two have a part in common; NULL = none is near */
const char *nearest(const char *word, const char *const *list, size_t n);

/** nearest_advice() - "did you mean 'WORD'?", or, if none is near, what it can be
 * @buf: [out] cut at n_buf bytes; returned */
const char *nearest_advice(const char *word, const char *const *list, size_t n, char *buf,
	size_t n_buf);
