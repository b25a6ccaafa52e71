/*
 * A process that keeps dying before it is ready delays its next start. The process does this
 * itself, because a service manager with a start limit or a restart delay would also apply it after
 * the death of a process that was serving. The count of failed starts is a memfd in the fd store.
 */
#include "proc/backoff.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "fd/fdstore.h"

#define NAME "starts"
#define FREE_STARTS 4 /* without delay; then 10 ms, doubled up to a second */
#define LAST_START 11
#define BARRIER_USEC 1000000

#define WHY_BYTES 401

static int starts_fd = -1;
static uint32_t n_failed; /* starts before this one */

static void set_starts(uint32_t n)
{
	if (starts_fd >= 0 && pwrite(starts_fd, &n, sizeof(n), 0) != sizeof(n))
		log_warning("cannot count the starts of this process");
}

/* The reason stands behind the number. */
void backoff_failed(const char *why)
{
	char text[WHY_BYTES] = "";

	snprintf(text, sizeof(text), "%s", why);
	if (starts_fd >= 0 && pwrite(starts_fd, text, sizeof(text), sizeof(uint32_t)) < 0)
		log_warning("cannot note why this process ends");
}

static void tell_why(uint32_t n)
{
	char text[WHY_BYTES] = "";

	if (pread(starts_fd, text, sizeof(text) - 1, sizeof(n)) > 0 && *text)
		(void)sd_notifyf(0, "STATUS=start %u, after: %s", n + 1, text_clean(text));
}

void backoff_begin(void)
{
	uint32_t n = 0, ms;
	struct timespec pause;

	if (!fdstore_available())
		return;
	starts_fd = fdstore_take(NAME);
	if (starts_fd < 0) {
		starts_fd = memfd_create(NAME, MFD_CLOEXEC);
		(void)fdstore_push(NAME, starts_fd);
	} else if (pread(starts_fd, &n, sizeof(n), 0) != sizeof(n)) {
		n = 0;
	}
	n_failed = n;
	set_starts(MIN(n, UINT32_MAX - 1) + 1);
	if (n)
		tell_why(n);
	if (n < FREE_STARTS)
		return;
	ms = n < LAST_START ? 10u << (n - FREE_STARTS) : 1000;
	if (n == LAST_START)
		log_warning("died %u times before it was ready; retrying once a second", n);
	pause = (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	(void)nanosleep(&pause, NULL);
}

void backoff_done(void)
{
	set_starts(0);
	backoff_failed("");
}

/* systemd is told that the process is ready, which ends the job, and sees it end. */
void backoff_give_way(void)
{
	const char *manager = getenv("NOTIFY_SOCKET");

	if (n_failed < FREE_STARTS || !manager || !strstr(manager, "/systemd/"))
		return;
	(void)sd_notify(0, "READY=1");
	(void)sd_notify_barrier(0, BARRIER_USEC);
}
