/*
 * One message is in work at a time: it is looked at in the socket, checked, turned into a change of the
 * record, committed, taken out of the socket, answered. Between these steps the process serves its other
 * devices. A VMM that comes or goes is a change of the record as well.
 *
 *        LOADING --record known--> IDLE --message changes record--> COMMIT --answer promises effect--> WAIT
 *                                   ^------------------------------------'------- applied, or too late --'
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
#include "fd/fdstore.h"
#include "frontend.h"

#define WAIT_USEC (5 * 1000000ULL)
#define COMMIT_RETRY_USEC 20000
#define CONNECT_MIN_USEC 100000ULL
#define CONNECT_MAX_USEC 1000000ULL

static void run(struct session *session);
static void commit(struct session *session);
static void finish_message(struct session *session);
static void expect_vmm(struct session *session);

/* --- Words --- */

void session_log(struct session *session, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!log_allowed(&session->limit))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_device(LOG_WARNING, session->config->name, "%s", text);
}

int session_refuse(struct session *session, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(session->why, sizeof(session->why), fmt, ap);
	va_end(ap);
	return OUTCOME_REFUSED;
}

int session_deposit(struct session *session, uint64_t *ret_tokens)
{
	int r = vault_deposit(session->frontend->vault, session->config->name, session->msg.fds,
		session->msg.n_fds, ret_tokens);

	return r < 0 ? session_refuse(session, "its descriptors cannot be kept: %s", strerror(-r)) : 0;
}

/* --- The record --- */

Bh__Desired *desired_next(const Bh__Desired *desired)
{
	size_t n = bh__desired__get_packed_size(desired);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);
	Bh__Desired *next;

	check(buf);
	bh__desired__pack(desired, buf);
	next = bh__desired__unpack(NULL, n, buf);
	check(next);
	next->generation++;
	return next;
}

static void drop_next(struct session *session)
{
	if (session->next)
		bh__desired__free_unpacked(session->next, NULL);
	session->next = NULL;
}

/* A ring that stopped goes on where the worker left it. */
static void settle_positions(struct session *session)
{
	const Bh__Observed *observed = session->observed;

	if (!observed || observed->applied < session->desired->generation)
		return;
	for (size_t i = 0; i < observed->n_rings; i++) {
		Bh__Ring *ring = ring_find(session->desired, observed->rings[i]->index);

		if (ring && !ring->started && ring->start_id)
			ring->position = observed->rings[i]->position;
	}
}

/* --- Timer: one purpose at a time --- */

static void set_timer(struct session *session, uint64_t usec)
{
	sd_event_source_set_time_relative(session->timer, usec);
	sd_event_source_set_enabled(session->timer, SD_EVENT_ONESHOT);
}

static void stop_timer(struct session *session)
{
	sd_event_source_set_enabled(session->timer, SD_EVENT_OFF);
}

/* --- Commit --- */

static void committed(struct session *session)
{
	bh__desired__free_unpacked(session->desired, NULL);
	session->desired = ptr_steal(&session->next);
	if (session->is_message && session->wait && !session->hung_up) {
		session->phase = PHASE_WAIT;
		set_timer(session, WAIT_USEC);
		session_observed(session, NULL);
		return;
	}
	session->phase = PHASE_IDLE;
	if (session->is_message)
		finish_message(session);
	else if (!session->desired->connected)
		expect_vmm(session);
	run(session);
}

static void on_committed(void *data, int error, const Bh__Envelope *reply)
{
	struct session *session = data;
	const Bh__CommitDesiredReply *answer = error ? NULL : reply->commit_desired_reply;

	if (error == -ECONNRESET || error == -ETIMEDOUT) {
		set_timer(session, COMMIT_RETRY_USEC); /* repeating it is harmless */
		return;
	}
	if (!error && !*answer->refused && answer->generation >= session->next->generation) {
		committed(session);
		return;
	}
	session_refuse(session, "%s", error ? strerror(-error) : answer->refused);
	if (!session->is_message)
		log_device(LOG_ERR, session->config->name, "memory refused a record: %s", session->why);
	drop_next(session);
	session->phase = PHASE_IDLE;
	if (session->is_message)
		finish_message(session);
	run(session);
}

