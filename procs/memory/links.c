/*
 * A request is answered before the next one is read. A new connection replaces the old one, whose
 * process is gone or about to end.
 */
#include "links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "fd/bell.h"
#include "fd/fdlink.h"
#include "fd/fdstore.h"
#include "fd/kind.h"
#include "ledgers.h"
#include "transfers.h"

#define BURIED_MAX 16

/* What a mark names: the case of a bus message, or the case of a link message plus this. */
#define BLAME_LINK 1000u

/** struct link_row - a row of the side link's table */
struct link_row {
	Bh__Link__BodyCase request;
	unsigned int roles;
	size_t min_fds, max_fds; /* that come with the request */
	/* fills the reply and the descriptors that go with it (borrowed) | negative errno: the
	 * answer is a Failure */
	int (*handle)(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
		struct fdloan *out);
};

/* --- Handlers, in the order of the table --- */

/* The link and the bus keep no order between them: what a VMM handed over just before it left may
 * come after the record that says so, and would stay until the next VMM. */
static bool is_late(const struct served *device, enum record_half half)
{
	return half == RECORD_DESIRED && !device->desired->connected;
}

static int handle_deposit(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static uint64_t tokens[FDLINK_FDS_MAX];
	static Bh__DepositReply body;
	struct served *device = peer_device(peer->memory, peer->name, msg->deposit->device);
	enum record_half half = peer->role->asks == ROLE_WORKER ? RECORD_OBSERVED : RECORD_DESIRED;

	if (!device)
		return -ENOENT;
	if (in->n_fds != msg->deposit->n_fds)
		return -EBADMSG;
	if (served_is_deadly(device))
		return -EPERM;
	if (is_late(device, half))
		return -ENOTCONN;
	blame_set(device->mark, BLAME_LINK + msg->body_case, in->n_fds);
	for (size_t i = 0; i < in->n_fds; i++) {
		int r = vault_put(device->vault, half, fdset_steal(in, i), &tokens[i]);

		if (r < 0)
			return r;
	}
	bh__deposit_reply__init(&body);
	body.n_tokens = in->n_fds;
	body.tokens = tokens;
	reply->body_case = BH__LINK__BODY_DEPOSIT_REPLY;
	reply->deposit_reply = &body;
	return 0;
}

static int handle_redeem(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__RedeemReply body = BH__REDEEM_REPLY__INIT;
	const Bh__Redeem *redeem = msg->redeem;
	struct served *device = peer_device(peer->memory, peer->name, redeem->device);

	if (!device)
		return -ENOENT;
	if (redeem->n_tokens == 0 || redeem->n_tokens > FDLINK_FDS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < redeem->n_tokens; i++) {
		int fd = vault_get(device->vault, redeem->tokens[i]);

		if (fd < 0)
			return -ENOENT;
		out->fds[out->n_fds++] = fd;
	}
	reply->body_case = BH__LINK__BODY_REDEEM_REPLY;
	reply->redeem_reply = &body;
	return 0;
}

/* Each worker has the ledger as an open file of its own: the flags of one belong to all who share
 * it, also to those who come later. It is closed when the answer was sent. */
static int give_files(struct peer *peer, const Bh__Attach *attach, struct fdset *in,
	struct fdloan *out)
{
	struct served *device = peer->device;
	int ledger = ledgers_get(device, attach->ledger_bytes);

	if (ledger >= 0)
		ledger = file_open_again(ledger, O_RDWR);
	if (ledger < 0)
		return ledger;
	ledgers_attached(device, peer->pid);
	out->fds[out->n_fds++] = copies_fd(device->copies, attach->by_record_id);
	in->fds[in->n_fds++] = out->fds[out->n_fds++] = ledger;
	return 0;
}

/* A page is what fits the packet. A worker of a former release never keeps more than that, and asks
 * for no other. */
static void give_page(const struct vault *vault, const char *after, Bh__AttachReply *reply,
	struct fdloan *out)
{
	const char *name = after, *next;
	int fd;

	while ((fd = vault_named_after(vault, name, &next)) >= 0 && out->n_fds < FDLINK_FDS_MAX) {
		out->fds[out->n_fds++] = fd;
		reply->kept[reply->n_kept++] = (char *)next;
		name = next;
	}
	reply->more = fd >= 0;
}

static int handle_attach(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__AttachReply body;
	static char *names[FDLINK_FDS_MAX];
	int r = 0;

	bh__attach_reply__init(&body);
	body.kept = names;
	body.record_id = copies_id(peer->device->copies);
	if (!*msg->attach->kept_after)
		r = give_files(peer, msg->attach, in, out);
	if (r < 0)
		return r;
	give_page(peer->device->vault, msg->attach->kept_after, &body, out);
	reply->body_case = BH__LINK__BODY_ATTACH_REPLY;
	reply->attach_reply = &body;
	return 0;
}

