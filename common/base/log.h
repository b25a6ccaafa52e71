#pragma once

#include <stdarg.h>
#include <syslog.h>

/* Whatever stands in a text: what is written is one line of printable characters (text.h). */

/**
 * log_open() - name this process in what it logs
 * @role:    "frontend", "net", ...; borrowed for good
 * @guest:   may be NULL; copied (64 bytes at most)
 * @device:  may be NULL; copied (64 bytes at most)
 *
 * Where stderr is the journal, entries carry BULKHEAD_ROLE, BULKHEAD_GUEST and BULKHEAD_DEVICE as
 * fields; elsewhere a line on stderr reads "bulkhead-net[vm1:net0]: text". BULKHEAD_DEBUG=1 in the environment
 * shows LOG_DEBUG, too.
 */
void log_open(const char *role, const char *guest, const char *device);

/** log_device() - like log_at(), about a device other than the process's own (NULL: none) */
void log_device(int level, const char *device, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** log_at() - one line of text, without the newline; thread-safe; errno is kept */
void log_at(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)

/**
 * log_limited() - a line that a guest, a VMM, a peer or a file can cause
 * @device: whom it is about, as in log_device(); NULL: the process's own
 * @kind:   tells lines of one place apart that are different things; 0 where they are not
 * @fmt:    the place: a literal
 *
 * Of each place, device and kind the first lines are written (limit.h); then they are counted, and the count is told.
 * A flood of one kind or about one device hides no other.
 */
void log_limited(int level, const char *device, unsigned int kind, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/** log_limited_v() - the same, its arguments in a list */
void log_limited_v(int level, const char *device, unsigned int kind, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));
