/* An array of arguments begins with the program and the verb, which leaves no copy to be made. */
#include "systemctl.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"

#define HEAD 3 /* systemctl VERB -- */

extern char **environ;

/* --- Units --- */

void unit_names_add(struct unit_names *units, char *name)
{
	units->names = reallocarray(units->names, units->n + HEAD + 2, sizeof(*units->names));
	check(units->names && name);
	units->names[HEAD + units->n++] = name;
	units->names[HEAD + units->n] = NULL;
}

const char *unit_names_at(const struct unit_names *units, size_t i)
{
	return units->names[HEAD + i];
}

void unit_names_deinit(struct unit_names *units)
{
	for (size_t i = 0; i < units->n; i++)
		free(units->names[HEAD + i]);
	free(units->names);
	*units = (struct unit_names){ 0 };
}

bool systemctl_is_there(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

/* --- Running it --- */

static int spawn(char *argv[], int output, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r == 0 && output >= 0)
		r = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int await(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int run(char *argv[])
{
	pid_t pid = -1;
	int r;

	fflush(stdout);
	r = spawn(argv, -1, &pid);
	if (r < 0)
		fprintf(stderr, "systemctl cannot be run: %s\n", strerror(-r));
	return r < 0 ? r : await(pid);
}

static char **command(const struct unit_names *units, const char *verb)
{
	units->names[0] = (char *)"systemctl";
	units->names[1] = (char *)verb;
	units->names[2] = (char *)"--";
	return units->names;
}

int systemctl_run(const char *verb, const struct unit_names *units)
{
	return units->n ? run(command(units, verb)) : 0;
}

int systemctl_reload(void)
{
	return run((char *[]){ (char *)"systemctl", (char *)"daemon-reload", NULL });
}

/* One line for each unit, in their order. */
static void read_states(int fd, bool *active, size_t n)
{
	FILE *f = fdopen(fd, "r");
	char line[64];

	check(f);
	for (size_t i = 0; i < n && fgets(line, sizeof(line), f); i++)
		active[i] = strcmp(line, "active\n") == 0;
	fclose(f);
}

void systemctl_active(const struct unit_names *units, bool *active)
{
	int ends[2];
	pid_t pid = -1;

	memset(active, 0, units->n * sizeof(*active));
	if (units->n == 0 || pipe2(ends, O_CLOEXEC) < 0)
		return;
	if (spawn(command(units, "is-active"), ends[1], &pid) < 0) {
		fd_close(ends[0]);
		fd_close(ends[1]);
		return;
	}
	fd_close(ends[1]);
	read_states(ends[0], active, units->n);
	(void)await(pid); /* its status says no more than the lines */
}
