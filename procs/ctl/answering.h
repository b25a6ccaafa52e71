#pragma once

#include <stddef.h>

#define GUESTS_MAX 1024

/** answering_find() - the guests that are served, in the order of their names
 * @names: [out] room for GUESTS_MAX; the caller frees each with answering_free()
 * Returns how many there are. */
size_t answering_find(const char *runtime_dir, char **names);

/** answering_free() - n names; the list is the caller's */
void answering_free(char **names, size_t n);
