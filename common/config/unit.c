#include "config/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"

char *unit_escape(const char *instance)
{
	char *text = malloc(4 * strlen(instance) + 1), *at = text;

	check(text);
	for (; *instance; instance++) {
		if ((*instance >= 'a' && *instance <= 'z') ||
			(*instance >= 'A' && *instance <= 'Z') ||
			(*instance >= '0' && *instance <= '9') || strchr(":_.", *instance))
			*at++ = *instance;
		else
			at += sprintf(at, "\\x%02x", (unsigned char)*instance);
	}
	*at = '\0';
	return text;
}

char *unit_name(const char *role, const char *instance, const char *kind)
{
	_cleanup_free_ char *escaped = unit_escape(instance);
	char *name;

	check(asprintf(&name, "bulkhead-%s@%s.%s", role, escaped, kind) >= 0);
	return name;
}
