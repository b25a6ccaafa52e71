/*
 * Logging: one line per event. If stderr is the journal, the line goes there with structured
 * fields; otherwise it goes to stderr as text. An error is logged once, where it is finally
 * handled. Lines that others can cause are rate-limited by call site, kind and device, across all
 * threads.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
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
#include "base/limit.h"
#include "base/text.h"

#define LINE_MAX_BYTES 1024

static struct {
	const char *role;
	char guest[64];
	char device[64];
	bool journal;
} state = { .role = "bulkhead" };

static atomic_bool debug;
static char last_error[LINE_MAX_BYTES];
static _Thread_local enum log_event event;

static const char *const event_ids[_EVENTS] = {
#define EVENT(name, id) [EVENT_##name] = id,
#include "base/events.def"
#undef EVENT
};

/* systemd sets JOURNAL_STREAM to the device and inode of the stream that is our stderr. */
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
		debug = true;
}

static void to_journal(int level, const char *device, const char *text)
{
	if (sd_journal_send("MESSAGE=%s", text, "PRIORITY=%d", level,
		    "SYSLOG_IDENTIFIER=bulkhead-%s", state.role, "BULKHEAD_ROLE=%s", state.role,
		    "BULKHEAD_GUEST=%s", state.guest, "BULKHEAD_DEVICE=%s", device,
		    event ? "MESSAGE_ID=%s" : NULL, event_ids[event], NULL) < 0)
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
	/* a single write, so that lines of several processes do not mix */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

static void write_line(int level, const char *device, char *text)
{
	text_clean(text);
	if (level == LOG_ERR)
		snprintf(last_error, sizeof(last_error), "%s", text);
	if (state.journal)
		to_journal(level, device, text);
	else
		to_stderr(device, text);
}

void log_set_debug(bool on)
{
	debug = on;
}

const char *log_last_error(void)
{
	return last_error;
}

void log_begin_event(enum log_event begun)
{
	event = begun;
}

/* --- Rate-limited lines --- */

#define KINDS_MAX 256

/** struct kind - lines of one call site about one device */
struct kind {
	const char *fmt; /* the call site; NULL = unused */
	unsigned int kind;
	int level;
	char device[64];
	uint64_t used_ms;
	struct limit limit;
};

static struct kind kinds[KINDS_MAX];
static pthread_mutex_t kinds_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool any_untold; /* lines were suppressed and not reported yet */

static void tell_alone(const struct kind *kind, struct limit_told told)
{
	char text[LINE_MAX_BYTES];

	snprintf(text, sizeof(text), "%u more messages like this were suppressed in %u s: %.200s",
		told.more, told.seconds, kind->fmt);
	write_line(kind->level, kind->device, text);
}

/* The end of a flood is reported with the next line, whatever it is about. */
static void tell_untold(uint64_t now_ms)
{
	struct limit_told told;
	bool more = false;

	if (!atomic_load(&any_untold))
		return;
	pthread_mutex_lock(&kinds_lock);
	for (size_t i = 0; i < KINDS_MAX; i++) {
		if (kinds[i].fmt && limit_due(&kinds[i].limit, now_ms, &told))
			tell_alone(&kinds[i], told);
		more |= kinds[i].limit.more > 0;
	}
	atomic_store(&any_untold, more);
	pthread_mutex_unlock(&kinds_lock);
}

/* Replaces the least recently used entry if there is none for this kind. */
static struct kind *find_kind(const char *fmt, unsigned int number, const char *device)
{
	struct kind *oldest = &kinds[0];

	for (size_t i = 0; i < KINDS_MAX; i++) {
		struct kind *kind = &kinds[i];

		if (kind->fmt == fmt && kind->kind == number &&
			strncmp(kind->device, device, sizeof(kind->device) - 1) == 0)
			return kind;
		if (!kind->fmt || (oldest->fmt && kind->used_ms < oldest->used_ms))
			oldest = kind;
	}
	if (oldest->limit.more)
		tell_alone(oldest, limit_tell(&oldest->limit, clock_ms()));
	*oldest = (struct kind){ .fmt = fmt, .kind = number };
	snprintf(oldest->device, sizeof(oldest->device), "%s", device);
	return oldest;
}

static bool may_pass(int level, const char *device, unsigned int number, const char *fmt,
	struct limit_told *ret)
{
	uint64_t now_ms = clock_ms();
	struct kind *kind;
	bool pass;

	pthread_mutex_lock(&kinds_lock);
	kind = find_kind(fmt, number, device);
	kind->level = level;
	kind->used_ms = now_ms;
	pass = limit_pass(&kind->limit, now_ms, ret);
	if (!pass)
		atomic_store(&any_untold, true);
	pthread_mutex_unlock(&kinds_lock);
	return pass;
}

__attribute__((format(printf, 4, 0))) static void log_line(int level, const char *device,
	struct limit_told told, const char *fmt, va_list ap)
{
	int saved = errno;
	char text[LINE_MAX_BYTES];
	size_t n;

	if (level >= (state.journal ? LOG_DEBUG : LOG_INFO) && !debug)
		return;
	tell_untold(clock_ms());
	errno = saved;
	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	if (told.more)
		snprintf(text + n, sizeof(text) - n, " (and %u more like this in the last %u s)",
			told.more, told.seconds);
	write_line(level, device, text);
	errno = saved;
}

void log_limited_v(int level, const char *device, unsigned int kind, const char *fmt, va_list ap)
{
	int saved = errno;
	struct limit_told told;
	bool pass = may_pass(level, device ?: state.device, kind, fmt, &told);

	errno = saved;
	if (pass)
		log_line(level, device ?: state.device, told, fmt, ap);
}

void log_limited(int level, const char *device, unsigned int kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_limited_v(level, device, kind, fmt, ap);
	va_end(ap);
}

void log_device(int level, const char *device, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, device ?: "", (struct limit_told){ 0 }, fmt, ap);
	va_end(ap);
}

void log_at(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, state.device, (struct limit_told){ 0 }, fmt, ap);
	va_end(ap);
}
