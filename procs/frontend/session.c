/*
 * VMMs that come and go. Both are changes of the record, like a message; while one is on its way, nobody
 * is accepted, and who comes waits in the socket's queue. A connection is in the fd store before anything
 * is read from it, and the record says whether it still counts.
 */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "fd/fdstore.h"
#include "intake.h"
#include "listener.h"
#include "requests.h"

#define CONNECT_MIN_USEC 100000ULL
#define CONNECT_MAX_USEC 1000000ULL
#define LOOK_USEC        1000000ULL
#define SHORT_USEC       2000000ULL

static void try_connect(struct session *session);

/* --- Timer and turns --- */

void session_set_timer(struct session *session, uint64_t usec)
{
	sd_event_source_set_time_relative(session->timer, usec);
	sd_event_source_set_enabled(session->timer, SD_EVENT_ONESHOT);
}

void session_stop_timer(struct session *session)
{
	sd_event_source_set_enabled(session->timer, SD_EVENT_OFF);
}

/* In PHASE_IDLE it is time to connect again; in the others the wait has lasted too long. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;

	if (session->phase == PHASE_IDLE && session->conn_fd < 0)
		try_connect(session);
	else
		work_timeout(session);
	return 0;
}

static int on_defer(sd_event_source *source, void *data)
{
	work_run(data);
	return 0;
}

/* --- The connection --- */

static void store_name(char *buf, size_t n, const char *what, const struct session *session)
{
	snprintf(buf, n, "%s.%s", what, session->config->name);
}

static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	if (!(revents & (EPOLLHUP | EPOLLERR)) || session->phase == PHASE_IDLE)
		work_run(session);
	else if (session->phase == PHASE_COMMIT || session->phase == PHASE_LOADING)
		session->hung_up = true; /* until the answer is there */
	else
		session_hang_up(session, NULL);
	return 0;
}

/* Edge-triggered: a message that is there in part must not keep us awake. */
static int watch_connection(struct session *session)
{
	return sd_event_add_io(session->event, &session->conn_source, session->conn_fd,
		EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_conn, session);
}

static pid_t peer_of(int fd)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n);
	return cred.pid;
}

static void close_connection(struct session *session)
{
	char name[64];

	session->conn_source = sd_event_source_disable_unref(session->conn_source);
	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	if (session->look)
		sd_event_source_set_enabled(session->look, SD_EVENT_OFF);
	store_name(name, sizeof(name), "conn", session);
	intake_drain(session->conn_fd);
	(void)fdstore_remove(name);
	session->conn_fd = fd_close(session->conn_fd);
	if (session->backend_req_fd >= 0) {
		store_name(name, sizeof(name), "breq", session);
		intake_drain(session->backend_req_fd);
		(void)fdstore_remove(name);
		session->backend_req_fd = fd_close(session->backend_req_fd);
	}
	replay_drop(&session->replay, session->config->name);
	peer_forget(&session->peer, session->config->name);
}

