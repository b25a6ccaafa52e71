/*
 * bulkheadctl holds one end of a pipe, and the other goes to memory, from where the snapshot
 * process takes it. The pipe is emptied or filled by the loop that also waits for news of the
 * transfer, so that neither of the two holds up the other.
 */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "fd/fdlink.h"
#include "fd/transfer.h"
#include "query.h"
#include "snapshot/snapshot.h"

#define DRAIN_MS 1000 /* after the end of a transfer all of it is in the pipe */

struct transfer {
	const struct target *target;
	bool load;
	struct saved image; /* load: borrowed */
	size_t room, at;    /* save: of image.bytes; load: bytes that are written */
	int fd;             /* our end; -1 = done with it */
	sd_event_source *source;
	struct vault_link *vault;
	uint64_t id, seq;
	bool there, ended; /* as memory's last answer has it */
	char *error;       /* with ended; "" = completed */
};

__attribute__((format(printf, 3, 4))) static int fail(const struct transfer *transfer, int r,
	const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	check(vasprintf(&text, fmt, ap) >= 0);
	va_end(ap);
	fprintf(stderr, "%s:%s: not %s: %s\n", transfer->target->guest, transfer->target->device,
		transfer->load ? "restored" : "saved", text_clean(text));
	return r;
}

/* --- The pipe --- */

static void close_end(struct transfer *transfer)
{
	transfer->source = sd_event_source_disable_unref(transfer->source);
	transfer->fd = fd_close(transfer->fd);
}

static void on_writable(struct transfer *transfer)
{
	ssize_t n = write(transfer->fd, transfer->image.bytes + transfer->at,
		transfer->image.n - transfer->at);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* nobody reads it any more: the transfer has ended, and says why */
	if (n < 0)
		transfer->at = transfer->image.n;
	else
		transfer->at += (size_t)n;
	if (transfer->at == transfer->image.n)
		close_end(transfer);
}

/* One byte more than the longest is enough to find out that it is too long. */
static void on_readable(struct transfer *transfer)
{
	ssize_t n = read(transfer->fd, transfer->image.bytes + transfer->image.n,
		transfer->room - transfer->image.n);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	transfer->image.n += n > 0 ? (size_t)n : 0;
	if (n <= 0 || transfer->image.n == transfer->room)
		close_end(transfer);
}

static int on_pipe(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct transfer *transfer = data;

	if (transfer->load)
		on_writable(transfer);
	else
		on_readable(transfer);
	return 0;
}

static int open_pipe(struct transfer *transfer, int *ret_theirs)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	transfer->fd = ends[transfer->load];
	*ret_theirs = ends[!transfer->load];
	if (fcntl(transfer->fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return sd_event_add_io(query_event(), &transfer->source, transfer->fd,
		transfer->load ? EPOLLOUT : EPOLLIN, on_pipe, transfer);
}

/* --- The transfer --- */

static int open_vault(struct transfer *transfer)
{
	const struct target *target = transfer->target;
	_cleanup_free_ char *path = query_link_path(target->runtime_dir, target->guest);

	if (access(path, F_OK) < 0)
		return -EOPNOTSUPP;
	return vault_new(&transfer->vault, path, NULL);
}

static int start(struct transfer *transfer)
{
	_cleanup_free_ char *refused = NULL;
	_cleanup_close_ int theirs = -1;
	struct vault_transfer wish = { transfer->target->device, transfer->load, 0, -1 };
	int r = open_pipe(transfer, &theirs);

	if (r == 0)
		r = open_vault(transfer);
	wish.stream = theirs;
	if (r == 0)
		r = vault_start_transfer(transfer->vault, &wish, &transfer->id, &refused);
	if (r == -EOPNOTSUPP)
		return fail(transfer, r,
			"the guest's memory manager is of a release without snapshots");
	if (r < 0)
		return fail(transfer, r, "%s",
			r == -ETIMEDOUT ? "no answer from the memory manager" : strerror(-r));
	return refused && *refused ? fail(transfer, -EBUSY, "%s", refused) : 0;
}

static void take_news(const Bh__WatchTransfersReply *reply, void *data)
{
	struct transfer *transfer = data;

	transfer->seq = reply->transfer_seq;
	transfer->there = false;
	for (size_t i = 0; i < reply->n_transfers; i++) {
		const Bh__Transfer *news = reply->transfers[i];

		if (news->id != transfer->id)
			continue;
		transfer->there = true;
		transfer->ended = news->step == BH__TRANSFER__STEP__ENDED;
		free(transfer->error);
		transfer->error = strdup(news->error);
		check(transfer->error);
	}
}

static int wait_for_end(struct transfer *transfer)
{
	const struct target *target = transfer->target;
	int r;

	do
		r = query_transfers(target->runtime_dir, target->guest, transfer->seq, take_news,
			transfer);
	while (r == 0 && transfer->there && !transfer->ended);
	if (r < 0)
		return fail(transfer, r, "no answer from the memory manager: %s", strerror(-r));
	if (!transfer->there)
		return fail(transfer, -ECONNRESET,
			"the memory manager knows the transfer no more; it was restarted, or another one followed");
	return *transfer->error ? fail(transfer, -EIO, "%s", transfer->error) : 0;
}

static int run(struct transfer *transfer)
{
	int r;

	check(query_event());
	/* it says so by EPIPE, too */
	(void)signal(SIGPIPE, SIG_IGN);
	r = start(transfer);
	return r < 0 ? r : wait_for_end(transfer);
}

static void finish(struct transfer *transfer)
{
	close_end(transfer);
	vault_free(transfer->vault);
	free(transfer->error);
}

/* --- Both ways --- */

static int judge(const struct transfer *transfer)
{
	struct snapshot_fault fault;
	struct snapshot_image image;
	int r = snapshot_check(transfer->image.bytes, transfer->image.n, &image, &fault);

	if (r < 0)
		return fail(transfer, r, "%s", strerror(-r));
	return r ? fail(transfer, -EBADMSG, "what came is no snapshot: %s", fault.text) : 0;
}

static void drain(struct transfer *transfer)
{
	uint64_t end = clock_ms() + DRAIN_MS;

	while (transfer->source && clock_ms() < end)
		if (sd_event_run(query_event(), DRAIN_MS * UINT64_C(1000)) < 0)
			break;
}

int transfer_save(const struct target *target, struct saved *image)
{
	struct transfer transfer = { .target = target, .fd = -1, .room = SNAPSHOT_IMAGE_MAX + 1 };
	int r;

	transfer.image.bytes = malloc(transfer.room);
	check(transfer.image.bytes);
	r = run(&transfer);
	if (r == 0) {
		drain(&transfer);
		r = judge(&transfer);
	}
	finish(&transfer);
	if (r == 0)
		*image = transfer.image;
	else
		free(transfer.image.bytes);
	return r;
}

int transfer_load(const struct target *target, const struct saved *image)
{
	struct transfer transfer = { .target = target, .load = true, .image = *image, .fd = -1 };
	int r = run(&transfer);

	finish(&transfer);
	return r;
}
