/*
 * A VMM that connects or disconnects changes the record, as a message does. While such a change is
 * being committed no VMM is accepted; a newcomer waits in the socket's queue. A connection goes
 * into the fd store before anything is read from it, and the record says whether it still counts.
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
#include "base/log.h"
#include "base/timer.h"
#include "connection.h"
#include "intake.h"
#include "listener.h"
#include "requests.h"
#include "steps.h"
#include "trace.h"
#include "verdict.h"

#define CONNECT_MIN_USEC 100000ULL
#define CONNECT_MAX_USEC 1000000ULL
#define LOOK_USEC 1000000ULL
#define SHORT_USEC 2000000ULL
#define LIMIT_ACCURACY_USEC 100
#define MESSAGES_A_TURN BATCH_MAX

/* --- Timers and turns --- */

/* For as long as the exchange waits for its answer. */
static void set_limit(struct session *session)
{
	uint64_t until = session->exchange.until_usec;

	if (until)
		sd_event_source_set_time(session->limit, until);
	sd_event_source_set_enabled(session->limit, until ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* --- A VMM goes --- */

static int on_peer_death(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	timer_after(session->look, LOOK_USEC);
	return 0;
}

static void watch_peer(struct session *session)
{
	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	if (!session->config->client || session->exchange.peer.pidfd < 0)
		return;
	(void)sd_event_add_io(session->event, &session->peer_source, session->exchange.peer.pidfd,
		EPOLLIN, on_peer_death, session);
}

static void close_connection(struct session *session)
{
	session->conn_source = sd_event_source_disable_unref(session->conn_source);
	session->peer_source = sd_event_source_disable_unref(session->peer_source);
	timer_stop(session->look);
	connection_close(&session->exchange);
}

/* Nothing of the VMM stays. */
static void end_session(struct session *session)
{
	door_let_in(&session->door, false);
	close_connection(session);
	timer_stop(session->connect);
	shmem_forget(&session->exchange);
	inband_forget(&session->exchange);
	exchange_forget(&session->exchange);
	session->lost = false;
}

/* QEMU leaves without a word when it is set up for more queues than it is told of, and comes
 * again, for ever. */
static void look_at_queues(struct session *session)
{
	unsigned int pairs = requests_queue_pairs(session->config);

	if (session->exchange.asked_queues && pairs && !session->view.desired->features_set &&
		session->begun_usec && clock_us() - session->begun_usec < SHORT_USEC)
		log_limited(LOG_WARNING, session->config->name, 0,
			"the VMM asked for the number of queues and disconnected: if it is configured for more (QEMU: queues=) than queue-pairs = %u, raise that, or give the VMM fewer",
			pairs);
}

/* why: what the VMM did wrong; NULL = it went by itself. The record is told when the exchange
 * goes on. */
static void hang_up(struct session *session, const char *why)
{
	if (!why)
		look_at_queues(session);
	if (why)
		exchange_log(&session->exchange, "closing the VMM's connection: %s", why);
	else
		log_limited(LOG_INFO, session->config->name, 0, "the VMM has disconnected");
	if (trace_on)
		trace_event(session->config->name, why ?: "the VMM has disconnected");
	end_session(session);
	exchange_change(&session->exchange, desired_empty(session->view.desired, false));
}

/* The VMM is to be gone: at once, or when it is known whether the record that is on its way is
 * in force. */
static void leave(struct session *session, const char *why)
{
	if (!session_is_loaded(session) || session->exchange.next)
		session->exchange.abandoned = true;
	else
		hang_up(session, why);
}

/* Nobody is connected, and the record says so. */
static void expect_vmm(struct session *session)
{
	if (session->quarantined)
		return;
	if (session->config->client)
		timer_after(session->connect,
			session->view.desired->session ? CONNECT_MIN_USEC : 0);
	else
		door_let_in(&session->door, true);
}

/* --- The exchange goes on --- */

/* A device is suspended while no ring is started: the VMM hears nothing from it then, and is told
 * of a change when it goes on. */
static void tell_config(struct session *session)
{
	uint64_t acked = session->view.desired->protocol_features;

	if (!desired_any_started(session->view.desired))
		channel_hold(&session->exchange.channel);
	else if (has_bit(acked, VHOST_USER_PROTOCOL_F_CONFIG) &&
		has_bit(acked, VHOST_USER_PROTOCOL_F_BACKEND_REQ))
		channel_tell_config(&session->exchange.channel, session->view.observed->config_seq,
			has_bit(acked, VHOST_USER_PROTOCOL_F_REPLY_ACK));
}

/* A message that has just been answered may have been the last that counts. */
static bool may_go_on(const struct session *session)
{
	if (!session_is_loaded(session))
		return false;
	return session->exchange.step != STEP_PEEK ||
		(session->exchange.conn_fd >= 0 && session->view.desired->connected);
}

/* One batch of messages, or what comes in place of one; false: an answer is missing, or there is no
 * message. */
static bool go_on(struct session *session)
{
	struct exchange *exchange = &session->exchange;

	if (session->lost && exchange->step == STEP_PEEK) {
		hang_up(session,
			"the memory manager lost its record (it was stopped, not restarted); the VMM must "
			"connect again");
		return true;
	}
	switch (steps_run(exchange)) {
	case STEP_HANG_UP:
		hang_up(session, exchange->verdict);
		return true;
	case STEP_TURNED:
		if (!session->view.desired->connected)
			expect_vmm(session);
		return true;
	case STEP_DONE:
		return true;
	default:
		return false;
	}
}

static void run_turn(struct session *session)
{
	session->exchange.batch.n_taken = 0;
	for (unsigned int n = 0; may_go_on(session) && go_on(session); n++)
		if (MAX(n, session->exchange.batch.n_taken) >= MESSAGES_A_TURN) {
			sd_event_source_set_enabled(session->defer, SD_EVENT_ONESHOT);
			return;
		}
}

void session_run(struct session *session)
{
	struct exchange *exchange = &session->exchange;
	const struct header *header = &exchange->msg.header;
	bool in_work = exchange_in_work(exchange);
	BLAME_SCOPE(session->mark, in_work ? header->request : 0, in_work ? header->size : 0);

	run_turn(session);
	if (session_is_loaded(session)) {
		tell_config(session);
		inband_run(exchange);
	}
	if (session_is_loaded(session) && shmem_run(exchange))
		run_turn(session);
	if (exchange->peer_changed)
		watch_peer(session);
	exchange->peer_changed = false;
	set_limit(session);
}

/* --- Events --- */

static int on_limit(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;

	exchange_timeout(&session->exchange);
	session_run(session);
	return 0;
}

static void on_channel_news(void *data)
{
	session_run(data);
}

static int on_defer(sd_event_source *source, void *data)
{
	session_run(data);
	return 0;
}

/* Without a message in work there may be some yet that came before the end. */
static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	if ((revents & (EPOLLHUP | EPOLLERR)) &&
		(session->exchange.step != STEP_PEEK || !session_is_loaded(session)))
		leave(session, NULL);
	exchange_heard(&session->exchange);
	session_run(session);
	return 0;
}

/* Edge-triggered: a message that is there in part must not wake the loop again and again. */
static int watch_connection(struct session *session)
{
	return sd_event_add_io(session->event, &session->conn_source, session->exchange.conn_fd,
		EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_conn, session);
}

/* --- A VMM comes --- */

/* The record gets a new session; messages are looked at when that is committed. */
static void begin(struct session *session)
{
	door_let_in(&session->door, true);
	exchange_change(&session->exchange, desired_empty(session->view.desired, true));
	channel_begin(&session->exchange.channel, session->view.observed->config_seq);
	session->begun_usec = clock_us();
	session->exchange.asked_queues = false;
}

/* There is a connection, which is in the fd store. */
static void attach(struct session *session)
{
	watch_peer(session);
	session->connect_tries = 0;
	if (watch_connection(session) < 0) {
		close_connection(session);
		return;
	}
	log_limited(LOG_INFO, session->config->name, 0, "a VMM has connected (pid %d)",
		(int)session->exchange.peer.pid);
	if (trace_on)
		trace_event(session->config->name, "a VMM has connected");
	begin(session);
	session_run(session);
}

void session_attach(struct session *session, int fd)
{
	connection_begin(&session->exchange, fd);
	attach(session);
}

/* --- Waiting for a VMM --- */

/* While nobody was let in, thousands may have come and gone. A session costs two commits, and
 * whoever is there waits for all before him. */
static bool has_come_for_nothing(int fd)
{
	return wire_is_silent(fd) && wire_hung_up(fd);
}

static void accept_vmm(struct session *session)
{
	struct exchange *exchange = &session->exchange;

	connection_accept(exchange, session->door.listen_fd);
	if (exchange->conn_fd < 0)
		return;
	if (has_come_for_nothing(exchange->conn_fd))
		connection_close(exchange);
	else
		attach(session);
}

static void send_away(struct session *session)
{
	_cleanup_close_ int fd =
		accept4(session->door.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		exchange_log(&session->exchange,
			"rejected a second VMM (pid %d): pid %d uses this device; give each VMM a device of its own",
			(int)connection_pid(fd), (int)session->exchange.peer.pid);
}

/* Why the connected VMM has to make room for another; NULL = it does not. */
static const char *outlived(const struct session *session)
{
	if (wire_is_silent(session->exchange.conn_fd))
		return "it has said nothing at all, and another VMM has come";
	if (peer_is_gone(&session->exchange.peer))
		return "its process is gone, and another VMM has come; somebody holds its end of the connection open";
	return NULL;
}

static void make_room(struct session *session, const char *why)
{
	door_let_in(&session->door, false);
	leave(session, why);
	session_run(session);
}

/* In client mode nobody comes by himself. Whoever listens in a dead VMM's place is looked for as
 * long as that one's connection stays open; a listener that the dead one has left to somebody
 * along with the connection is none. */
static int on_look(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;
	_cleanup_close_ int fd = -1;

	if (session->exchange.conn_fd < 0 || !peer_is_gone(&session->exchange.peer))
		return 0;
	fd = listener_connect(session->config);
	if (fd < 0 || connection_pid(fd) == session->exchange.peer.pid ||
		connection_pid(fd) == connection_pid(session->exchange.conn_fd)) {
		timer_after(source, LOOK_USEC);
		return 0;
	}
	fd_close(session->next_fd);
	session->next_fd = fd_steal(&fd);
	make_room(session, outlived(session));
	return 0;
}

static void on_knock(void *data)
{
	struct session *session = data;
	const char *why;

	if (session->exchange.conn_fd < 0)
		accept_vmm(session);
	else if (wire_hung_up(session->exchange.conn_fd))
		door_let_in(&session->door,
			false); /* who goes is seen to first; who comes waits in the queue */
	else if ((why = outlived(session)))
		make_room(session, why);
	else
		send_away(session);
}

static bool start_anew(void *data)
{
	struct session *session = data;

	return session->start_anew && session->start_anew(session);
}

static void try_connect(struct session *session)
{
	int fd = session->next_fd >= 0 ? fd_steal(&session->next_fd)
				       : listener_connect(session->config);
	uint64_t usec;

	if (fd >= 0) {
		session_attach(session, fd);
		return;
	}
	if (session->connect_tries++ == 0)
		log_limited(LOG_INFO, session->config->name, 0,
			"waiting for a VMM to listen on %s (%s%s)", session->config->socket,
			strerror(-fd),
			fd == -EACCES
				? ": its file must be writable for the group that socket-group names"
				: "");
	usec = CONNECT_MIN_USEC << MIN(session->connect_tries - 1, 4u);
	timer_after(session->connect, MIN(usec, CONNECT_MAX_USEC));
}

static int on_connect(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;

	if (session->exchange.conn_fd < 0 && session->exchange.step == STEP_PEEK)
		try_connect(session);
	return 0;
}

/* --- Quarantine --- */

/* This process died of what the VMM says. The record tells everybody why there is none any more. */
static void begin_quarantine(struct session *session)
{
	char text[192];
	Bh__Desired *next;

	verdict_explain(session->config->name, session->mark, text, sizeof(text));
	session->quarantined = true;
	end_session(session);
	next = desired_empty(session->view.desired, false);
	next->quarantine = strdup(text);
	check(next->quarantine);
	exchange_change(&session->exchange, next);
}

void session_released(struct session *session, uint64_t generation)
{
	if (!session->quarantined || session->exchange.step != STEP_PEEK ||
		generation < session->view.desired->generation)
		return;
	log_device(LOG_NOTICE, session->config->name, "released from quarantine");
	session->quarantined = false;
	*session->mark = (struct blame_mark){ 0 };
	exchange_change(&session->exchange, desired_empty(session->view.desired, false));
	session_run(session);
}

void session_refused(struct session *session, uint64_t generation)
{
	Bh__Desired *empty = desired_empty(session->view.desired, false);

	if (!session->quarantined)
		log_device(LOG_ERR, session->config->name,
			"closing the VMM's connection: the memory manager has quarantined the device");
	end_session(session);
	empty->generation = generation;
	desired_free(session->view.desired);
	session->view.desired = empty;
	session->quarantined = true;
	session_run(session);
}

/* --- What memory says --- */

static void resume(struct session *session)
{
	steps_resume(&session->exchange);
	tell_config(session);
	door_let_in(&session->door, true);
}

bool session_is_loaded(const struct session *session)
{
	return session->view.desired != NULL;
}

void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed)
{
	view_load(&session->view, desired, observed);
	if (session->mark->deaths >= BLAME_LIMIT)
		begin_quarantine(session);
	else if (*desired->quarantine)
		session_refused(session, desired->generation);
	else if (desired->connected && session->exchange.conn_fd < 0)
		hang_up(session, NULL);
	else if (desired->connected)
		resume(session);
	else if (session->exchange.conn_fd >= 0)
		begin(session);
	else
		expect_vmm(session);
	session_run(session);
}

/* --- Life --- */

/* What a former process had of this VMM. */
static int take_over(struct session *session)
{
	connection_resume(&session->exchange, session->event);
	session->exchange.channel.on_news = on_channel_news;
	session->exchange.channel.data = session;
	if (session->exchange.conn_fd < 0)
		return 0;
	watch_peer(session);
	return watch_connection(session);
}

static int add_timer(struct session *session, sd_event_source **ret_source,
	sd_event_time_handler_t handler)
{
	int r = sd_event_add_time(session->event, ret_source, CLOCK_MONOTONIC, 0, 1000, handler,
		session);

	return r < 0 ? r : sd_event_source_set_enabled(*ret_source, SD_EVENT_OFF);
}

static int open_sources(struct session *session)
{
	int r = add_timer(session, &session->limit, on_limit);

	if (r >= 0)
		r = sd_event_source_set_time_accuracy(session->limit, LIMIT_ACCURACY_USEC);
	if (r >= 0)
		r = add_timer(session, &session->connect, on_connect);
	if (r >= 0)
		r = add_timer(session, &session->look, on_look);
	if (r >= 0)
		r = sd_event_add_defer(session->event, &session->defer, on_defer, session);
	return r < 0 ? r : sd_event_source_set_enabled(session->defer, SD_EVENT_OFF);
}

/* What the exchange borrows of the session, and what it does not have yet. */
static void open_exchange(struct session *session)
{
	session->exchange = (struct exchange){ .session = session,
		.ops = session->ops,
		.config = session->config,
		.view = &session->view,
		.mark = session->mark,
		.conn_fd = -1,
		.channel = CHANNEL_NULL,
		.shmem = SHMEM_NULL,
		.reply_fd = -1,
		.replay = REPLAY_NULL,
		.peer = PEER_NULL };
}

int session_open(struct session *session, sd_event *event, const struct config_device *config)
{
	int r;

	intake_open(event);
	session->event = event;
	session->config = config;
	session->door = (struct door)DOOR_NULL;
	session->next_fd = -1;
	open_exchange(session);
	if ((r = open_sources(session)) < 0 ||
		(r = replay_open(&session->exchange.replay, config->name)) < 0 ||
		(r = take_over(session)) < 0) {
		log_device(LOG_ERR, config->name, "cannot be served: %s", strerror(-r));
		return r;
	}
	return config->client
		? 0
		: door_open(&session->door, event, config, on_knock, start_anew, session);
}

void session_close(struct session *session)
{
	door_close(&session->door);
	sd_event_source_disable_unref(session->conn_source);
	sd_event_source_disable_unref(session->peer_source);
	sd_event_source_disable_unref(session->look);
	sd_event_source_disable_unref(session->limit);
	sd_event_source_disable_unref(session->connect);
	sd_event_source_disable_unref(session->defer);
	shmem_forget(&session->exchange);
	inband_forget(&session->exchange);
	exchange_forget(&session->exchange);
	replay_close(&session->exchange.replay);
	fd_close(session->exchange.conn_fd);
	fd_close(session->exchange.peer.pidfd);
	fd_close(session->next_fd);
	channel_free(&session->exchange.channel);
	view_deinit(&session->view);
}
