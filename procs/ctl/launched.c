/*
 * A launcher holds a lock for as long as it lives. What it has told holds then, and for a guest
 * that it has given up.
 */
#include "launched.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/text.h"

#define LINE_BYTES 8192

static const struct {
	const char *word;
	enum seen_state state;
} words[] = {
	{ "running", SEEN_RUNNING },
	{ "starting", SEEN_STARTING },
	{ "ended", SEEN_ENDED },
	{ "given-up", SEEN_STOPPED },
};

enum lock { LOCK_FREE, LOCK_HELD, LOCK_LEFT /* by one that was killed */, LOCK_HIDDEN };

static enum lock look_at_lock(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	char pid[12] = "";

	check(asprintf(&path, "%s/%s/lock", runtime_dir, guest) >= 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? LOCK_HIDDEN : LOCK_FREE;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0)
		return LOCK_HELD;
	return pread(fd, pid, sizeof(pid) - 1, 0) > 0 && atol(pid) > 0 ? LOCK_LEFT : LOCK_FREE;
}

static void take_state(struct seen_process *process, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i].word, word) == 0)
			process->state = words[i].state;
}

/* NAME ROLE PID STATE RESTARTS REASON */
static void take_line(struct seen *seen, const char *line)
{
	char name[128], role[128], state[32];
	struct seen_process *process;
	unsigned long restarts;
	int pid, at = 0;

	if (sscanf(line, "%127s %127s %d %31s %lu %n", name, role, &pid, state, &restarts, &at) <
			5 ||
		at == 0)
		return;
	process = seen_process(seen, name, role);
	process->pid = pid;
	process->counted = true;
	process->restarts = restarts;
	take_state(process, state);
	free(process->why);
	process->why = line[at] ? strdup(line + at) : NULL;
	check(!line[at] || process->why);
	if (process->why)
		text_clean(process->why);
}

static void take_file(struct seen *seen, FILE *f)
{
	static const char config[] = "config ";
	char line[LINE_BYTES];

	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, config, strlen(config)) != 0)
			take_line(seen, line);
		else if (!seen->file)
			seen_file(seen, line + strlen(config));
	}
}

bool launched_look(const char *runtime_dir, struct seen *seen)
{
	enum lock lock = look_at_lock(runtime_dir, seen->name);
	_cleanup_free_ char *path = NULL;
	FILE *f;

	seen->hidden = lock == LOCK_HIDDEN;
	if (lock == LOCK_FREE || lock == LOCK_HIDDEN)
		return false;
	seen->manager = SEEN_LAUNCHER;
	if (lock == LOCK_LEFT) {
		seen->dead = true;
		seen_fault(seen,
			"its launcher was killed, and its processes with it; start it again");
		return true;
	}
	check(asprintf(&path, "%s/%s/processes", runtime_dir, seen->name) >= 0);
	f = fopen(path, "re");
	if (f) {
		take_file(seen, f);
		fclose(f);
	}
	return true;
}