static int handle_keep(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__KeepReply body = BH__KEEP_REPLY__INIT;
	int r = vault_keep_named(peer->device->vault, msg->keep->name, fdset_steal(in, 0));

	reply->body_case = BH__LINK__BODY_KEEP_REPLY;
	reply->keep_reply = &body;
	return r;
}

static int handle_unkeep(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__UnkeepReply body = BH__UNKEEP_REPLY__INIT;

	vault_drop_named(peer->device->vault, msg->unkeep->name);
	reply->body_case = BH__LINK__BODY_UNKEEP_REPLY;
	reply->unkeep_reply = &body;
	return 0;
}

static int handle_greet(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__GreetReply body = BH__GREET_REPLY__INIT;

	bus_server_redial(peer->bus);
	reply->body_case = BH__LINK__BODY_GREET_REPLY;
	reply->greet_reply = &body;
	return 0;
}

/* The other end is closed when the answer was sent. */
static int handle_bell(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	static Bh__BellReply body = BH__BELL_REPLY__INIT;
	int ring_fd, listen_fd, r = bell_new(&ring_fd, &listen_fd);

	if (r < 0)
		return r;
	fd_close(peer->bell_fd);
	peer->bell_fd = ring_fd;
	in->fds[in->n_fds++] = out->fds[out->n_fds++] = listen_fd;
	reply->body_case = BH__LINK__BODY_BELL_REPLY;
	reply->bell_reply = &body;
	return 0;
}

static int handle_start_transfer(struct peer *peer, const Bh__Link *msg, struct fdset *in,
	Bh__Link *reply, struct fdloan *out)
{
	static Bh__StartTransferReply body;
	static char refused[TRANSFER_ERROR_BYTES];
	const struct served *device = peer_any_device(peer->memory, msg->start_transfer->device);

	if (!device)
		return -ENOENT;
	bh__start_transfer_reply__init(&body);
	*refused = '\0';
	blame_set(device->mark, BLAME_LINK + msg->body_case, 1);
	body.id = transfers_start(peer, msg->start_transfer, fdset_steal(in, 0), refused,
		sizeof(refused));
	body.refused = refused;
	reply->body_case = BH__LINK__BODY_START_TRANSFER_REPLY;
	reply->start_transfer_reply = &body;
	return 0;
}

/* The stream is closed when the answer was sent. */
static int handle_take_stream(struct peer *peer, const Bh__Link *msg, struct fdset *in,
	Bh__Link *reply, struct fdloan *out)
{
	static Bh__TakeStreamReply body = BH__TAKE_STREAM_REPLY__INIT;
	int fd = transfers_take(peer->memory, msg->take_stream);

	if (fd < 0)
		return fd;
	in->fds[in->n_fds++] = out->fds[out->n_fds++] = fd;
	reply->body_case = BH__LINK__BODY_TAKE_STREAM_REPLY;
	reply->take_stream_reply = &body;
	return 0;
}

static const struct link_row table[] = {
	{ BH__LINK__BODY_DEPOSIT, ROLE_FRONTEND | ROLE_WORKER, 1, FDLINK_FDS_MAX, handle_deposit },
	{ BH__LINK__BODY_REDEEM, ROLE_FRONTEND | ROLE_WORKER, 0, 0, handle_redeem },
	{ BH__LINK__BODY_ATTACH, ROLE_WORKER, 0, 0, handle_attach },
	{ BH__LINK__BODY_KEEP, ROLE_WORKER, 1, 1, handle_keep },
	{ BH__LINK__BODY_UNKEEP, ROLE_WORKER, 0, 0, handle_unkeep },
	{ BH__LINK__BODY_GREET, ROLE_FRONTEND | ROLE_WORKER | ROLE_SNAPSHOT, 0, 0, handle_greet },
	{ BH__LINK__BODY_START_TRANSFER, ROLE_FRONTEND | ROLE_CTL, 1, 1, handle_start_transfer },
	{ BH__LINK__BODY_TAKE_STREAM, ROLE_SNAPSHOT, 0, 0, handle_take_stream },
	{ BH__LINK__BODY_BELL, ROLE_WORKER, 0, 0, handle_bell },
};

static int dispatch(struct peer *peer, const Bh__Link *msg, struct fdset *in, Bh__Link *reply,
	struct fdloan *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct link_row *row = &table[i];

		if (row->request != msg->body_case)
			continue;
		if (!(row->roles & peer->role->asks))
			return -EPERM;
		if (in->n_fds < row->min_fds || in->n_fds > row->max_fds)
			return -EBADMSG;
		return row->handle(peer, msg, in, reply, out);
	}
	return -EOPNOTSUPP;
}

