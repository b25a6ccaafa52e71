/* A program that is missing, lacks a shared library or hangs fails the probe. */
#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS 5

int program_probe(const char *path, const char *option)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		(void)alarm(SECONDS);
		(void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);
		execl(path, path, option, (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOEXEC;
}
