/*
 * No call in this file waits for anything outside the kernel, whoever opened the descriptor:
 *  - F_GET_SEALS succeeds for shmem and hugetlbfs only, and reads the inode;
 *  - SO_DOMAIN and F_GETPIPE_SZ succeed for sockets and for pipes only;
 *  - an eventfd is recognized by its name in /proc/self/fd: paths of files begin with a slash;
 *  - a fence likewise, and a dma-buf by what its driver alone adds to /proc/self/fdinfo: a path may
 *    look like a dma-buf's name;
 *  - statx() with AT_STATX_DONT_SYNC uses the attributes that FUSE, NFS, Ceph, CIFS and AFS have
 *    cached. 9p asks its server regardless; but only an administrator can mount 9p.
 * The mount table maps the device number from statx() to a file system type. If it has no such
 * number (each btrfs subvolume has its own), the mount id of the descriptor is looked up, which
 * works for mounts of our own namespace.
 *
 * A local file system is one that neither a process nor a network serves. overlay is not in the
 * list because it may lie on anything. A block device is refused: guest memory does not lie in one.
 */
#include "fd/kind.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define LINE_BYTES 4096
#define TYPE_BYTES 32

static const char *const local_types[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs",
	"bcachefs", "tmpfs", "ramfs", "devtmpfs", "hugetlbfs" };

/* --- Lines of files below /proc/self --- */

/** struct lines - reads a file line by line, without allocation */
struct lines {
	int fd;
	size_t n, at;
	char bytes[LINE_BYTES + 1];
};

/* A line longer than the buffer is returned in pieces; the fields of interest are in the first
 * one. */
static char *next_line(struct lines *lines)
{
	char *line = lines->bytes + lines->at, *end = memchr(line, '\n', lines->n - lines->at);
	ssize_t got = 1;

	if (!end) {
		lines->n -= lines->at;
		memmove(lines->bytes, line, lines->n);
		lines->at = 0;
		line = lines->bytes;
		while (!end && lines->n < LINE_BYTES && got > 0) {
			got = read(lines->fd, lines->bytes + lines->n, LINE_BYTES - lines->n);
			lines->n += got > 0 ? (size_t)got : 0;
			end = memchr(lines->bytes, '\n', lines->n);
		}
	}
	if (!end)
		end = lines->bytes + lines->n;
	if (end == line)
		return NULL;
	*end = '\0';
	lines->at = MIN((size_t)(end - lines->bytes) + 1, lines->n);
	return line;
}

/* --- The mount table --- */

/** struct place - where a file lies, in the two ways that the mount table may know */
struct place {
	unsigned int major, minor;
	int mount_id; /* -1: unknown */
};

static int open_info(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int mount_of(int fd)
{
	struct lines lines = { .fd = open_info(fd) };
	char *line;
	int id = -1;

	if (lines.fd < 0)
		return -1;
	while (id < 0 && (line = next_line(&lines)))
		if (sscanf(line, "mnt_id: %d", &id) != 1)
			id = -1;
	fd_close(lines.fd);
	return id;
}

static bool is_buffer(int fd)
{
	struct lines lines = { .fd = open_info(fd) };
	bool found = false;
	char *line;

	if (lines.fd < 0)
		return false;
	while (!found && (line = next_line(&lines)))
		found = strncmp(line, "exp_name:", strlen("exp_name:")) == 0;
	fd_close(lines.fd);
	return found;
}

/* "36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw". Returns whether the
 * mount holds the place. */
static bool parse_mount(const char *line, const struct place *place, bool by_device,
	char ret_type[TYPE_BYTES])
{
	const char *type = strstr(line, " - ");
	unsigned int major, minor;
	int id;

	if (!type || sscanf(line, "%d %*d %u:%u", &id, &major, &minor) != 3)
		return false;
	if (by_device ? major != place->major || minor != place->minor : id != place->mount_id)
		return false;
	return sscanf(type, " - %31s", ret_type) == 1;
}

static bool find_mount(const struct place *place, bool by_device, char ret_type[TYPE_BYTES])
{
	struct lines lines = { .fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) };
	bool found = false;
	char *line;

	if (lines.fd < 0)
		return false;
	while (!found && (line = next_line(&lines)))
		found = parse_mount(line, place, by_device, ret_type);
	fd_close(lines.fd);
	return found;
}

static bool is_local(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(local_types); i++)
		if (strcmp(type, local_types[i]) == 0)
			return true;
	return false;
}

/* --- Kinds --- */

static const char *kind_of_mode(mode_t mode)
{
	return S_ISDIR(mode)    ? "a directory"
		: S_ISBLK(mode) ? "a block device"
		: S_ISCHR(mode) ? "a character device"
		: S_ISLNK(mode) ? "a symbolic link"
				: "a special file";
}

