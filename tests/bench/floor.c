/*
 * The least that a restart can cost: a program that starts, connects to a Unix socket and answers
 * one byte with another; no memory to map, no neighbours to find.
 *
 *   bench-floor keep PATH N starts it, kills it N times and starts it again as soon as its end is
 *   told bench-floor watch PATH N the same, but leaves the starting to somebody else (a service
 *   manager) bench-floor serve PATH the program itself
 *
 * Prints for each kill the nanoseconds until the next answer.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	check(strlen(path) < sizeof(addr.sun_path));
	memcpy(addr.sun_path, path, strlen(path));
	return addr;
}

static int serve(const char *path)
{
	struct sockaddr_un addr = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char byte;

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return 1;
	while (read(fd, &byte, 1) == 1)
		if (write(fd, &byte, 1) != 1)
			return 1;
	return 0;
}

static pid_t start(char *path)
{
	char self[] = "/proc/self/exe";
	char verb[] = "serve";
	char *const argv[] = { self, verb, path, NULL };
	pid_t pid;

	check(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
	return pid;
}

static int listen_on(const char *path)
{
	struct sockaddr_un addr = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)unlink(path);
	check(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	check(chmod(path, 0777) == 0);
	check(listen(fd, 8) == 0);
	return fd;
}

/* the program that came in, once it has answered */
static int next_server(int listen_fd, pid_t *ret_pid)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	char byte = 0;

	check(fd >= 0);
	check(write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1);
	check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0);
	*ret_pid = cred.pid;
	return fd;
}

static int measure(char *path, int n_kills, bool keep)
{
	int listen_fd = listen_on(path);
	pid_t pid;
	int fd;

	if (keep)
		start(path);
	fd = next_server(listen_fd, &pid);
	for (int i = 0; i < n_kills; i++) {
		uint64_t from = now_ns();

		kill(pid, SIGKILL);
		if (keep) {
			waitpid(pid, NULL, 0);
			start(path);
		}
		close(fd);
		fd = next_server(listen_fd, &pid);
		printf("%llu\n", (unsigned long long)(now_ns() - from));
		fflush(stdout);
		usleep(20000);
	}
	if (keep)
		kill(pid, SIGKILL);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc == 4 && strcmp(argv[1], "keep") == 0)
		return measure(argv[2], atoi(argv[3]), true);
	if (argc == 4 && strcmp(argv[1], "watch") == 0)
		return measure(argv[2], atoi(argv[3]), false);
	fprintf(stderr, "bench-floor keep|watch PATH N, or serve PATH\n");
	return 2;
}
