/* The kernel notes when a process began, in ticks since the system was started. */
#include "alive.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FIELDS_BETWEEN 19 /* of the state and the start in /proc/PID/stat */

static const char *start_field(const char *state)
{
	for (int i = 0; state && i < FIELDS_BETWEEN; i++) {
		state = strchr(state, ' ');
		state += state != NULL;
	}
	return state;
}

int64_t alive_ms(pid_t pid)
{
	char path[64], text[1024] = "", state;
	unsigned long long ticks;
	struct timespec now;
	const char *end, *start;
	FILE *f;

	if (pid <= 0 || (kill(pid, 0) < 0 && errno == ESRCH))
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return -EACCES;
	if (!fgets(text, sizeof(text), f))
		*text = '\0';
	fclose(f);
	/* the name in brackets may contain anything */
	end = strrchr(text, ')');
	start = end && end[1] ? start_field(end + 2) : NULL;
	state = end && end[1] ? end[2] : 'Z';
	if (state == 'Z' || state == 'X')
		return -ESRCH;
	if (!start || sscanf(start, "%llu", &ticks) != 1)
		return -EACCES;
	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 -
		(int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
}