/* --- Answers that are not read ---
 *
 * Descriptors on their way count for the user who sent them, until they are read, over all
 * connections and also when the sender has closed his end. With RLIMIT_NOFILE of them nobody would
 * be sent any more. So a peer reads each answer before it asks again, and only a few of its
 * connections may have ended with an answer unread. */

static bool is_unread(int fd)
{
	int n_bytes = 0;

	return ioctl(fd, SIOCOUTQ, &n_bytes) == 0 && n_bytes > 0;
}

static void close_read(struct peer *peer)
{
	for (size_t i = peer->n_unread; i-- > 0;) {
		if (is_unread(peer->unread_fds[i]))
			continue;
		fd_close(peer->unread_fds[i]);
		peer->unread_fds[i] = peer->unread_fds[--peer->n_unread];
	}
}

static void close_link(struct peer *peer)
{
	int fd = fd_steal(&peer->link_fd);

	if (fd < 0 || peer->role->asks == ROLE_CTL || peer->n_unread == PEER_UNREAD_MAX ||
		!is_unread(fd)) {
		fd_close(fd);
		return;
	}
	(void)shutdown(fd, SHUT_RDWR);
	peer->unread_fds[peer->n_unread++] = fd;
}

/* --- Connections --- */

static void disconnect(struct peer *peer)
{
	if (peer->link_fd >= 0 && peer->device && --peer->device->n_attached == 0)
		vault_abandoned(peer->device->vault);
	peer->link_source = sd_event_source_disable_unref(peer->link_source);
	close_link(peer);
	peer->bell_fd = fd_close(peer->bell_fd);
	peer->pid = 0;
}

/* The link of a process that ends is closed at once; its bus connection is then hung up as well. */
static void on_left(struct peer *peer)
{
	bool was_there = peer->link_fd >= 0;

	if (was_there)
		bus_server_left(peer->bus);
	if (was_there && peer->device)
		pauses_left(peer->device, peer);
	disconnect(peer);
	if (was_there)
		transfers_link_ended(peer);
}

static void fill_failure(Bh__Link *reply, Bh__LinkFailure *failure, struct fdloan *out, int r)
{
	bh__link_failure__init(failure);
	failure->error = -r;
	failure->text = strerror(-r);
	bh__link__init(reply);
	reply->body_case = BH__LINK__BODY_FAILURE;
	reply->failure = failure;
	out->n_fds = 0;
}

/* The frontend refuses such descriptors, so a peer that sends one was taken over. The descriptor is
 * not closed, because close() may block on whoever is behind it: it stays open for the life of this
 * process. After BURIED_MAX of them the peer is not served any more. */
static bool bury_foreign(struct peer *peer, struct fdset *in)
{
	char text[FD_KIND_TEXT_BYTES];
	size_t n = peer->n_buried;

	for (size_t i = 0; i < in->n_fds; i++) {
		if (!fd_kind_check(in->fds[i], FD_HARMLESS | FD_DEVICE | FD_GPU, text))
			continue;
		(void)fdset_steal(in, i);
		if (peer->n_buried++ == 0)
			log_error("%s sent %s, which no process of ours may send; closing its link",
				peer->name, text);
	}
	if (peer->n_buried >= BURIED_MAX && n < BURIED_MAX) {
		log_error("%s has done so %zu times; ignoring it until this process is restarted",
			peer->name, peer->n_buried);
		if (peer->listen_source)
			sd_event_source_set_enabled(peer->listen_source, SD_EVENT_OFF);
	}
	return peer->n_buried > n;
}

static int on_request(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct peer *peer = data;
	_cleanup_fdset_ struct fdset in = FDSET_INIT;
	struct fdloan out = FDLOAN_INIT; /* the vault's */
	Bh__Link *msg, reply = BH__LINK__INIT;
	Bh__LinkFailure failure;
	int r = fdlink_recv(fd, &msg, &in);

	if (r == -EAGAIN)
		return 0;
	if (bury_foreign(peer, &in)) {
		if (r == 0)
			bh__link__free_unpacked(msg, NULL);
		r = -ECONNRESET;
	}
	if (r < 0) {
		if (r != -ECONNRESET)
			log_limited(LOG_WARNING, NULL, 0,
				"%s sent a malformed request on its link: %s", peer->name,
				strerror(-r));
		on_left(peer);
		return 0;
	}
	r = is_unread(fd) ? -EBUSY : dispatch(peer, msg, &in, &reply, &out);
	blame_finish();
	bh__link__free_unpacked(msg, NULL);
	if (r < 0)
		fill_failure(&reply, &failure, &out, r);
	if (fdlink_send(fd, &reply, out.fds, out.n_fds) < 0)
		on_left(peer);
	return 0;
}

static int begin(struct peer *peer, int fd)
{
	int r = sd_event_add_io(peer->memory->proc->event, &peer->link_source, fd, EPOLLIN,
		on_request, peer);

	if (r < 0) {
		fd_close(fd);
		return r;
	}
	peer->link_fd = fd;
	return 0;
}

