/*
 * The bytes are read into a file that the fd store keeps, and the kernel does the counting. Before
 * each read the socket's peek offset is set to a mark less the bytes gathered so far; the read
 * itself lowers it by what it took. A successor that finds the offset at a mark knows how far the
 * read came. If there is no mark, the count in the file is right.
 *
 *   step what is done peek offset file->have look the next piece, and its descriptors, are looked
 *   at 0 .. 65548 have carry the descriptors are put into the carrier 0 .. 65548 have mark the
 *   offset is set MARK + MAX - have have read the piece is read into the file MARK + MAX - have - n
 *   have note have is written down MARK + MAX - have - n have + n
 *
 * A frontend killed between "carry" and "read" leaves its descriptors in the carrier, and its
 * successor puts them there again. Each lot therefore says where its piece ends in the message: of
 * two lots that end at the same place, the second is ignored.
 */
#include "parts.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/file.h"
#include "fd/fdstore.h"
#include "intake.h"

#define MARK (2 << 20) /* above every offset that replay.c sets */
#define MAX_BYTES (sizeof(struct header) + SKIP_MAX)
#define LOTS_MAX (FDS_MAX + 1) /* more do not make a message that is any good */

/** struct parts_file - shared by this process and the one that comes after it */
struct parts_file {
	uint32_t have; /* bytes; see above */
	/* the descriptors of the last piece may belong to what comes after the message */
	uint32_t beyond;
	char foreign[FD_KIND_TEXT_BYTES]; /* of those that were not taken: what the first was */
	uint8_t bytes[MAX_BYTES];
};

/** struct lot - what is sent through the carrier with the descriptors of one piece */
struct lot {
	uint32_t end; /* of the piece, in the message */
	uint16_t n_fds;
	uint16_t too_many; /* more came than were put in */
};

/* --- What is gathered --- */

static bool has_header(const struct parts *parts)
{
	return parts->file->have >= sizeof(struct header);
}

static struct header header_of(const struct parts *parts)
{
	struct header header;

	memcpy(&header, parts->file->bytes, sizeof(header));
	return header;
}

bool parts_begun(const struct parts *parts)
{
	return parts->file && parts->file->have;
}

bool parts_whole(const struct parts *parts)
{
	return parts_begun(parts) && has_header(parts) &&
		parts->file->have == sizeof(struct header) + header_of(parts).size;
}

/* --- The carrier --- */

