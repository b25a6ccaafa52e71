/*
 * Logging. One line for each event, to the journal with fields where stderr is the journal, else to
 * stderr as text. The process whose road an error ends on is the one that logs it.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/clock.h"

#define LINE_MAX_BYTES 1024

static struct {
	const char *role;
	char guest[64];
	char device[64];
	bool debug;
	bool journal;
} state = { .role = "bulkhead" };

/* JOURNAL_STREAM names the device and inode of the stream that systemd made our stderr. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *role, const char *guest, const char *device)
{
	state.role = role;
	snprintf(state.guest, sizeof(state.guest), "%s", guest ?: "");
	snprintf(state.device, sizeof(state.device), "%s", device ?: "");
	state.journal = stderr_is_journal();
	if (getenv("BULKHEAD_DEBUG"))
		state.debug = true;
}

void log_set_debug(int on)
{
	state.debug = on;
}

static void to_journal(int level, const char *device, const char *text)
{
	if (sd_journal_send("MESSAGE=%s", text, "PRIORITY=%d", level, "SYSLOG_IDENTIFIER=bulkhead-%s",
		    state.role, "BULKHEAD_ROLE=%s", state.role, "BULKHEAD_GUEST=%s", state.guest,
		    "BULKHEAD_DEVICE=%s", device, NULL) < 0)
		fprintf(stderr, "<%d>%s\n", level, text);
}

static void to_stderr(const char *device, const char *text)
{
	char line[LINE_MAX_BYTES + 256];
	int n;

	n = snprintf(line, sizeof(line), "bulkhead-%s%s%s%s%s%s: %s\n", state.role,
		*state.guest ? "[" : "", state.guest, *state.guest && *device ? ":" : "", device,
		*state.guest ? "]" : "", text);
	if (n > (int)sizeof(line) - 1)
		n = (int)sizeof(line) - 1;
	/* one write, so that lines of several processes do not mix */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

__attribute__((format(printf, 3, 0))) static void log_line(
	int level, const char *device, const char *fmt, va_list ap)
{
	int saved = errno;
	char text[LINE_MAX_BYTES];

	if (level == LOG_DEBUG && !state.debug)
		return;
	errno = saved;
	vsnprintf(text, sizeof(text), fmt, ap);
	if (state.journal)
		to_journal(level, device, text);
	else
		to_stderr(device, text);
	errno = saved;
}

void log_device(int level, const char *device, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, device ?: "", fmt, ap);
	va_end(ap);
}

void log_at(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, state.device, fmt, ap);
	va_end(ap);
}

int log_allowed(struct log_limit *limit)
{
	unsigned long long now = clock_ms();

	if (now - limit->last_ms >= limit->interval_ms) {
		if (limit->suppressed)
			log_at(LOG_WARNING, "%u similar lines left out", limit->suppressed);
		*limit = (struct log_limit){ .burst = limit->burst, .interval_ms = limit->interval_ms,
			.last_ms = now };
	}
	if (limit->used >= limit->burst) {
		limit->suppressed++;
		return 0;
	}
	limit->used++;
	return 1;
}
