/* Lines as editors, shells and other configuration languages leave them. */
#include "config/lines.h"

#include <ctype.h>
#include <string.h>

#include "base/check.h"

static const char utf8_mark[] = "\xef\xbb\xbf", utf16_mark[] = "\xff\xfe",
		  utf16_mark_swapped[] = "\xfe\xff";

static bool begins_with(const char *line, const char *mark)
{
	return strncmp(line, mark, strlen(mark)) == 0;
}

bool lines_skip_mark(char *first_line)
{
	char *rest = first_line + strlen(utf8_mark);

	if (begins_with(first_line, utf16_mark) || begins_with(first_line, utf16_mark_swapped))
		return false;
	if (begins_with(first_line, utf8_mark))
		memmove(first_line, rest, strlen(rest) + 1);
	return true;
}

/* A comment may begin before the bracket is closed. */
bool lines_is_closed(const char *section)
{
	const char *end = strchr(section, ']');

	for (const char *p = section + 1; end && p < end; p++)
		if (strchr(";#", *p) && isspace((unsigned char)p[-1]))
			return false;
	return end;
}

char *lines_unquote(const char *text)
{
	size_t n = strlen(text);
	char *bare;

	if (n < 2 || !strchr("\"'", text[0]) || text[n - 1] != text[0])
		return NULL;
	bare = strndup(text + 1, n - 2);
	check(bare);
	return bare;
}
