/*
 * guestd - carries out the test's commands inside the guest, over a serial line
 *
 * The line is not part of what is tested, so a guest whose network is broken can still be asked
 * why. The host sends "ID LENGTH\n" and LENGTH bytes of shell command; each command runs at once,
 * beside those that still run. When one ends, the guest sends "\001ID STATUS LENGTH\n", LENGTH
 * bytes of its output (stdout and stderr) and "\002". The first frame after boot has ID 0. LENGTH
 * counts, so whatever a command prints cannot be taken for a frame.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define N_JOBS 16
#define OUTPUT_MAX 65536
#define COMMAND_MAX 4096

struct job {
	unsigned long id;
	pid_t pid;
	int out_fd;
	size_t n_out;
	char out[OUTPUT_MAX];
};

static struct job jobs[N_JOBS];
static int line_fd;

static void write_all(const char *data, size_t n)
{
	while (n) {
		ssize_t r = write(line_fd, data, n);

		if (r < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (r > 0) {
			data += r;
			n -= (size_t)r;
		}
	}
}

static void send_frame(unsigned long id, int status, const char *data, size_t n)
{
	char head[64];
	int len = snprintf(head, sizeof(head), "\001%lu %d %zu\n", id, status, n);

	write_all(head, (size_t)len);
	write_all(data, n);
	write_all("\002", 1);
}

static struct job *find_free_job(void)
{
	for (size_t i = 0; i < N_JOBS; i++)
		if (!jobs[i].pid)
			return &jobs[i];
	return NULL;
}

static void run_child(const char *command, int out_fd)
{
	int null_fd = open("/dev/null", O_RDONLY);

	setsid();
	dup2(null_fd, 0);
	dup2(out_fd, 1);
	dup2(out_fd, 2);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

static void start_job(unsigned long id, const char *command)
{
	struct job *job = find_free_job();
	int fds[2];

	if (!job || pipe2(fds, O_CLOEXEC) < 0) {
		send_frame(id, 126, "guestd: no job free", 19);
		return;
	}
	job->id = id;
	job->n_out = 0;
	job->pid = fork();
	if (job->pid == 0)
		run_child(command, fds[1]);
	close(fds[1]);
	job->out_fd = fds[0];
}

/* The output ends when the shell and what it left behind have closed it; a background job closes it
 * by redirection. */
static void end_job(struct job *job)
{
	int status = 0;

	close(job->out_fd);
	waitpid(job->pid, &status, 0);
	send_frame(job->id, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
		job->out, job->n_out);
	job->pid = 0;
}

static void on_output(struct job *job)
{
	char spill[4096];
	size_t room = OUTPUT_MAX - job->n_out;
	ssize_t r;

	if (room)
		r = read(job->out_fd, job->out + job->n_out, room);
	else
		r = read(job->out_fd, spill, sizeof(spill));
	if (r < 0 && errno == EINTR)
		return;
	if (r <= 0)
		end_job(job);
	else if (room)
		job->n_out += (size_t)r;
}

static int read_exact(char *data, size_t n)
{
	while (n) {
		ssize_t r = read(line_fd, data, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -1;
		data += r;
		n -= (size_t)r;
	}
	return 0;
}

static int on_command(void)
{
	static char command[COMMAND_MAX + 1];
	char head[64];
	size_t n_head = 0, n = 0;
	unsigned long id;

	do {
		if (n_head == sizeof(head) - 1 || read_exact(head + n_head, 1) < 0)
			return -1;
	} while (head[n_head++] != '\n');
	head[n_head] = 0;
	if (sscanf(head, "%lu %zu", &id, &n) != 2 || n > COMMAND_MAX || read_exact(command, n) < 0)
		return -1;
	command[n] = 0;
	start_job(id, command);
	return 0;
}

static void loop(void)
{
	for (;;) {
		struct pollfd fds[N_JOBS + 1] = { { .fd = line_fd, .events = POLLIN } };

		for (size_t i = 0; i < N_JOBS; i++)
			fds[i + 1] = (struct pollfd){ .fd = jobs[i].pid ? jobs[i].out_fd : -1,
				.events = POLLIN };
		if (poll(fds, N_JOBS + 1, -1) < 0 && errno != EINTR)
			return;
		if (fds[0].revents && on_command() < 0)
			return;
		for (size_t i = 0; i < N_JOBS; i++)
			if (fds[i + 1].revents)
				on_output(&jobs[i]);
	}
}

int main(int argc, char **argv)
{
	struct termios raw;

	line_fd = open(argc > 1 ? argv[1] : "/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line_fd < 0)
		return 1;
	if (tcgetattr(line_fd, &raw) == 0) {
		cfmakeraw(&raw);
		cfsetspeed(&raw, B115200);
		tcsetattr(line_fd, TCSAFLUSH, &raw);
	}
	send_frame(0, 0, "ready", 5);
	loop();
	return 1;
}
