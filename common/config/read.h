#pragma once

#include <stddef.h>

/**
 * read_text() - read a whole file, which must be a regular one of at most a megabyte
 * @ret_text: [out] malloc'ed; set on 0. An empty file is one with an empty line
 *
 * Never blocks on what is no file.
 * Errors: 0 | -EISDIR: no regular file, or too long | another negative errno.
 */
int read_text(const char *path, char **ret_text, size_t *ret_n);
