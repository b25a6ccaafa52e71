#pragma once

#include <stddef.h>

/* SANITIZES_ADDRESSES and SANITIZES_THREADS are 1 in builds with that sanitizer, else 0. */
#ifdef __has_feature
#define SANITIZES_ADDRESSES __has_feature(address_sanitizer)
#define SANITIZES_THREADS __has_feature(thread_sanitizer)
#else
#ifdef __SANITIZE_ADDRESS__
#define SANITIZES_ADDRESSES 1
#else
#define SANITIZES_ADDRESSES 0
#endif
#ifdef __SANITIZE_THREAD__
#define SANITIZES_THREADS 1
#else
#define SANITIZES_THREADS 0
#endif
#endif

/* NOT_SANITIZED marks a function whose code no sanitizer may touch. gcc has no such attribute, and
 * does not need it for what is marked. */
#if defined __has_attribute && __has_attribute(disable_sanitizer_instrumentation)
#define NOT_SANITIZED __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define NOT_SANITIZED
#endif

#if SANITIZES_THREADS
/** AnnotateBenignRaceSized() - of ThreadSanitizer: no two accesses to this memory are a race */
void AnnotateBenignRaceSized(const char *file, int line, void *mem, size_t bytes, const char *text);
#endif

/**
 * ordered_elsewhere() - what is done with this memory is put in order where no sanitizer looks
 *
 * A suppression would not do: a process with a list of system calls cannot start the symbolizer,
 * and without it no name is known.
 */
static inline void ordered_elsewhere(void *mem, size_t bytes)
{
#if SANITIZES_THREADS
	AnnotateBenignRaceSized(__FILE__, __LINE__, mem, bytes, "ordered elsewhere");
#endif
}
