/*
 * A process that is killed right after sendmsg() has sent something, and cannot say so any more.
 * Therefore the kernel says it: sendmmsg() stores into msg_len of each message how much of it was
 * taken, before it returns, and a kill takes effect only when a system call returns. The struct
 * mmsghdr lies in a page that outlives the process. A successor finds
 *   msg_len == UNSENT      nothing was taken, or the call was not made;
 *   any other              so many bytes were, and the descriptors with the first of them.
 * Likewise recvmmsg() stores into msg_flags, before msg_len, whether descriptors were taken.
 *
 * The page is locked, because a store that has to wait for the page would fail in a process that is
 * being killed.
 *
 * Why not io_uring: its results would lie in such memory as well, but its descriptor cannot be kept
 * by another process (Linux refuses it in SCM_RIGHTS), rings in memory of our own need Linux 6.5,
 * and many hosts forbid it.
 */
#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"

#define MAGIC UINT64_C(0x316c6e726a6c6c77) /* "wlljrnl1": of this layout */
#define UNSENT UINT32_MAX
#define CONSUME_BYTES 4096u
#define QUEUES_AT 4096u
#define RINGS_AT 65536u /* a multiple of any page size */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define MAP_BYTES (RINGS_AT + (size_t)JOURNAL_SLOTS * JOURNAL_QUEUE_BYTES)

/** struct journal_page - the beginning of the memory; a mmsghdr differs from machine to machine,
 * which does no harm, as this memory never leaves one */
struct journal_page {
	uint64_t magic;
	uint32_t armed; /* enum armed: what is done with the message below */
	uint32_t slot;  /* of that queue */
	uint32_t from;  /* whose `sent` was this before */
	uint32_t pad;
	struct journal_pipes pipes;
	struct mmsghdr message;
};

enum armed { ARMED_FOR_NOTHING = 0, ARMED_TO_SEND, ARMED_TO_CONSUME };

static_assert(sizeof(struct journal_page) <= QUEUES_AT, "the page overlaps the queues");
static_assert(QUEUES_AT + JOURNAL_SLOTS * sizeof(struct journal_queue) <= RINGS_AT,
	"the queues overlap the rings");

int journal_create(void)
{
	_cleanup_close_ int fd =
		memfd_create("bulkhead-wl-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const uint64_t magic = MAGIC;

	if (fd < 0 || ftruncate(fd, (off_t)MAP_BYTES) < 0)
		return -errno;
	if (pwrite(fd, &magic, sizeof(magic), 0) != sizeof(magic))
		return -EIO;
	if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return fd_steal(&fd);
}

static bool is_journal(int fd)
{
	struct stat st;

	return (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS && fstat(fd, &st) == 0 &&
		st.st_size == (off_t)MAP_BYTES;
}

/* --- The call whose result counts --- */

static void arm(struct journal *journal, enum armed armed, uint32_t slot)
{
	struct journal_page *page = journal->page;

	page->message.msg_len = UNSENT;
	page->slot = slot;
	page->from = journal->queues[slot].sent;
	atomic_signal_fence(memory_order_seq_cst);
	page->armed = armed;
	atomic_signal_fence(memory_order_seq_cst);
}

/* Count what the call has done. A successor does it again, with the same result. */
static void settle(struct journal *journal)
{
	struct journal_page *page = journal->page;
	const struct mmsghdr *message = &page->message;

	if (page->slot < JOURNAL_SLOTS && message->msg_len != UNSENT) {
		if (page->armed == ARMED_TO_SEND)
			journal->queues[page->slot].sent = page->from + message->msg_len;
		if (page->armed == ARMED_TO_CONSUME && message->msg_hdr.msg_flags & MSG_CTRUNC)
			journal->queues[page->slot].fds_given = 0;
	}
	atomic_signal_fence(memory_order_seq_cst);
	page->armed = ARMED_FOR_NOTHING;
}

/* --- Its memory --- */

int journal_map(struct journal *journal, int fd)
{
	_cleanup_close_ int owned = fd;
	uint8_t *bytes;

	if (!is_journal(fd))
		return -EINVAL;
	bytes = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	*journal = (struct journal){ .fd = fd_steal(&owned),
		.page = (void *)bytes,
		.queues = (void *)(bytes + QUEUES_AT),
		.rings = bytes + RINGS_AT };
	journal->pipes = &journal->page->pipes;
	if (journal->page->magic != MAGIC) {
		journal_unmap(journal);
		return -EINVAL;
	}
	(void)mlock(bytes, sizeof(struct journal_page)); /* unlocked, it is hardly ever paged out */
	settle(journal);
	return 0;
}

void journal_unmap(struct journal *journal)
{
	if (!journal->page)
		return;
	munmap(journal->page, MAP_BYTES);
	fd_close(journal->fd);
	*journal = (struct journal){ .fd = -1 };
}

/** union control - room for the descriptors of a message */
union control {
	char bytes[CMSG_SPACE(JOURNAL_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

static void attach(struct msghdr *msg, union control *control, const struct journal_packet *packet)
{
	struct cmsghdr *cmsg;

	if (packet->n_fds == 0)
		return;
	check(packet->n_fds <= JOURNAL_FDS_MAX);
	memset(control, 0, sizeof(*control));
	msg->msg_control = control->bytes;
	msg->msg_controllen = CMSG_SPACE(packet->n_fds * sizeof(int));
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(packet->n_fds * sizeof(int));
	memcpy(CMSG_DATA(cmsg), packet->fds, packet->n_fds * sizeof(int));
}

int journal_send(struct journal *journal, const struct journal_packet *packet)
{
	struct mmsghdr *message = &journal->page->message;
	union control control;
	int r;

	*message = (struct mmsghdr){ .msg_hdr = { .msg_iov = packet->iov,
					     .msg_iovlen = packet->n_iov } };
	attach(&message->msg_hdr, &control, packet);
	arm(journal, ARMED_TO_SEND, packet->slot);
	r = sendmmsg(packet->socket_fd, message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1
		? (int)message->msg_len
		: -errno;
	fault_point("wl-sent", packet->slot);
	settle(journal);
	return r;
}

int journal_consume(struct journal *journal, uint32_t slot, int socket_fd, uint32_t max_bytes)
{
	struct mmsghdr *message = &journal->page->message;
	uint8_t bytes[CONSUME_BYTES];
	struct iovec iov = { bytes, MIN(max_bytes, CONSUME_BYTES) };
	int r;

	/* Without room for descriptors, the kernel drops those that come along. */
	*message = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	arm(journal, ARMED_TO_CONSUME, slot);
	r = recvmmsg(socket_fd, message, 1, MSG_DONTWAIT, NULL) == 1 ? (int)message->msg_len
								     : -errno;
	fault_point("wl-consumed", slot);
	settle(journal);
	return r;
}

void journal_punch(struct journal *journal, uint32_t slot, uint32_t from)
{
	off_t at = (off_t)(RINGS_AT + (size_t)slot * JOURNAL_QUEUE_BYTES + from);

	(void)fallocate(journal->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
		(off_t)(JOURNAL_QUEUE_BYTES - from));
}
