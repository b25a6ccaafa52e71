#include "config/nearest.h"

#include <ctype.h>
#include <string.h>

#include "base/bytes.h"

/* The edit distance of two short words, ignoring case. */
static unsigned int distance(const char *a, const char *b)
{
	size_t n = MIN(strlen(b), (size_t)31);
	unsigned int row[32];

	for (unsigned int j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned int i = 1; *a; a++, i++) {
		unsigned int diagonal = row[0];

		row[0] = i;
		for (unsigned int j = 1; j <= n; j++) {
			unsigned int above = row[j];
			unsigned int change = diagonal +
				(tolower((unsigned char)*a) != tolower((unsigned char)b[j - 1]));
			unsigned int insert = MIN(above, row[j - 1]) + 1;

			row[j] = MIN(change, insert);
			diagonal = above;
		}
	}
	return row[n];
}

const char *nearest(const char *word, const char *const *list, size_t n)
{
	const char *best = list[0];

	for (size_t i = 1; i < n; i++)
		if (distance(word, list[i]) < distance(word, best))
			best = list[i];
	return best;
}
