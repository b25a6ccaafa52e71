#include "bus-actor.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "bus/bus.h"
#include "lib/patience.h"

#define HELD_MAX 32
#define PATIENCE_MS                                                                                \
	test_ms(30000) /* nng itself waits 10 s for a peer that connected and says nothing */
#define ROLE_ASKED 1u
#define ROLE_OTHER 2u

struct actor_shared *actor_shared;
char actor_dir[64];
char actor_sock[96];

static pid_t actors[64];

static struct {
	sd_event *event;
	int fd;
	struct bus_client *client;
	struct bus_server *server;
	struct bus_request *held[HELD_MAX];
	size_t n_held;
	atomic_bool jammed;
} self;

/* --- In the actor: answering --- */

static void hold(struct bus_request *request)
{
	if (self.n_held < HELD_MAX)
		self.held[self.n_held++] = request;
}

static void on_gone(void *data, struct bus_request *request)
{
	for (size_t i = 0; i < self.n_held; i++)
		if (self.held[i] == request) {
			self.held[i] = self.held[--self.n_held];
			atomic_fetch_add(&actor_shared->n_gone, 1);
			return;
		}
}

static int on_watch(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	hold(request);
	bus_request_on_gone(request, on_gone, NULL);
	atomic_fetch_add(&actor_shared->n_held, 1);
	return 0;
}

static int on_loose(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	hold(request);
	atomic_fetch_add(&actor_shared->n_loose, 1);
	return 0;
}

/* Each is answered with the type that its row has; which row it is, only its answer tells. */
static void release(void)
{
	while (self.n_held) {
		struct bus_request *request = self.held[--self.n_held];

		bus_request_fail(request, ESTALE, "released");
	}
}

static int on_commit(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	static char padding[BUS_MESSAGE_MAX + 1];
	const Bh__CommitDesired *commit = msg->commit_desired;
	Bh__CommitDesiredReply reply = BH__COMMIT_DESIRED_REPLY__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	atomic_fetch_add(&actor_shared->n_served, 1);
	if (strcmp(commit->device, "fail") == 0)
		return -ENOENT;
	if (strcmp(commit->device, "mute") == 0)
		return 0;
	if (strcmp(commit->device, "release") == 0)
		release();
	if (strcmp(commit->device, "big") == 0) {
		memset(padding, 'x', sizeof(padding) - 1);
		reply.refused = padding;
	}
	reply.generation = commit->desired ? commit->desired->generation + 1 : 0;
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY;
	body.commit_desired_reply = &reply;
	bus_request_reply(request, &body);
	return 0;
}

static int on_status(void *context, struct bus_request *request, const Bh__Envelope *msg)
{
	return -EINVAL;
}

static const struct bus_row table[] = {
	{ BH__ENVELOPE__BODY_COMMIT_DESIRED, BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY, ROLE_ASKED,
		on_commit },
	{ BH__ENVELOPE__BODY_WATCH_DESIRED, BH__ENVELOPE__BODY_WATCH_DESIRED_REPLY, ROLE_ASKED,
		on_watch },
	{ BH__ENVELOPE__BODY_WATCH_OBSERVED, BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY, ROLE_ASKED,
		on_loose },
	{ BH__ENVELOPE__BODY_GET_STATUS, BH__ENVELOPE__BODY_GET_STATUS_REPLY, ROLE_OTHER,
		on_status },
	{ 0 },
};

static struct bus_peer peer = { .name = "asker", .role = ROLE_ASKED, .table = table };

/* --- In the actor: asking --- */

static void send_result(int error, uint64_t number)
{
	struct actor_result result = { .error = error, .number = number };

	if (send(self.fd, &result, sizeof(result), MSG_NOSIGNAL) < 0)
		_exit(EXIT_FAILURE);
}

