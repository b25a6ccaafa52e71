#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"

#define NAME_BYTES 64

static const char *name_end(char *buf, const char *purpose, const char *end, const char *device)
{
	snprintf(buf, NAME_BYTES, "%s-%s.%s", purpose, end, device);
	return buf;
}

int stage_open(struct stage *stage, const char *purpose, const char *device)
{
	char in[NAME_BYTES], out[NAME_BYTES];
	int fds[2];

	stage->write_fd = fdstore_take(name_end(in, purpose, "in", device));
	stage->read_fd = fdstore_take(name_end(out, purpose, "out", device));
	if (stage->write_fd >= 0 && stage->read_fd >= 0)
		return 0;
	stage_close(stage);
	(void)fdstore_remove(in);
	(void)fdstore_remove(out);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	stage->read_fd = fds[0];
	stage->write_fd = fds[1];
	(void)fdstore_push(in, stage->write_fd);
	(void)fdstore_push(out, stage->read_fd);
	return 0;
}

void stage_close(struct stage *stage)
{
	stage->read_fd = fd_close(stage->read_fd);
	stage->write_fd = fd_close(stage->write_fd);
}

size_t stage_bytes(const struct stage *stage)
{
	int n = 0;

	return ioctl(stage->read_fd, FIONREAD, &n) < 0 ? 0 : (size_t)n;
}

int stage_lay(struct stage *stage, const void *buf, size_t n)
{
	check(n <= STAGE_BYTES_MAX);
	return write(stage->write_fd, buf, n) < 0 ? -errno : 0;
}

size_t stage_look(const struct stage *stage, void *buf, size_t n)
{
	_cleanup_close_ int out = -1, in = -1;
	int fds[2];
	ssize_t got;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return 0;
	out = fds[0];
	in = fds[1];
	if (tee(stage->read_fd, in, n, SPLICE_F_NONBLOCK) <= 0)
		return 0;
	got = read(out, buf, n);
	return got < 0 ? 0 : (size_t)got;
}

int stage_send(struct stage *stage, int fd)
{
	size_t n;

	while ((n = stage_bytes(stage))) {
		ssize_t done = splice(stage->read_fd, NULL, fd, NULL, n, SPLICE_F_NONBLOCK);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EPIPE;
	}
	return 0;
}

void stage_empty(struct stage *stage)
{
	uint8_t buf[512];

	while (read(stage->read_fd, buf, sizeof(buf)) > 0)
		;
}
