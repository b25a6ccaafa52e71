#pragma once

#include <stdbool.h>

/* What is judged of a file's lines before keys and values are told apart. */

/** lines_skip_mark() - remove the mark that some editors put before UTF-8 from the first line, in
 * place
 * Returns: false: the line is in UTF-16. */
bool lines_skip_mark(char *first_line);

/** lines_is_closed() - whether a section's bracket is closed, as inih reads it
 * @section: the line from '[' on */
bool lines_is_closed(const char *section);

/** lines_unquote() - the text between two equal quotes, malloc'ed; NULL = it is not quoted */
char *lines_unquote(const char *text);