static void accept_others(struct session *session, bool yes)
{
	if (session->listen_source)
		sd_event_source_set_enabled(session->listen_source, yes ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* Nothing of the VMM stays. */
static void end_session(struct session *session)
{
	accept_others(session, false);
	close_connection(session);
	session_stop_timer(session);
	work_forget(session);
	session->hung_up = session->lost = false;
}

/* QEMU leaves without a word when it is set up for more queues than it is told of, and comes again, for ever. */
static void look_at_queues(struct session *session)
{
	unsigned int pairs = requests_queue_pairs(session);

	if (session->asked_queues && pairs && !session->desired->features_set && session->begun_usec &&
		clock_us() - session->begun_usec < SHORT_USEC)
		log_limited(LOG_WARNING, session->config->name, 0, "the VMM asked how many queues there are, and left at "
			"once: if it is set up for more (QEMU: queues=) than queue-pairs = %u, raise that, or give it fewer",
			pairs);
}

void session_hang_up(struct session *session, const char *why)
{
	if (!why)
		look_at_queues(session);
	if (why)
		session_log(session, "the VMM's connection is ended: %s", why);
	else
		log_limited(LOG_INFO, session->config->name, 0, "the VMM has disconnected");
	end_session(session);
	session->next = desired_empty(session->desired, false);
	work_commit(session, FOR_VMM);
}

/* The record gets a new session; messages are looked at when that is committed. */
static void begin(struct session *session)
{
	accept_others(session, true);
	session->next = desired_empty(session->desired, true);
	session->told_config_seq = session->observed->config_seq;
	session->begun_usec = clock_us();
	session->asked_queues = false;
	work_commit(session, FOR_VMM);
}

/* The connection is in the fd store. */
static void attach(struct session *session, int fd)
{
	session->conn_fd = fd;
	peer_begin(&session->peer, fd);
	session_watch_peer(session);
	session->connect_tries = 0;
	if (watch_connection(session) < 0) {
		close_connection(session);
		return;
	}
	log_limited(LOG_INFO, session->config->name, 0, "a VMM has connected (pid %d)", (int)session->peer.pid);
	begin(session);
}

void session_attach(struct session *session, int fd)
{
	char name[64];

	store_name(name, sizeof(name), "conn", session);
	(void)fdstore_push(name, fd);
	attach(session, fd);
}

/* --- Waiting for a VMM --- */

static void accept_vmm(struct session *session)
{
	char name[64];
	int fd;

	store_name(name, sizeof(name), "conn", session);
	fd = fdstore_accept(session->listen_fd, name);
	if (fd >= 0)
		attach(session, fd);
}

static void send_away(struct session *session)
{
	_cleanup_close_ int fd = accept4(session->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		session_log(session, "a second VMM (pid %d) was sent away: pid %d uses this device; give each VMM a "
			"device of its own",
			(int)peer_of(fd), (int)session->peer.pid);
}

/* Why whoever is connected makes room for somebody else; NULL = he does not. */
static const char *outlived(const struct session *session)
{
	if (wire_is_silent(session->conn_fd))
		return "it has said nothing at all, and another VMM has come";
	if (peer_is_gone(&session->peer))
		return "its process is gone, and another VMM has come; somebody holds its end of the connection open";
	return NULL;
}

static void make_room(struct session *session, const char *why)
{
	if (session->phase == PHASE_COMMIT) {
		session->hung_up = true; /* until the answer is there */
		accept_others(session, false);
		return;
	}
	session_hang_up(session, why);
}

/* In client mode nobody comes by himself. Whoever listens in a dead VMM's place is looked for as long as that one's
 * connection stays open; a listener that the dead one has left to somebody along with the connection is none. */
static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;
	_cleanup_close_ int fd = -1;

	if (session->conn_fd < 0 || !peer_is_gone(&session->peer))
		return 0;
	fd = listener_connect(session->config);
	if (fd < 0 || peer_of(fd) == session->peer.pid || peer_of(fd) == peer_of(session->conn_fd)) {
		sd_event_source_set_time_relative(source, LOOK_USEC);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
		return 0;
	}
	fd_close(session->next_fd);
	session->next_fd = fd_steal(&fd);
	make_room(session, outlived(session));
	return 0;
}

static int on_peer_death(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	sd_event_source_set_time_relative(session->look, LOOK_USEC);
	sd_event_source_set_enabled(session->look, SD_EVENT_ONESHOT);
	return 0;
}

void session_watch_peer(struct session *session)
{
	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	if (!session->config->client || session->peer.pidfd < 0)
		return;
	(void)sd_event_add_io(session->event, &session->peer_source, session->peer.pidfd, EPOLLIN, on_peer_death,
		session);
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t revents, void *data)
{
	struct session *session = data;
	const char *why;

	if (session->conn_fd < 0)
		accept_vmm(session);
	else if (wire_hung_up(session->conn_fd))
		accept_others(session, false); /* who goes is seen to first; who comes waits in the queue */
	else if ((why = outlived(session)))
		make_room(session, why);
	else
		send_away(session);
	return 0;
}

static void try_connect(struct session *session)
{
	int fd = session->next_fd >= 0 ? fd_steal(&session->next_fd) : listener_connect(session->config);
	uint64_t usec;

	if (fd >= 0) {
		session_attach(session, fd);
		return;
	}
	if (session->connect_tries++ == 0)
		log_limited(LOG_INFO, session->config->name, 0, "waiting for a VMM to listen on %s (%s%s)",
			session->config->socket, strerror(-fd),
			fd == -EACCES ? ": its file must be writable for the group that socket-group names" : "");
	usec = CONNECT_MIN_USEC << MIN(session->connect_tries - 1, 4u);
	session_set_timer(session, MIN(usec, CONNECT_MAX_USEC));
}

void session_expect_vmm(struct session *session)
{
	if (session->quarantined)
		return;
	if (session->config->client)
		session_set_timer(session, session->desired->session ? CONNECT_MIN_USEC : 0);
	else
		accept_others(session, true);
}

/* --- Quarantine --- */

static void name_input(const struct blame_mark *mark, char *buf, size_t n)
{
	const struct request_row *row = requests_find((uint32_t)mark->what);

	if (mark->what)
		snprintf(buf, n, "message %s (%u) of %u bytes", row ? row->name : "without a name",
			(unsigned int)mark->what, (unsigned int)mark->which);
	else
		snprintf(buf, n, "a message that could not be read");
}

/* This process died of what the VMM says. The record tells everybody why there is none any more. */
static void begin_quarantine(struct session *session)
{
	char input[96], how[64], text[192];

	name_input(session->mark, input, sizeof(input));
	snprintf(text, sizeof(text), "frontend: %s %s", input,
		blame_describe(session->mark, how, sizeof(how)));
	log_device(LOG_ERR, session->config->name,
		"quarantined: %s; the VMM's connection is ended, and no other is accepted until the device is "
		"released (bulkheadctl(1)); the evidence is in the core dumps (coredumpctl list "
		"bulkhead-frontend)",
		text);
	session->quarantined = true;
	end_session(session);
	session->next = desired_empty(session->desired, false);
	session->next->quarantine = strdup(text);
	check(session->next->quarantine);
	work_commit(session, FOR_VMM);
}

void session_released(struct session *session, uint64_t generation)
{
	if (!session->quarantined || session->phase != PHASE_IDLE || generation < session->desired->generation)
		return;
	log_device(LOG_NOTICE, session->config->name, "released from quarantine");
	session->quarantined = false;
	*session->mark = (struct blame_mark){ 0 };
	session->next = desired_empty(session->desired, false);
	work_commit(session, FOR_VMM);
}

void session_refused(struct session *session, uint64_t generation)
{
	Bh__Desired *empty = desired_empty(session->desired, false);

	if (!session->quarantined)
		log_device(LOG_ERR, session->config->name,
			"the VMM's connection is ended: the memory manager has quarantined the device");
	end_session(session);
	empty->generation = generation;
	desired_free(session->desired);
	session->desired = empty;
	session->quarantined = true;
	session->phase = PHASE_IDLE;
}

/* --- What memory and the worker say --- */

static bool any_ring_started(const Bh__Desired *desired)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->started)
			return true;
	return false;
}

