#include "received.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "fd/kind.h"

#define PAGE_BYTES 4096u
#define BURIALS_MAX 16 /* threads at a time */

/* --- Foreign descriptors --- */

static atomic_int n_burials;

static void *close_it(void *data)
{
	close((int)(intptr_t)data);
	n_burials--;
	return NULL;
}

/* close() of a file on FUSE waits for the file's server, and so must not be called here. While too
 * many wait, the descriptor stays open until the process ends. */
static void bury(int fd)
{
	pthread_t thread;

	if (atomic_fetch_add(&n_burials, 1) < BURIALS_MAX &&
		pthread_create(&thread, NULL, close_it, (void *)(intptr_t)fd) == 0)
		pthread_detach(thread);
	else
		n_burials--;
}

static int end_of_nothing(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	close(ends[1]);
	return ends[0];
}

static void replace(int *fd, const char *text)
{
	log_limited(LOG_WARNING, NULL, 0, "the host sent the guest %s, which it cannot use", text);
	bury(*fd);
	*fd = end_of_nothing();
}

/* --- Judging --- */

static enum received_kind kind_of(enum fd_kind kind)
{
	switch (kind) {
	case FD_MEMORY:
	case FD_BUFFER:
		return RECEIVED_MEMORY;
	case FD_PIPE:
		return RECEIVED_PIPE;
	case FD_CHANNEL:
		return RECEIVED_SOCKET;
	case FD_FENCE:
		return RECEIVED_FENCE;
	default:
		return RECEIVED_FOREIGN;
	}
}

static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
}

/* Neither a file nor a dma-buf has a server that could be slow. The position of a file is left
 * alone, since the sender shares it; a dma-buf has none, and tells its size only so. */
static uint64_t size_of(int fd, enum fd_kind kind)
{
	struct stat st = { .st_size = 0 };
	off_t end = 0;

	if (kind == FD_BUFFER)
		end = lseek(fd, 0, SEEK_END);
	else if (fstat(fd, &st) == 0)
		end = st.st_size;
	return end > 0 ? (uint64_t)end : 0;
}

void received_judge(int *fd, struct received *ret)
{
	char text[FD_KIND_TEXT_BYTES];
	int mode = fcntl(*fd, F_GETFL) & O_ACCMODE;
	enum fd_kind kind = fd_kind_of(*fd, text);

	*ret = (struct received){
		.kind = kind_of(kind), .readable = mode != O_WRONLY, .writable = mode != O_RDONLY
	};
	if (ret->kind == RECEIVED_FOREIGN) {
		replace(fd, text);
		return;
	}
	if (ret->kind != RECEIVED_MEMORY)
		return;
	ret->writable = mode == O_RDWR && !is_sealed(*fd);
	ret->size_bytes = size_of(*fd, kind);
}

/* --- Copying --- */

static int fill(int from, uint64_t size_bytes, int to)
{
	uint8_t bytes[16384];

	for (off_t at = 0; (uint64_t)at < size_bytes;) {
		size_t left = MIN(size_bytes - (uint64_t)at, sizeof(bytes));
		ssize_t n = pread(from, bytes, left, at);

		if (n <= 0)
			return n < 0 ? -errno : 0; /* it has become shorter */
		if (pwrite(to, bytes, (size_t)n, at) != n)
			return -ENOSPC;
		at += n;
	}
	return 0;
}

int received_copy(int fd, uint64_t size_bytes)
{
	_cleanup_close_ int copy = -1;
	int r;

	if (size_bytes > RECEIVED_COPY_MAX)
		return -EFBIG;
	copy = memfd_create("bulkhead-wl-copy", MFD_CLOEXEC);
	if (copy < 0 || ftruncate(copy, (off_t)align_up(size_bytes, PAGE_BYTES)) < 0)
		return -errno;
	r = fill(fd, size_bytes, copy);
	return r < 0 ? r : fd_steal(&copy);
}
