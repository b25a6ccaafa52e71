/*
 * The memory in which chains in flight are noted, and which the VMM keeps for a back-end that has lost
 * everything. It is a file of its own: the ledger, in which the suite keeps what it relies on itself, is never
 * handed over. Each GET_INFLIGHT_FD makes a new file, all zeros, which says that it is new; with
 * SET_INFLIGHT_FD the VMM names the file that is to be used from now on, most often the same one.
 *
 * The VMM may write to it at any time, may hand over any other file, and may change its mind: what the file
 * is, is judged by the memory manager (regions.h), and what is in it by who starts a ring (recover.c).
 * Neither message may come while a ring runs, so no ring ever changes the file under way.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "requests.h"
#include "virtq/inflight.h"

static int check_shape(struct session *session, const struct inflight_area *area)
{
	uint32_t n_max = session->observed->n_queues, size_max = session->observed->queue_size_max;

	if (area->n_queues == 0 || area->n_queues > n_max || area->queue_size == 0 ||
		area->queue_size > size_max)
		return session_refuse(session, "%u queues of %u descriptors; up to %u of up to %u are possible",
			area->n_queues, area->queue_size, n_max, size_max);
	return 0;
}

static void fill(Bh__Inflight *inflight, const struct inflight_area *area, uint64_t token)
{
	inflight->token = token;
	inflight->mmap_size = area->mmap_size;
	inflight->mmap_offset = area->mmap_offset;
	inflight->n_queues = area->n_queues;
	inflight->queue_size = area->queue_size;
}

enum outcome handle_get_inflight_fd(struct session *session, const struct message *msg, Bh__Desired *next)
{
	struct inflight_area area = msg->payload.inflight;
	_cleanup_close_ int fd = -1;
	uint64_t token;
	int r;

	if (check_shape(session, &area))
		return OUTCOME_REFUSED;
	/* room for either ring layout: which it will be may not have been said yet */
	area.mmap_size = area.n_queues * inflight_bytes(area.queue_size, true);
	area.mmap_offset = 0;
	fd = file_sealed("bulkhead-inflight", area.mmap_size);
	r = fd < 0 ? fd : session->ops->deposit(session, &fd, 1, &token);
	if (r < 0)
		return session_refuse(session, "no memory can be had for it: %s", strerror(-r));
	session->deposited = true;
	fill(desired_new_inflight(next), &area, token);
	return OUTCOME_CHANGED;
}

size_t reply_inflight(struct session *session, const struct message *msg, uint8_t *buf)
{
	const Bh__Inflight *inflight = session->desired->inflight;
	struct inflight_area area = { .mmap_size = inflight->mmap_size,
		.mmap_offset = inflight->mmap_offset, .n_queues = (uint16_t)inflight->n_queues,
		.queue_size = (uint16_t)inflight->queue_size };

	memcpy(buf, &area, sizeof(area));
	return sizeof(area);
}

/* Front-ends name what they were just given, and name it again when rings start again. */
static bool is_the_same(struct session *session, const struct inflight_area *area, int fd)
{
	const Bh__Inflight *now = session->desired->inflight;
	_cleanup_close_ int now_fd = -1;
	struct stat a, b;

	if (!now || now->mmap_size != area->mmap_size || now->mmap_offset != area->mmap_offset ||
		now->n_queues != area->n_queues || now->queue_size != area->queue_size)
		return false;
	now_fd = session->ops->redeem(session, now->token);
	return now_fd >= 0 && fstat(now_fd, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
		a.st_ino == b.st_ino;
}

enum outcome handle_set_inflight_fd(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct inflight_area *area = &msg->payload.inflight;
	uint64_t token, least;

	if (check_shape(session, area))
		return OUTCOME_REFUSED;
	least = area->n_queues * inflight_bytes(area->queue_size, has_bit(next->features, F_RING_PACKED));
	if (area->mmap_offset % INFLIGHT_ALIGN || area->mmap_size < least)
		return session_refuse(session, "%llu bytes at offset %llu; %llu at a multiple of %u are needed",
			(unsigned long long)area->mmap_size, (unsigned long long)area->mmap_offset,
			(unsigned long long)least, INFLIGHT_ALIGN);
	if (is_the_same(session, area, msg->fds[0]))
		return OUTCOME_SETTLE;
	if (session_deposit(session, &token))
		return OUTCOME_REFUSED;
	fill(desired_new_inflight(next), area, token);
	return OUTCOME_CHANGED;
}

int inflight_send(struct session *session)
{
	const Bh__Inflight *inflight = session->desired->inflight;
	_cleanup_close_ int fd = inflight ? session->ops->redeem(session, inflight->token) : -ENOENT;

	return fd < 0 ? fd : replay_send_fd(&session->replay, session->conn_fd, fd);
}