static int on_connect(sd_event_source *source, int listen_fd, uint32_t revents, void *data)
{
	struct peer *peer = data;
	pid_t pid = 0;
	int fd = fdlink_accept(listen_fd, peer->user, &pid);

	if (fd < 0) {
		if (fd == -EPERM)
			log_limited(LOG_WARNING, NULL, 0,
				"a process of another user tried to connect as '%s'", peer->name);
		return 0;
	}
	close_read(peer);
	if (peer->n_unread == PEER_UNREAD_MAX) {
		log_limited(LOG_WARNING, NULL, 0,
			"%s does not read what it asks for; it may not connect until it does",
			peer->name);
		fd_close(fd);
		return 0;
	}
	on_left(peer);
	if (begin(peer, fd) < 0)
		return 0;
	if (peer->device)
		peer->device->n_attached++;
	peer->pid = pid;
	peer->connects++;
	sd_event_now(peer->memory->proc->event, CLOCK_MONOTONIC, &peer->connected_usec);
	return 0;
}

/* Where an ordinary user runs everything, there is only the group of that user. */
static gid_t group_of(const struct peer *peer)
{
	return peer->memory->proc->separate ? peer->user : getegid();
}

/* A stored listening socket is useless if its path was removed, or if its group is not the
 * peer's. */
static bool still_bound(const struct peer *peer, const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_uid == geteuid() &&
		st.st_gid == group_of(peer);
}

int links_open(struct peer *peer)
{
	_cleanup_free_ char *path = proc_link_path(peer->memory->proc, peer->name);
	char stored[128];

	snprintf(stored, sizeof(stored), "link.%s", peer->name);
	peer->link_fd = peer->bell_fd = -1;
	peer->listen_fd = fdstore_take(stored);
	if (peer->listen_fd >= 0 && !still_bound(peer, path)) {
		(void)fdstore_remove(stored);
		peer->listen_fd = fd_close(peer->listen_fd);
	}
	if (peer->listen_fd < 0) {
		peer->listen_fd = fdlink_listen(path, 0660, group_of(peer));
		if (peer->listen_fd < 0) {
			log_error("cannot listen on %s: %s", path, strerror(-peer->listen_fd));
			return peer->listen_fd;
		}
		(void)fdstore_push(stored, peer->listen_fd);
	}
	return sd_event_add_io(peer->memory->proc->event, &peer->listen_source, peer->listen_fd,
		EPOLLIN, on_connect, peer);
}

void links_close(struct peer *peer)
{
	disconnect(peer);
	while (peer->n_unread)
		fd_close(peer->unread_fds[--peer->n_unread]);
	peer->listen_source = sd_event_source_disable_unref(peer->listen_source);
	peer->listen_fd = fd_close(peer->listen_fd);
}

/* --- bulkheadctl --- */

/* One too many is closed at once. */
static int on_ctl(sd_event_source *source, int listen_fd, uint32_t revents, void *data)
{
	static const struct role role = { .name = "ctl", .asks = ROLE_CTL };
	struct memory *memory = data;
	pid_t pid;
	int fd = fdlink_accept(listen_fd, geteuid(), &pid);

	for (size_t i = 0; fd >= 0 && i < CTL_MAX; i++) {
		struct peer *peer = &memory->ctl_links[i];

		if (peer->name && peer->link_fd >= 0)
			continue;
		*peer = (struct peer){ .memory = memory,
			.name = (char *)role.name,
			.role = &role,
			.listen_fd = -1,
			.link_fd = -1,
			.bell_fd = -1,
			.pid = pid };
		(void)begin(peer, fd);
		return 0;
	}
	fd_close(fd);
	return 0;
}

int links_open_ctl(struct memory *memory)
{
	_cleanup_free_ char *path = proc_ctl_link_path(memory->proc);
	int r;

	memory->ctl_listen_fd = fdlink_listen(path, 0600, getegid());
	if (memory->ctl_listen_fd < 0) {
		log_error("cannot listen on %s: %s", path, strerror(-memory->ctl_listen_fd));
		return memory->ctl_listen_fd;
	}
	r = sd_event_add_io(memory->proc->event, &memory->ctl_listen_source, memory->ctl_listen_fd,
		EPOLLIN, on_ctl, memory);
	return r < 0 ? r : 0;
}

void links_close_ctl(struct memory *memory)
{
	for (size_t i = 0; i < CTL_MAX; i++)
		if (memory->ctl_links[i].name)
			disconnect(&memory->ctl_links[i]);
	if (!memory->ctl_listen_source)
		return;
	memory->ctl_listen_source = sd_event_source_disable_unref(memory->ctl_listen_source);
	memory->ctl_listen_fd = fd_close(memory->ctl_listen_fd);
}