static void on_reply(void *data, int error, const Bh__Envelope *reply)
{
	uint64_t number = 0;

	if ((error == 0) != (reply != NULL))
		abort();
	if (reply && reply->body_case == BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY)
		number = reply->commit_desired_reply->generation;
	send_result(error, number);
}

static void call(const struct actor_command *command)
{
	Bh__Desired desired = BH__DESIRED__INIT;
	Bh__CommitDesired commit = BH__COMMIT_DESIRED__INIT;
	Bh__WatchDesired watch = BH__WATCH_DESIRED__INIT;
	Bh__WatchObserved loose = BH__WATCH_OBSERVED__INIT;
	Bh__GetStatus status = BH__GET_STATUS__INIT;
	Bh__ReportObserved report = BH__REPORT_OBSERVED__INIT;
	Bh__Envelope bodies[] = {
		[ASK_COMMIT] = { .body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED,
			.commit_desired = &commit },
		[ASK_WATCH] = { .body_case = BH__ENVELOPE__BODY_WATCH_DESIRED,
			.watch_desired = &watch },
		[ASK_LOOSE] = { .body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED,
			.watch_observed = &loose },
		[ASK_STATUS] = { .body_case = BH__ENVELOPE__BODY_GET_STATUS,
			.get_status = &status },
		[ASK_REPORT] = { .body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED,
			.report_observed = &report },
	};
	Bh__Envelope body = BH__ENVELOPE__INIT;
	_cleanup_free_ uint8_t *padding = calloc(1, command->n_bytes + 1);
	int r;

	desired.generation = command->number;
	desired.rarp_mac.data = padding;
	desired.rarp_mac.len = command->n_bytes;
	commit.device = watch.device = report.device = (char *)command->device;
	commit.desired = &desired;
	body.body_case = bodies[command->ask].body_case;
	body.commit_desired = bodies[command->ask].commit_desired; /* a union of pointers */
	r = bus_client_call(self.client, &body, command->timeout_ms ?: (unsigned int)PATIENCE_MS,
		on_reply, NULL);
	if (r < 0)
		send_result(r, 0);
}

/* nng tells of ends from the one thread that takes them down. */
static void on_pipe_of_ours(nng_pipe pipe, nng_pipe_ev ev, void *data)
{
	self.jammed = true;
	for (;;)
		pause();
}

static int jam(void)
{
	nng_socket a, b;
	nng_msg *msg;

	if (nng_pair0_open(&a) != 0 || nng_pair0_open(&b) != 0 ||
		nng_listen(a, "inproc://jam", NULL, 0) != 0 ||
		nng_dial(b, "inproc://jam", NULL, 0) != 0 ||
		nng_pipe_notify(b, NNG_PIPE_EV_REM_POST, on_pipe_of_ours, NULL) != 0 ||
		nng_msg_alloc(&msg, 1) != 0 || nng_sendmsg(a, msg, 0) != 0 ||
		nng_recvmsg(b, &msg, 0) != 0)
		return -EIO;
	if (nng_pipe_close(nng_msg_get_pipe(msg)) != 0)
		return -EIO;
	while (!self.jammed)
		poll(NULL, 0, 1);
	return 0;
}

static bool be_told(const struct actor_command *command)
{
	if (command->ask == ASK_JAM) {
		send_result(jam(), 0);
	} else if (self.server) {
		(command->ask == ASK_PEER_HAS_LEFT ? bus_server_left
						   : bus_server_redial)(self.server);
		send_result(0, 0);
	} else {
		return false;
	}
	return true;
}

static int on_command(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct actor_command command;

	if (recv(fd, &command, sizeof(command), 0) != sizeof(command))
		return sd_event_exit(self.event, 0);
	if (be_told(&command))
		return 0;
	for (uint32_t i = 0; i < (command.repeat ?: 1); i++)
		call(&command);
	return 0;
}

/* --- Life of an actor --- */

enum kind { CLIENT, CTL, SERVER, LISTENING_SERVER };