static void commit(struct session *session)
{
	Bh__CommitDesired request = BH__COMMIT_DESIRED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	session->phase = PHASE_COMMIT;
	request.device = session->config->name;
	request.desired = session->next;
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED;
	body.commit_desired = &request;
	if (bus_client_call(session->frontend->bus, &body, BUS_TIMEOUT_MS, on_committed, session) < 0)
		set_timer(session, COMMIT_RETRY_USEC);
}

/* --- A message: answer --- */

static bool acks(const struct session *session)
{
	return (session->msg.header.flags & HEADER_NEED_REPLY) &&
		has_bit(session->desired->protocol_features, PF_REPLY_ACK);
}

static int answer(struct session *session)
{
	uint8_t buf[sizeof(struct config_header) + CONFIG_SIZE_MAX] = { 0 };
	const struct request_row *row = session->row;
	uint64_t failed = *session->why != '\0';
	size_t n;

	if (row && row->reply) {
		/* what is refused but owed an answer gets one that is right in form, so that nobody waits */
		n = failed && session->msg.header.size < row->size_min
			? sizeof(uint64_t)
			: row->reply(session, &session->msg, buf);
		return wire_reply(session->conn_fd, row->request, buf, n);
	}
	if (!acks(session))
		return 0;
	return wire_reply(session->conn_fd, session->msg.header.request, &failed, sizeof(failed));
}

static void hang_up(struct session *session, const char *why);

static void finish_message(struct session *session)
{
	struct header header = session->msg.header;
	struct message answered = session->msg; /* the payload outlives consume, for the answer */
	int r;

	if (session->hung_up)
		return;
	if (*session->why)
		session_log(session, "message %s (%u) of the VMM refused: %s",
			session->row ? session->row->name : "unknown", header.request, session->why);
	r = wire_consume(session->conn_fd, &session->msg);
	session->msg = answered;
	session->msg.n_fds = 0;
	if (r == 0)
		r = answer(session);
	wire_drop(&session->msg);
	session->wait = false;
	session->is_message = false;
	session->row = NULL;
	*session->why = '\0';
	if (r < 0)
		hang_up(session, "the VMM takes no answers");
}

/* --- A message: take --- */

static int decide(struct session *session)
{
	session->row = requests_find(session->msg.header.request);
	if (!session->row)
		return session_refuse(session, "not a message that is served here");
	if (session->msg.too_long)
		return session_refuse(session, "a payload of %u bytes", session->msg.header.size);
	if (requests_check(session, session->row, &session->msg))
		return OUTCOME_REFUSED;
	if (!session->row->handle)
		return OUTCOME_DONE;
	session->next = desired_next(session->desired);
	return session->row->handle(session, &session->msg, session->next);
}

static void handle_message(struct session *session)
{
	int outcome = decide(session);

	session->is_message = true;
	if (outcome <= OUTCOME_DONE) {
		drop_next(session);
		finish_message(session);
		return;
	}
	/* an acknowledgement promises the effect, and so do these without one */
	session->wait = outcome == OUTCOME_WAIT || acks(session);
	commit(session);
}

static void run(struct session *session)
{
	const char *text = "";

	while (session->phase == PHASE_IDLE && session->conn_fd >= 0 && session->observed &&
		session->desired->connected) {
		int r;

		if (session->hung_up) {
			hang_up(session, NULL);
			return;
		}
		r = wire_peek(session->conn_fd, &session->msg, &text);
		if (r == 0)
			return;
		if (r < 0) {
			hang_up(session, r == -WIRE_E_FRAMING ? text : NULL);
			return;
		}
		handle_message(session);
	}
}

/* --- What the worker says --- */

static void tell_config_change(struct session *session, uint64_t old_seq)
{
	uint64_t needed = BIT(PF_CONFIG) | BIT(PF_BACKEND_REQ);

	if (session->backend_req_fd < 0 || session->observed->config_seq == old_seq ||
		(session->desired->protocol_features & needed) != needed)
		return;
	(void)wire_request(session->backend_req_fd, BACKEND_CONFIG_CHANGE_MSG);
}