/* A device whose rings all stand still says nothing: the VMM is told when it goes on. */
static void tell_config_change(struct session *session)
{
	uint64_t needed = BIT(PF_CONFIG) | BIT(PF_BACKEND_REQ);

	if (session->backend_req_fd < 0 || session->observed->config_seq == session->told_config_seq ||
		(session->desired->protocol_features & needed) != needed ||
		!any_ring_started(session->desired))
		return;
	session->told_config_seq = session->observed->config_seq;
	(void)wire_request(session->backend_req_fd, BACKEND_CONFIG_CHANGE_MSG);
}

void session_observed(struct session *session, Bh__Observed *observed)
{
	if (session->observed->applied >= session->desired->generation)
		rings_hear(&session->heard, session->desired, session->observed->rings, session->observed->n_rings);
	bh__observed__free_unpacked(session->observed, NULL);
	session->observed = observed;
	tell_config_change(session);
	work_observed(session);
}

void session_memory_back(struct session *session, uint64_t generation, uint64_t asked)
{
	if (session->phase == PHASE_LOADING || generation >= asked || !session->desired->connected)
		return;
	session->lost = true;
	work_run(session);
}

static void resume(struct session *session)
{
	/* a message that was begun is looked at like any other: it may be handled twice */
	if (replay_resume(&session->replay, session->conn_fd) == REPLAY_SEND)
		session->phase = PHASE_SEND;
	accept_others(session, true);
	work_run(session);
}

void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed)
{
	session->desired = desired;
	session->observed = observed;
	session->phase = PHASE_IDLE;
	if (session->mark->deaths >= BLAME_LIMIT)
		begin_quarantine(session);
	else if (*desired->quarantine)
		session_refused(session, desired->generation);
	else if (desired->connected && session->conn_fd < 0)
		session_hang_up(session, NULL);
	else if (desired->connected)
		resume(session);
	else if (session->conn_fd >= 0)
		begin(session);
	else
		session_expect_vmm(session);
}

/* --- Life --- */

/* What a former process had of this VMM. A change of the configuration may have been missed meanwhile:
 * the VMM is told of one, rather once too often (told_config_seq is 0). */