static enum fd_kind kind_of_file(int fd, char *text)
{
	char type[TYPE_BYTES] = "";
	struct place place;
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0) {
		snprintf(text, FD_KIND_TEXT_BYTES, "a file that cannot be looked at");
		return FD_FOREIGN;
	}
	if (!S_ISREG(st.stx_mode)) {
		snprintf(text, FD_KIND_TEXT_BYTES, "%s", kind_of_mode(st.stx_mode));
		return S_ISCHR(st.stx_mode) ? FD_DEVICE : FD_FOREIGN;
	}
	place = (struct place){
		.major = st.stx_dev_major, .minor = st.stx_dev_minor, .mount_id = mount_of(fd)
	};
	if (!find_mount(&place, true, type) && !find_mount(&place, false, type)) {
		snprintf(text, FD_KIND_TEXT_BYTES,
			"a file on a file system that is not mounted here");
		return FD_FOREIGN;
	}
	snprintf(text, FD_KIND_TEXT_BYTES, "a file on %s", type);
	return is_local(type) ? FD_MEMORY : FD_FOREIGN;
}

static int socket_option(int fd, int option)
{
	socklen_t n = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &n) < 0 ? -1 : value;
}

static enum fd_kind kind_of_socket(int fd, int domain, char *text)
{
	struct sockaddr peer;
	socklen_t n = sizeof(peer);

	if (domain != AF_UNIX)
		snprintf(text, FD_KIND_TEXT_BYTES, "a socket of another family than AF_UNIX (%d)",
			domain);
	else if (socket_option(fd, SO_TYPE) != SOCK_STREAM)
		snprintf(text, FD_KIND_TEXT_BYTES, "an AF_UNIX socket that is no stream");
	else if (getpeername(fd, &peer, &n) < 0)
		snprintf(text, FD_KIND_TEXT_BYTES, "an AF_UNIX socket that is not connected");
	else {
		snprintf(text, FD_KIND_TEXT_BYTES, "a connected AF_UNIX socket");
		return FD_CHANNEL;
	}
	return FD_FOREIGN;
}

static const struct {
	const char *name; /* behind "anon_inode:" */
	enum fd_kind kind;
	const char *text;
} anonymous[] = {
	{ "[eventfd]", FD_EVENT, "an eventfd" },
	{ "sync_file", FD_FENCE, "a fence" },
};

/* By the kernel's name of a file that has no path: "anon_inode:[eventfd]". */
static enum fd_kind kind_of_name(int fd, char *text)
{
	char path[64], name[FD_KIND_TEXT_BYTES - 32];
	const char *prefix = "anon_inode:";
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	name[MAX(n, 0)] = '\0';
	if (strncmp(name, "/dmabuf:", strlen("/dmabuf:")) == 0 && is_buffer(fd)) {
		snprintf(text, FD_KIND_TEXT_BYTES, "a dma-buf");
		return FD_BUFFER;
	}
	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return kind_of_file(fd, text);
	for (size_t i = 0; i < ARRAY_SIZE(anonymous); i++) {
		if (strcmp(name + strlen(prefix), anonymous[i].name) != 0)
			continue;
		snprintf(text, FD_KIND_TEXT_BYTES, "%s", anonymous[i].text);
		return anonymous[i].kind;
	}
	snprintf(text, FD_KIND_TEXT_BYTES, "a kernel object (%s)", name);
	return FD_FOREIGN;
}

enum fd_kind fd_kind_of(int fd, char ret_text[FD_KIND_TEXT_BYTES])
{
	int flags = fcntl(fd, F_GETFL), domain;

	if (flags < 0 || (flags & O_PATH)) {
		snprintf(ret_text, FD_KIND_TEXT_BYTES, "%s",
			flags < 0 ? "not open" : "a path (O_PATH), not an open file");
		return FD_FOREIGN;
	}
	if (fcntl(fd, F_GET_SEALS) >= 0) {
		snprintf(ret_text, FD_KIND_TEXT_BYTES, "a memory file");
		return FD_MEMORY;
	}
	domain = socket_option(fd, SO_DOMAIN);
	if (domain >= 0)
		return kind_of_socket(fd, domain, ret_text);
	if (fcntl(fd, F_GETPIPE_SZ) >= 0) {
		snprintf(ret_text, FD_KIND_TEXT_BYTES, "a pipe");
		return FD_PIPE;
	}
	return kind_of_name(fd, ret_text);
}

/* --- Judging --- */

static const char *describe_wanted(unsigned int wanted)
{
	switch (wanted) {
	case FD_MEMORY:
		return "a memory file (memfd, tmpfs, hugetlbfs) or a file of a local file system "
		       "is due";
	case FD_NOTIFIER:
		return "an eventfd or a pipe is due";
	case FD_NOTIFIER | FD_CHANNEL:
		return "an eventfd, a pipe or a connected AF_UNIX stream socket is due";
	case FD_CHANNEL:
		return "a connected AF_UNIX stream socket is due";
	default:
		return "memory files, eventfds, pipes and AF_UNIX sockets are taken";
	}
}

int fd_kind_check(int fd, unsigned int wanted, char ret_text[FD_KIND_TEXT_BYTES])
{
	char text[FD_KIND_TEXT_BYTES];

	if (fd_kind_of(fd, text) & wanted)
		return 0;
	snprintf(ret_text, FD_KIND_TEXT_BYTES, "%.72s; %s", text, describe_wanted(wanted));
	return FD_KIND_E_REFUSED;
}
