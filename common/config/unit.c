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

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

void unit_unescape(char *text)
{
	char *to = text;

	for (; *text; text++)
		if (text[0] == '\\' && text[1] == 'x' && digit(text[2]) >= 0 &&
			digit(text[3]) >= 0) {
			*to++ = (char)(digit(text[2]) * 16 + digit(text[3]));
			text += 3;
		} else {
			*to++ = *text;
		}
	*to = '\0';
}

char *unit_name(const char *role, const char *instance, const char *kind)
{
	_cleanup_free_ char *escaped = unit_escape(instance);
	char *name;

	check(asprintf(&name, "bulkhead-%s@%s.%s", role, escaped, kind) >= 0);
	return name;
}
