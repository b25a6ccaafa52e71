/* Memory files; files that are opened again, and compared. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

static int make_file(const char *name, uint64_t n_bytes, int seals)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)n_bytes) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0)
		return -errno;
	return fd_steal(&fd);
}

int file_fixed(const char *name, uint64_t n_bytes)
{
	return make_file(name, n_bytes, F_SEAL_SHRINK | F_SEAL_GROW);
}

int file_sealed(const char *name, uint64_t n_bytes)
{
	return make_file(name, n_bytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

int file_open_again(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

/* kcmp(2): 0 equal, 1 less, 2 greater, 3 different without an order, or -1. */
static long compare(int a, int b)
{
	pid_t self = getpid();

	return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
}

int file_order(int a, int b)
{
	long order = compare(a, b);

	return order == 0 ? 0 : order == 1 ? -1 : 1;
}

bool file_same(int a, int b)
{
	return compare(a, b) == 0;
}
