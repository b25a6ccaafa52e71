#pragma once

#include <syslog.h>

/**
 * log_open() - name this process in what it logs
 * @role:    "frontend", "net", ...; borrowed for good
 * @guest:   may be NULL; copied (64 bytes at most)
 * @device:  may be NULL; copied (64 bytes at most)
 *
 * Where stderr is the journal, entries carry BULKHEAD_ROLE, BULKHEAD_GUEST and BULKHEAD_DEVICE as
 * fields; elsewhere a line on stderr reads "bulkhead-net[vm1:net0]: text".
 */
void log_open(const char *role, const char *guest, const char *device);

/** log_set_debug() - also show LOG_DEBUG; off by default; BULKHEAD_DEBUG=1 in the environment turns it on */
void log_set_debug(int on);

/** log_device() - like log_at(), about a device other than the process's own (NULL: none) */
void log_device(int level, const char *device, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** log_at() - one line of text, without the newline; thread-safe; errno is kept */
void log_at(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)

/** struct log_limit - how often a peer may make us log: burst lines, then one for each interval */
struct log_limit {
	unsigned int burst;
	unsigned int interval_ms;
	unsigned long long last_ms;  /* written by log_allowed() */
	unsigned int used;           /* written by log_allowed() */
	unsigned int suppressed;     /* written by log_allowed() */
};

#define LOG_LIMIT_DEFAULT { .burst = 10, .interval_ms = 1000 }

/** log_allowed() - whether a line about what a peer did may be written now; one thread at a time */
int log_allowed(struct log_limit *limit);
