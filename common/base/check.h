#pragma once

#include <stdio.h>
#include <stdlib.h>

/**
 * check() - an impossible state ends the process, in release builds too
 *
 * For bugs of ours alone: never for what a guest, a VMM, an operator or the system can cause.
 */
#define check(cond)                                                                                \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			check_failed(#cond, __FILE__, __LINE__);                                   \
	} while (0)

__attribute__((noreturn, cold)) static inline void check_failed(const char *cond, const char *file,
	int line)
{
	fprintf(stderr, "%s:%d: impossible: !(%s)\n", file, line, cond);
	abort();
}
