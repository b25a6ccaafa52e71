#include "config/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

#define WORD_MIN 4 /* characters that two words have in common to be related */
#define WEIGHT 1024u
#define PART_DISTANCE 2u /* of related words */

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

/* A key is often remembered by a part of its name: "queues" or "pairs" for "queue-pairs". */
static bool shares_word(const char *a, const char *b)
{
	size_t n_common = 0;

	while (a[n_common] && tolower((unsigned char)a[n_common]) == b[n_common])
		n_common++;
	return n_common >= WORD_MIN || (strlen(a) >= WORD_MIN && strcasestr(b, a));
}

/* Of two that are equally related, the one with the shorter distance is closer. */
static unsigned int remoteness(const char *word, const char *candidate)
{
	unsigned int d = distance(word, candidate);

	return (shares_word(word, candidate) ? MIN(d, PART_DISTANCE) : d) * WEIGHT + d;
}

const char *nearest(const char *word, const char *const *list, size_t n)
{
	unsigned int best_d = ((unsigned int)(strlen(word) + 1) / 2 + 1) * WEIGHT;
	const char *best = NULL;

	for (size_t i = 0; i < n; i++) {
		unsigned int d = remoteness(word, list[i]);

		if (d >= best_d)
			continue;
		best = list[i];
		best_d = d;
	}
	return best;
}

const char *nearest_advice(const char *word, const char *const *list, size_t n, char *buf,
	size_t n_buf)
{
	const char *best = nearest(word, list, n);
	size_t at;

	if (best) {
		snprintf(buf, n_buf, "did you mean '%s'?", best);
		return buf;
	}
	at = (size_t)snprintf(buf, n_buf, n == 1 ? "it can be" : "it can be one of");
	for (size_t i = 0; i < n && at < n_buf; i++)
		at += (size_t)snprintf(buf + at, n_buf - at, "%s %s", i ? "," : "", list[i]);
	return buf;
}
