/* Whole numbers are written as such: they are exact up to 2^53, as the reader keeps them. */
#include "exposition.h"

#include <math.h>

#include "base/check.h"

struct labels labels_with(struct labels labels, const char *name, const char *value)
{
	check(labels.n < LABELS_MAX);
	labels.list[labels.n++] = (struct label){ name, value };
	return labels;
}

void exposition_head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(FILE *to, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			fprintf(to, "\\%c", *value);
		else if (*value == '\n')
			fputs("\\n", to);
		else
			fputc(*value, to);
	}
}

void exposition_sample(FILE *to, const char *name, const char *suffix, const struct labels *labels,
	double value)
{
	fprintf(to, "%s%s", name, suffix);
	for (size_t i = 0; i < labels->n; i++) {
		fprintf(to, "%s%s=\"", i ? "," : "{", labels->list[i].name);
		put_value(to, labels->list[i].value);
		fputc('"', to);
	}
	fprintf(to, value == rint(value) ? "%s %.0f\n" : "%s %.9g\n", labels->n ? "}" : "", value);
}