static int open_end(enum kind kind)
{
	peer.user = geteuid();
	switch (kind) {
	case CLIENT:
		return bus_client_listen(&self.client, self.event, actor_sock, geteuid());
	case CTL:
		return bus_client_dial(&self.client, self.event, actor_sock);
	case SERVER:
		return bus_server_dial(&self.server, self.event, actor_sock, &peer);
	default:
		return bus_server_listen(&self.server, self.event, actor_sock, 0600, &peer);
	}
}

static int act(enum kind kind, int fd)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	self.fd = fd;
	if (sd_event_new(&self.event) < 0 ||
		sd_event_add_io(self.event, NULL, fd, EPOLLIN, on_command, NULL) < 0)
		return EXIT_FAILURE;
	r = open_end(kind);
	send_result(r, 0);
	if (r == 0 && sd_event_loop(self.event) < 0)
		r = -EIO;
	/* read by nobody where the test itself has asked for the end */
	(void)send(fd, &(struct actor_result){ .error = r }, sizeof(struct actor_result),
		MSG_NOSIGNAL);
	bus_client_free(self.client);
	bus_server_free(self.server);
	if (self.jammed) /* what jam() has opened stays open */
		_exit(r == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	sd_event_unref(self.event);
	close(fd);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void remember(pid_t pid)
{
	for (size_t i = 0; i < ARRAY_SIZE(actors); i++)
		if (actors[i] == 0) {
			actors[i] = pid;
			return;
		}
	ck_abort_msg("too many actors");
}

static struct actor start(enum kind kind)
{
	struct actor actor;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	actor.pid = fork();
	ck_assert_int_ge(actor.pid, 0);
	if (actor.pid == 0) {
		close(fds[0]);
		exit(act(kind, fds[1]));
	}
	close(fds[1]);
	actor.fd = fds[0];
	remember(actor.pid);
	ck_assert_int_eq(actor_result(&actor).error, 0);
	return actor;
}

struct actor actor_client(void)
{
	return start(CLIENT);
}

struct actor actor_ctl(void)
{
	return start(CTL);
}

struct actor actor_server(void)
{
	return start(SERVER);
}

struct actor actor_listening_server(void)
{
	return start(LISTENING_SERVER);
}

/* --- In the test --- */

void actor_set_up(void)
{
	snprintf(actor_dir, sizeof(actor_dir), "/tmp/bulkhead-bus-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(actor_dir));
	snprintf(actor_sock, sizeof(actor_sock), "%s/bus.sock", actor_dir);
	actor_shared = mmap(NULL, sizeof(*actor_shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(actor_shared, MAP_FAILED);
}

void actor_tear_down(void)
{
	char inner[sizeof(actor_dir) + 16];

	for (size_t i = 0; i < ARRAY_SIZE(actors); i++)
		if (actors[i]) {
			kill(actors[i], SIGKILL);
			waitpid(actors[i], NULL, 0);
		}
	unlink(actor_sock);
	snprintf(inner, sizeof(inner), "%s/bus.nng", actor_dir);
	unlink(inner);
	ck_assert_int_eq(rmdir(actor_dir), 0);
	munmap(actor_shared, sizeof(*actor_shared));
}

void actor_tell(const struct actor *actor, const struct actor_command *command)
{
	ck_assert_int_eq(send(actor->fd, command, sizeof(*command), MSG_NOSIGNAL),
		sizeof(*command));
}

struct actor_result actor_result(const struct actor *actor)
{
	struct pollfd poller = { .fd = actor->fd, .events = POLLIN };
	struct actor_result result;

	ck_assert_msg(poll(&poller, 1, PATIENCE_MS) == 1, "no result within %d ms", PATIENCE_MS);
	ck_assert_msg(recv(actor->fd, &result, sizeof(result), 0) == sizeof(result),
		"the actor died");
	return result;
}

struct actor_result actor_ask(const struct actor *actor, const struct actor_command *command)
{
	actor_tell(actor, command);
	return actor_result(actor);
}

static void reap(struct actor *actor, int *ret_status)
{
	ck_assert_int_eq(waitpid(actor->pid, ret_status, 0), actor->pid);
	for (size_t i = 0; i < ARRAY_SIZE(actors); i++)
		if (actors[i] == actor->pid)
			actors[i] = 0;
	close(actor->fd);
	actor->fd = -1;
}

void actor_kill(struct actor *actor)
{
	int status;

	ck_assert_int_eq(kill(actor->pid, SIGKILL), 0);
	reap(actor, &status);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		"it died by itself before");
}

void actor_end(struct actor *actor)
{
	int status;

	shutdown(actor->fd, SHUT_RDWR);
	reap(actor, &status);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended with status %#x",
		status);
}

void actor_ended(struct actor *actor)
{
	int status;

	reap(actor, &status);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended with status %#x",
		status);
}

size_t actor_n_fds(const struct actor *actor)
{
	char path[64];
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)actor->pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

void actor_wait_for(const char *what, const atomic_uint *count, unsigned int n)
{
	const struct timespec step = { .tv_nsec = 200000 };

	for (int i = 0; atomic_load(count) < n; i++) {
		ck_assert_msg(i < PATIENCE_MS * 5, "%s is only %u, not %u, after %d ms", what,
			atomic_load(count), n, PATIENCE_MS);
		nanosleep(&step, NULL);
	}
}

struct actor_command actor_commit(const char *device, uint64_t number)
{
	struct actor_command command = { .ask = ASK_COMMIT, .timeout_ms = 30000, .number = number };

	snprintf(command.device, sizeof(command.device), "%s", device);
	return command;
}

void actor_check_commit(const struct actor *client, uint64_t number)
{
	struct actor_command command = actor_commit("net0", number);
	struct actor_result result = actor_ask(client, &command);

	ck_assert_int_eq(result.error, 0);
	ck_assert_uint_eq(result.number, number + 1);
}

int actor_error(const struct actor *client, struct actor_command command)
{
	return actor_ask(client, &command).error;
}

/* What was asked over a connection that ended just then breaks off, and is asked again. */
void actor_hold(const struct actor *client, unsigned int n)
{
	struct actor_command watch = { .ask = ASK_WATCH };
	unsigned int held = atomic_load(&actor_shared->n_held) + n;
	struct pollfd poller = { .fd = client->fd, .events = POLLIN };

	for (unsigned int i = 0; i < n; i++)
		actor_tell(client, &watch);
	for (int i = 0; atomic_load(&actor_shared->n_held) < held; i++) {
		ck_assert_msg(i < PATIENCE_MS, "%u held, not %u",
			atomic_load(&actor_shared->n_held), held);
		if (poll(&poller, 1, 1) == 0)
			continue;
		ck_assert_int_eq(actor_result(client).error, -ECONNRESET);
		actor_tell(client, &watch);
	}
}

bool actor_raw_try(int fd)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", actor_sock);
	ck_assert_int_ge(fd, 0);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
}

int actor_raw_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert(actor_raw_try(fd));
	return fd;
}

void actor_raw_read(int fd, void *buf, size_t n)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	uint8_t *at = buf;

	while (n) {
		ssize_t got;

		ck_assert_int_eq(poll(&poller, 1, PATIENCE_MS), 1);
		got = read(fd, at, n);
		ck_assert_int_gt(got, 0);
		at += got;
		n -= (size_t)got;
	}
}

void actor_raw_hello(int fd, uint8_t protocol)
{
	const uint8_t hello[8] = { 0, 'S', 'P', 0, 0, protocol, 0, 0 };
	uint8_t other[8];

	ck_assert_int_eq(write(fd, hello, sizeof(hello)), sizeof(hello));
	actor_raw_read(fd, other, sizeof(other));
	ck_assert_mem_eq(other, "\0SP\0", 4);
}

int actor_raw_listen(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", actor_sock);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}
