#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Prometheus' text format, version 0.0.4. */

#define LABELS_MAX 6

/** struct label - borrowed texts, in UTF-8 */
struct label {
	const char *name;
	const char *value;
};

/** struct labels - of a sample */
struct labels {
	struct label list[LABELS_MAX];
	size_t n;
};

/** labels_with() - the same and one more; there is room for LABELS_MAX */
struct labels labels_with(struct labels labels, const char *name, const char *value);

/** exposition_head() - HELP and TYPE of a metric; its samples follow */
void exposition_head(FILE *to, const char *name, const char *type, const char *help);

/** exposition_sample() - one value
 * @suffix: of the name: "_bucket"; "" = none */
void exposition_sample(FILE *to, const char *name, const char *suffix, const struct labels *labels,
	double value);