static int take_over(struct session *session)
{
	char name[64];

	store_name(name, sizeof(name), "conn", session);
	session->conn_fd = fdstore_take(name);
	parts_resume(&session->replay.parts, session->conn_fd, session->config->name);
	store_name(name, sizeof(name), "breq", session);
	session->backend_req_fd = fdstore_take(name);
	if (session->conn_fd < 0)
		return 0;
	peer_resume(&session->peer, session->conn_fd, session->config->name);
	session_watch_peer(session);
	return watch_connection(session);
}

static void watch_file(struct session *session);

static int watch_listener(struct session *session, int enabled)
{
	int r = sd_event_add_io(session->event, &session->listen_source, session->listen_fd, EPOLLIN,
		on_listen, session);

	return r < 0 ? r : sd_event_source_set_enabled(session->listen_source, enabled);
}

static int on_file_lost(void *data)
{
	struct session *session = data;
	int enabled = SD_EVENT_OFF, fd;

	if (session->listener_passed) {
		log_limited(LOG_ERR, session->config->name, 0, "the socket file %s was removed, and no VMM can connect: "
			"whoever passed the socket must make it again", session->config->socket);
		return 0;
	}
	if (!listener_may_make(session->config) && session->ops->start_anew && session->ops->start_anew(session))
		return 0;
	fd = listener_renew(session->config);
	if (fd < 0)
		return fd;
	(void)sd_event_source_get_enabled(session->listen_source, &enabled);
	session->listen_source = sd_event_source_disable_unref(session->listen_source);
	fd_close(session->listen_fd);
	session->listen_fd = fd;
	log_limited(LOG_NOTICE, session->config->name, 0, "the socket file %s was removed, and is made again",
		session->config->socket);
	watch_file(session);
	return watch_listener(session, enabled);
}

static void watch_file(struct session *session)
{
	int r = socket_file_watch(&session->file, session->event, session->config->socket, on_file_lost, session);

	if (r < 0 && !session->listener_passed)
		log_limited(LOG_WARNING, session->config->name, 0, "the socket file %s cannot be watched: %s",
			session->config->socket, strerror(-r));
}

static int listen_for_vmm(struct session *session)
{
	session->listen_fd = listener_open(session->config, &session->listener_passed);
	if (session->listen_fd < 0)
		return session->listen_fd;
	watch_file(session);
	return watch_listener(session, SD_EVENT_OFF);
}

static int open_sources(struct session *session)
{
	int r = sd_event_add_time_relative(session->event, &session->timer, CLOCK_MONOTONIC, 0, 1000,
		on_timer, session);

	if (r >= 0)
		r = sd_event_add_time_relative(session->event, &session->look, CLOCK_MONOTONIC, 0, 1000, on_look,
			session);
	if (r >= 0)
		r = sd_event_source_set_enabled(session->look, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_defer(session->event, &session->defer, on_defer, session);
	if (r < 0)
		return r;
	session_stop_timer(session);
	return sd_event_source_set_enabled(session->defer, SD_EVENT_OFF);
}

int session_open(struct session *session, sd_event *event, const struct config_device *config)
{
	int r;

	intake_open(event);
	session->event = event;
	session->config = config;
	session->listen_fd = session->conn_fd = session->backend_req_fd = session->reply_fd = session->next_fd = -1;
	session->peer = (struct peer)PEER_NULL;
	session->replay = (struct replay)REPLAY_NULL;
	if ((r = open_sources(session)) < 0 || (r = replay_open(&session->replay, config->name)) < 0 ||
		(r = take_over(session)) < 0) {
		log_device(LOG_ERR, config->name, "cannot be served: %s", strerror(-r));
		return r;
	}
	return config->client ? 0 : listen_for_vmm(session);
}

void session_close(struct session *session)
{
	socket_file_forget(&session->file);
	sd_event_source_disable_unref(session->listen_source);
	sd_event_source_disable_unref(session->conn_source);
	sd_event_source_disable_unref(session->peer_source);
	sd_event_source_disable_unref(session->look);
	sd_event_source_disable_unref(session->timer);
	sd_event_source_disable_unref(session->defer);
	work_forget(session);
	replay_close(&session->replay);
	fd_close(session->listen_fd);
	fd_close(session->conn_fd);
	fd_close(session->peer.pidfd);
	fd_close(session->next_fd);
	fd_close(session->backend_req_fd);
	desired_free(session->desired);
	if (session->observed)
		bh__observed__free_unpacked(session->observed, NULL);
}
