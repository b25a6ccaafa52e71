#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <syslog.h>

/* Whatever a text contains, one line of printable characters is written (text.h). */

/**
 * log_open() - name this process in what it logs
 * @role:    "frontend", "net", ...; borrowed for the life of the process
 * @guest:   may be NULL; copied (64 bytes at most)
 * @device:  may be NULL; copied (64 bytes at most)
 *
 * If stderr is the journal, entries have the fields BULKHEAD_ROLE, BULKHEAD_GUEST and
 * BULKHEAD_DEVICE; otherwise a line reads "bulkhead-net[vm1:net0]: text". Lines of LOG_INFO
 * are for the journal. They are shown elsewhere, and lines of LOG_DEBUG anywhere, only if the
 * environment has BULKHEAD_DEBUG.
 */
void log_open(const char *role, const char *guest, const char *device);

/** log_device() - like log_at(), about a device that is not the process's own (NULL: none) */
void log_device(int level, const char *device, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** log_at() - log one line of text, given without the newline; any thread; keeps errno */
void log_at(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)

/**
 * log_limited() - log a line that a guest, a VMM, a peer or a file can cause
 * @device: the device it is about, as in log_device(); NULL: the process's own
 * @kind:   distinguishes different matters logged by one call site; 0 if there is one only
 * @fmt:    a literal, which identifies the call site
 *
 * Each combination of call site, device and kind has its own rate limit (limit.h), so that a flood
 * hides nothing else. Any thread; keeps errno.
 */
void log_limited(int level, const char *device, unsigned int kind, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/** log_set_debug() - whether lines of LOG_INFO and LOG_DEBUG are shown, in place of what the
 * environment says; any thread */
void log_set_debug(bool on);

/** log_last_error() - the last line of LOG_ERR, "" = there was none; for the thread that ends the
 * process */
const char *log_last_error(void);

/**
 * LOG_EVENT() - log a line about an event that the journal's catalogue explains (events.def)
 * @event: its name in the table
 * @line:  a call of one of the functions here
 */
#define LOG_EVENT(event, line)                                                                     \
	do {                                                                                       \
		log_begin_event(EVENT_##event);                                                    \
		line;                                                                              \
		log_begin_event(EVENT_NONE);                                                       \
	} while (0)

enum log_event {
	EVENT_NONE,
#define EVENT(name, id) EVENT_##name,
#include "base/events.def"
#undef EVENT
	_EVENTS
};

/** log_begin_event() - what the lines of this thread are about from now on; see LOG_EVENT() */
void log_begin_event(enum log_event event);

/** log_limited_v() - log_limited() with a va_list */
void log_limited_v(int level, const char *device, unsigned int kind, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));
