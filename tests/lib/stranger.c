/* A FUSE server that implements as much of the /dev/fuse protocol as a single file needs. */
#include "lib/stranger.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_NODE 2
#define FILE_BYTES (UINT64_C(4) << 20)

struct shared {
	_Atomic bool hangs;
	_Atomic unsigned int asked;
};

struct stranger {
	char dir[32];
	int dev, fd;
	pid_t server;
	struct shared *shared;
};

static struct fuse_attr attr_of(uint64_t node)
{
	return (struct fuse_attr){ .ino = node,
		.size = node == FILE_NODE ? FILE_BYTES : 0,
		.mode = node == FILE_NODE ? S_IFREG | 0666 : S_IFDIR | 0755,
		.nlink = 1,
		.blksize = 4096 };
}

static int answer(const struct fuse_in_header *in, const void *body, void *out)
{
	static const struct fuse_init_out init = {
		.major = 7, .minor = 31, .max_write = 131072, .time_gran = 1, .max_readahead = 65536
	};
	struct fuse_entry_out *entry = out;
	struct fuse_attr_out *attr = out;
	struct fuse_open_out *opened = out;

	switch (in->opcode) {
	case FUSE_INIT:
		memcpy(out, &init, sizeof(init));
		return sizeof(init);
	case FUSE_LOOKUP:
		if (strcmp(body, "f") != 0)
			return -ENOENT;
		*entry = (struct fuse_entry_out){ .nodeid = FILE_NODE, .attr = attr_of(FILE_NODE) };
		return sizeof(*entry);
	case FUSE_GETATTR:
		*attr = (struct fuse_attr_out){ .attr = attr_of(in->nodeid) };
		return sizeof(*attr);
	case FUSE_OPEN:
		*opened = (struct fuse_open_out){ .fh = 7 };
		return sizeof(*opened);
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_FSYNC:
		return 0;
	default:
		return -ENOSYS;
	}
}

static void serve(int dev, struct shared *shared)
{
	static uint8_t in[1 << 18], out[4096];
	const struct fuse_in_header *head = (const void *)in;
	struct fuse_out_header *reply = (void *)out;

	while (read(dev, in, sizeof(in)) > 0) {
		int n;

		shared->asked += head->nodeid == FILE_NODE && head->opcode != FUSE_FORGET;
		if (shared->hangs || head->opcode == FUSE_FORGET ||
			head->opcode == FUSE_BATCH_FORGET || head->opcode == FUSE_INTERRUPT)
			continue;
		memset(out, 0, sizeof(out));
		n = answer(head, in + sizeof(*head), out + sizeof(*reply));
		*reply = (struct fuse_out_header){ .unique = head->unique,
			.error = n < 0 ? n : 0,
			.len = (uint32_t)(sizeof(*reply) + (n < 0 ? 0 : (size_t)n)) };
		if (write(dev, out, reply->len) < 0)
			continue;
	}
	_exit(0);
}

static bool mount_it(struct stranger *s)
{
	char options[96];

	snprintf(s->dir, sizeof(s->dir), "/tmp/stranger-XXXXXX");
	s->dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->dev < 0 || !mkdtemp(s->dir))
		return false;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		s->dev);
	if (mount("stranger", s->dir, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
		return true;
	rmdir(s->dir);
	return false;
}

struct stranger *stranger_fuse(void)
{
	struct stranger *s = calloc(1, sizeof(*s));
	char path[40];

	s->fd = -1;
	s->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!mount_it(s)) {
		if (s->dev >= 0)
			close(s->dev);
		munmap(s->shared, 4096);
		free(s);
		return NULL;
	}
	s->server = fork();
	if (s->server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(s->dev, s->shared);
	}
	close(s->dev);
	snprintf(path, sizeof(path), "%s/f", s->dir);
	s->fd = open(path, O_RDWR | O_CLOEXEC);
	return s;
}

int stranger_fd(const struct stranger *s)
{
	return s->fd;
}

void stranger_hang(struct stranger *s, bool yes)
{
	s->shared->hangs = yes;
}

unsigned int stranger_asked(const struct stranger *s)
{
	return s->shared->asked;
}

void stranger_free(struct stranger *s)
{
	kill(s->server, SIGKILL);
	waitpid(s->server, NULL, 0);
	close(s->fd);
	umount2(s->dir, MNT_DETACH);
	rmdir(s->dir);
	munmap(s->shared, 4096);
	free(s);
}

int stranger_linger(int seconds, int ret_keep[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct linger linger = { .l_onoff = 1, .l_linger = seconds };
	socklen_t n = sizeof(addr);
	int small = 2048, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static char bytes[65536];

	ret_keep[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(ret_keep[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(ret_keep[0], (struct sockaddr *)&addr, n) < 0 || listen(ret_keep[0], 1) < 0 ||
		getsockname(ret_keep[0], (struct sockaddr *)&addr, &n) < 0 ||
		connect(fd, (struct sockaddr *)&addr, n) < 0)
		abort();
	ret_keep[1] = accept4(ret_keep[0], NULL, NULL, SOCK_CLOEXEC);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return fd;
}