static void end_wait(struct session *session)
{
	stop_timer(session);
	settle_positions(session);
	session->phase = PHASE_IDLE;
	finish_message(session);
	run(session);
}

void session_observed(struct session *session, Bh__Observed *observed)
{
	uint64_t old_seq = session->observed ? session->observed->config_seq : 0;
	bool first = !session->observed;

	if (observed) {
		if (session->observed)
			bh__observed__free_unpacked(session->observed, NULL);
		session->observed = observed;
		if (!first)
			tell_config_change(session, old_seq);
	}
	if (session->phase == PHASE_WAIT) {
		if (session->observed->applied < session->desired->generation)
			return;
		if (*session->observed->apply_error)
			session_refuse(session, "%s", session->observed->apply_error);
		end_wait(session);
	} else if (session->phase == PHASE_IDLE) {
		settle_positions(session);
		run(session);
	}
}

/* --- A VMM comes and goes --- */

static int on_conn(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct session *session = data;

	if ((revents & (EPOLLHUP | EPOLLERR)) && session->phase != PHASE_IDLE)
		session->hung_up = true;
	run(session);
	return 0;
}

/* A record that knows of no VMM: what the last one handed over is named nowhere, and is closed. */
static Bh__Desired *empty_desired(const Bh__Desired *old, bool connected)
{
	Bh__Desired *next = malloc(sizeof(*next));

	check(next);
	bh__desired__init(next);
	next->generation = old->generation + 1;
	next->session = old->session + connected;
	next->connected = connected;
	next->rarp_seq = old->rarp_seq;
	next->reset_epoch = old->reset_epoch;
	return next;
}

static void close_connection(struct session *session)
{
	char name[64];

	session->conn_source = sd_event_source_disable_unref(session->conn_source);
	wire_drop(&session->msg);
	snprintf(name, sizeof(name), "conn.%s", session->config->name);
	(void)fdstore_remove(name);
	session->conn_fd = fd_close(session->conn_fd);
	if (session->backend_req_fd >= 0) {
		snprintf(name, sizeof(name), "breq.%s", session->config->name);
		(void)fdstore_remove(name);
		session->backend_req_fd = fd_close(session->backend_req_fd);
	}
}

/* why: what the VMM did wrong; NULL = it went by itself */
static void hang_up(struct session *session, const char *why)
{
	if (why)
		session_log(session, "the VMM's connection is ended: %s", why);
	else
		log_device(LOG_INFO, session->config->name, "the VMM has disconnected");
	close_connection(session);
	stop_timer(session);
	drop_next(session);
	session->hung_up = false;
	session->is_message = false;
	session->wait = false;
	session->row = NULL;
	*session->why = '\0';
	session->next = empty_desired(session->desired, false);
	commit(session);
}

static int watch_connection(struct session *session)
{
	int r = wire_begin(session->conn_fd);

	if (r < 0)
		return r;
	/* edge-triggered: a message that is there in part must not keep us awake */
	return sd_event_add_io(session->frontend->proc->event, &session->conn_source, session->conn_fd,
		EPOLLIN | EPOLLRDHUP | EPOLLET, on_conn, session);
}

static void begin_session(struct session *session, int fd, pid_t pid)
{
	char name[64];

	session->conn_fd = fd;
	session->peer_pid = pid;
	session->connect_tries = 0;
	snprintf(name, sizeof(name), "conn.%s", session->config->name);
	(void)fdstore_push(name, fd);
	if (watch_connection(session) < 0) {
		close_connection(session);
		return;
	}
	log_device(LOG_INFO, session->config->name, "a VMM has connected (pid %d)", (int)pid);
	session->is_message = false;
	session->next = empty_desired(session->desired, true);
	commit(session);
}

void session_attach(struct session *session, int fd, pid_t pid)
{
	if (session->conn_fd >= 0) {
		session_log(session,
			"a second VMM (pid %d) was sent away: the device is in use by pid %d; give it a device of its own",
			(int)pid, (int)session->peer_pid);
		fd_close(fd);
		return;
	}
	if (session->phase == PHASE_IDLE && !session->desired->connected) {
		begin_session(session, fd, pid);
		return;
	}
	fd_close(session->pending_fd);
	session->pending_fd = fd;
}