static void empty_carrier(const struct parts *parts)
{
	uint8_t buf[256];

	while (recv(parts->carrier_out, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

static int carry(const struct parts *parts, const struct lot *lot, const int *fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)lot, sizeof(*lot) };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(sizeof(int) * lot->n_fds) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
	size_t n = lot->n_fds;

	if (wire_bytes_there(parts->carrier_out) >= LOTS_MAX * sizeof(*lot))
		return 0;
	*cmsg = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(cmsg), fds, n * sizeof(int));
	return sendmsg(parts->carrier_in, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Copies of all that was carried for this message: they stay where they are. */
static int look_into_carrier(const struct parts *parts, struct message *msg)
{
	size_t n = wire_bytes_there(parts->carrier_out) / sizeof(struct lot);
	uint32_t former = 0;

	if (n && wire_rewind(parts->carrier_out))
		return -EIO;
	for (; n; n--) {
		struct message lot_msg = { .n_fds = 0 };
		size_t n_fds = FDS_MAX;
		struct lot lot;

		if (wire_take_piece(parts->carrier_out, &lot_msg, &lot, sizeof(lot), &n_fds) !=
			sizeof(lot))
			return -EIO;
		msg->too_many_fds |=
			lot.too_many || (lot.end != former && msg->n_fds + lot_msg.n_fds > FDS_MAX);
		for (size_t i = 0; i < lot_msg.n_fds && lot.end != former && msg->n_fds < FDS_MAX;
			i++)
			msg->fds[msg->n_fds++] = fd_steal(&lot_msg.fds[i]);
		wire_drop(&lot_msg);
		former = lot.end;
	}
	return 0;
}

/* --- Where it lies --- */

static void name_part(char *buf, size_t n, const char *what, const char *device)
{
	snprintf(buf, n, "%s.%s", what, device);
}

static int take_stored(const char *what, const char *device)
{
	char name[64];

	name_part(name, sizeof(name), what, device);
	return fdstore_take(name);
}

static void keep(const char *what, const char *device, int fd)
{
	char name[64];

	name_part(name, sizeof(name), what, device);
	(void)fdstore_remove(name);
	(void)fdstore_push(name, fd);
}

static int map_file(struct parts *parts)
{
	void *p = mmap(NULL, sizeof(*parts->file), PROT_READ | PROT_WRITE, MAP_SHARED,
		parts->file_fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	parts->file = p;
	return 0;
}

static int make(struct parts *parts, const char *device)
{
	int pair[2], r;

	parts->file_fd = file_sealed("bulkhead-parts", sizeof(*parts->file));
	if (parts->file_fd < 0)
		return parts->file_fd;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	parts->carrier_in = pair[0];
	parts->carrier_out = pair[1];
	r = map_file(parts);
	if (r < 0)
		return r;
	keep("parts", device, parts->file_fd);
	keep("carry-in", device, parts->carrier_in);
	keep("carry-out", device, parts->carrier_out);
	return 0;
}

void parts_close(struct parts *parts)
{
	if (parts->file)
		munmap(parts->file, sizeof(*parts->file));
	fd_close(parts->file_fd);
	fd_close(parts->carrier_in);
	fd_close(parts->carrier_out);
	*parts = (struct parts)PARTS_NULL;
}

void parts_done(struct parts *parts)
{
	if (!parts->file)
		return;
	parts->file->have = 0;
	empty_carrier(parts);
	parts->file->beyond = 0;
	*parts->file->foreign = '\0';
}

static void drop_stored(const char *what, const char *device)
{
	char name[64];

	name_part(name, sizeof(name), what, device);
	(void)fdstore_remove(name);
}

void parts_drop(struct parts *parts, const char *device)
{
	if (!parts->file)
		return;
	drop_stored("parts", device);
	drop_stored("carry-in", device);
	drop_stored("carry-out", device);
	parts_close(parts);
}

/* How far the read came in which the former process died. */
static void count_anew(struct parts *parts, int conn_fd)
{
	int offset = 0;
	socklen_t len = sizeof(offset);

	if (getsockopt(conn_fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len) < 0 || offset < MARK)
		return;
	parts->file->have = (uint32_t)(MAX_BYTES - MIN((size_t)(offset - MARK), MAX_BYTES));
	(void)wire_rewind(conn_fd);
}

void parts_resume(struct parts *parts, int conn_fd, const char *device)
{
	parts->file_fd = take_stored("parts", device);
	parts->carrier_in = take_stored("carry-in", device);
	parts->carrier_out = take_stored("carry-out", device);
	if (parts->file_fd < 0 || parts->carrier_in < 0 || parts->carrier_out < 0 ||
		map_file(parts) < 0) {
		parts_close(parts);
		return;
	}
	if (conn_fd < 0) {
		parts_drop(parts, device);
		return;
	}
	count_anew(parts, conn_fd);
	if (!parts_begun(parts))
		parts_done(parts);
}

/* --- Gathering --- */

/* How much of what is there belongs to this message; 0 = framing is lost, and *ret_text says
 * how. */
static size_t ours_of(const struct parts *parts, int conn_fd, size_t there, const char **ret_text)
{
	struct header header = { 0 };
	pid_t sender;
	size_t have = parts->file->have, lack = sizeof(header) - MIN(have, sizeof(header));

	if (there < lack)
		return there;
	memcpy(&header, parts->file->bytes, sizeof(header) - lack);
	if (lack &&
		wire_peek_bytes(conn_fd, (uint8_t *)&header + sizeof(header) - lack, lack, &sender))
		return 0;
	*ret_text = wire_judge_header(&header);
	return *ret_text ? 0 : MIN(there, sizeof(header) + header.size - have);
}

/* A message that has its own descriptors takes none that may be another's. */
static bool are_others(const struct parts *parts, bool beyond)
{
	return beyond && !parts->file->beyond && wire_bytes_there(parts->carrier_out);
}

static int carry_fds(struct parts *parts, const struct message *piece, size_t end, size_t n_ours)
{
	struct lot lot = { .end = parts->file->have + (uint32_t)MIN(end, n_ours),
		.n_fds = (uint16_t)piece->n_fds,
		.too_many = piece->too_many_fds };
	bool beyond = end > n_ours;

	if (piece->n_fds == 0 || are_others(parts, beyond))
		return 0;
	parts->file->beyond = beyond;
	return carry(parts, &lot, piece->fds);
}

static int read_piece(struct parts *parts, int conn_fd, size_t n)
{
	struct parts_file *file = parts->file;
	int offset = MARK + (int)(MAX_BYTES - file->have);
	ssize_t got;

	if (setsockopt(conn_fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0)
		return WIRE_E_CLOSED;
	fault_point("parts", file->have);
	do
		got = recv(conn_fd, file->bytes + file->have, n, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	fault_point("parts", file->have);
	if (got <= 0)
		return WIRE_E_CLOSED;
	file->have += (uint32_t)got;
	return wire_rewind(conn_fd);
}

/* The descriptors of a piece of that many bytes come into our table if they are harmless. Those
 * that are not stay in the socket, and the message is refused when it is whole. */
static int carry_judged(struct parts *parts, int conn_fd, size_t end, size_t n_ours,
	struct message *piece)
{
	static uint8_t buf[MAX_BYTES + 1];
	size_t n_judged = 0;
	int r = intake_look(conn_fd, 0, end, &n_judged, piece->foreign);

	if (r == INTAKE_E_FOREIGN && !are_others(parts, end > n_ours)) {
		parts->file->beyond = end > n_ours;
		memcpy(parts->file->foreign, piece->foreign, sizeof(parts->file->foreign));
	}
	if (r == INTAKE_E_FOREIGN)
		return 0;
	if (r < 0 || wire_rewind(conn_fd) ||
		wire_take_piece(conn_fd, piece, buf, end, &n_judged) <= 0)
		return -EIO;
	return carry_fds(parts, piece, end, n_ours);
}

/* The look goes on to the end of the first piece with descriptors, and beyond the message's end
 * if need be: where it ended tells whose they are, as in wire.c. */
static int gather(struct parts *parts, int conn_fd, size_t n_ours, struct message *piece,
	const char **ret_text)
{
	static uint8_t buf[MAX_BYTES + 1];
	ssize_t end = wire_rewind(conn_fd) ? -1 : wire_peek_piece(conn_fd, piece, buf, sizeof(buf));
	int r = end <= 0 ? -EIO : 0;

	if (r == 0 && piece->fds_in_sight)
		r = carry_judged(parts, conn_fd, (size_t)end, n_ours, piece);
	wire_drop(piece);
	piece->fds_in_sight = false;
	if (r < 0) {
		*ret_text = "descriptors that came with it were lost";
		return WIRE_E_FRAMING;
	}
	r = read_piece(parts, conn_fd, MIN((size_t)end, n_ours));
	intake_forget();
	return r;
}

static int look_at_whole(const struct parts *parts, struct message *msg, const char **ret_text)
{
	pid_t sender = msg->sender;

	memset(msg, 0, sizeof(*msg));
	msg->header = header_of(parts);
	msg->sender = sender;
	msg->in_parts = true;
	msg->doubtful_fds = parts->file->beyond;
	msg->too_long = msg->header.size > PAYLOAD_MAX;
	memcpy(msg->foreign, parts->file->foreign, sizeof(msg->foreign));
	memcpy(msg->payload.bytes, parts->file->bytes + sizeof(msg->header),
		MIN(msg->header.size, PAYLOAD_MAX));
	if (look_into_carrier(parts, msg) == 0)
		return 0;
	wire_drop(msg);
	*ret_text = "descriptors that came with it were lost";
	return WIRE_E_FRAMING;
}

int parts_take(struct parts *parts, int conn_fd, const char *device, struct message *ret_msg,
	const char **ret_text)
{
	memset(ret_msg, 0, sizeof(*ret_msg));
	while (!parts_whole(parts)) {
		size_t there = wire_bytes_there(conn_fd), n_ours;
		int r;

		if (there == 0)
			return wire_hung_up(conn_fd) ? WIRE_E_CLOSED : WIRE_E_PARTIAL;
		if (!parts->file && make(parts, device) < 0) {
			parts_close(parts);
			return WIRE_E_CLOSED;
		}
		n_ours = ours_of(parts, conn_fd, there, ret_text);
		if (n_ours == 0)
			return *ret_text ? WIRE_E_FRAMING : WIRE_E_CLOSED;
		r = gather(parts, conn_fd, n_ours, ret_msg, ret_text);
		if (r)
			return r;
	}
	return look_at_whole(parts, ret_msg, ret_text);
}