static pid_t peer_of(int fd)
{
	struct ucred cred = { 0 };
	socklen_t n = sizeof(cred);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n);
	return cred.pid;
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t revents, void *data)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		session_attach(data, fd, peer_of(fd));
	return 0;
}

static void try_connect(struct session *session)
{
	int fd = listener_connect(session->config);
	uint64_t usec;

	if (fd >= 0) {
		begin_session(session, fd, peer_of(fd));
		return;
	}
	if (session->connect_tries++ == 0)
		log_device(LOG_INFO, session->config->name, "waiting for a VMM to listen on %s (%s)",
			session->config->socket, strerror(-fd));
	usec = CONNECT_MIN_USEC << MIN(session->connect_tries, 4u);
	set_timer(session, MIN(usec, CONNECT_MAX_USEC));
}

/* Nobody is connected, and the record says so. */
static void expect_vmm(struct session *session)
{
	if (session->pending_fd >= 0) {
		int fd = fd_steal(&session->pending_fd);

		begin_session(session, fd, peer_of(fd));
	} else if (session->config->client) {
		try_connect(session);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct session *session = data;

	switch (session->phase) {
	case PHASE_COMMIT:
		commit(session);
		break;
	case PHASE_WAIT:
		session_refuse(session, "no worker has put it in force within 5 s");
		end_wait(session);
		break;
	case PHASE_IDLE:
		if (session->conn_fd < 0)
			expect_vmm(session);
		break;
	case PHASE_LOADING:
		break;
	}
	return 0;
}

/* --- Life --- */

/* What a former instance had of this VMM. The record decides whether it still counts. */
static void take_over_connection(struct session *session)
{
	char name[64];

	snprintf(name, sizeof(name), "conn.%s", session->config->name);
	session->conn_fd = fdstore_take(name);
	snprintf(name, sizeof(name), "breq.%s", session->config->name);
	session->backend_req_fd = fdstore_take(name);
	if (session->conn_fd >= 0) {
		session->peer_pid = peer_of(session->conn_fd);
		(void)watch_connection(session);
	}
}

int session_open(struct session *session, struct frontend *frontend,
	const struct config_device *config)
{
	sd_event *event = frontend->proc->event;
	int r;

	*session = (struct session){ .frontend = frontend, .config = config, .listen_fd = -1,
		.conn_fd = -1, .pending_fd = -1, .backend_req_fd = -1, .limit = LOG_LIMIT_DEFAULT };
	r = sd_event_add_time_relative(event, &session->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, session);
	if (r < 0)
		return r;
	stop_timer(session);
	take_over_connection(session);
	if (config->client)
		return 0;
	session->listen_fd = listener_open(config);
	if (session->listen_fd < 0)
		return session->listen_fd;
	return sd_event_add_io(event, &session->listen_source, session->listen_fd, EPOLLIN, on_listen,
		session);
}

void session_loaded(struct session *session, Bh__Desired *desired, Bh__Observed *observed)
{
	session->desired = desired;
	session->observed = observed;
	session->phase = PHASE_IDLE;
	settle_positions(session);
	if (session->desired->connected && session->conn_fd < 0) {
		hang_up(session, NULL);
	} else if (!session->desired->connected && session->conn_fd >= 0) {
		session->next = empty_desired(session->desired, true);
		commit(session);
	} else if (!session->desired->connected) {
		expect_vmm(session);
	} else {
		run(session);
	}
}

void session_close(struct session *session)
{
	session->listen_source = sd_event_source_disable_unref(session->listen_source);
	session->conn_source = sd_event_source_disable_unref(session->conn_source);
	session->timer = sd_event_source_disable_unref(session->timer);
	wire_drop(&session->msg);
	drop_next(session);
	fd_close(session->listen_fd);
	fd_close(session->conn_fd);
	fd_close(session->pending_fd);
	fd_close(session->backend_req_fd);
	if (session->desired)
		bh__desired__free_unpacked(session->desired, NULL);
	if (session->observed)
		bh__observed__free_unpacked(session->observed, NULL);
}
