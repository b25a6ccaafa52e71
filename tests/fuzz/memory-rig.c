/* In the place of the bus's server, all of whose functions are here: memory is what is tested. */
#include "memory-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "bus/message.h"

/** struct bus_request - a question; it ends when it is answered */
struct bus_request {
	LIST_ENTRY(bus_request) link;
	const struct peer *peer;
	unsigned int role;
	const struct bus_row *row;
	void (*on_gone)(void *data, struct bus_request *request);
	void *on_gone_data;
	bool answered; /* or nobody waits for it any more */
};

static LIST_HEAD(requests, bus_request) requests = LIST_HEAD_INITIALIZER(requests);

static struct config_device configs[RIG_DEVICES] = {
	{ .name = (char *)"net0", .type = (char *)"net", .socket = (char *)"/a", .standby = true },
	{ .name = (char *)"witness", .type = (char *)"net", .socket = (char *)"/b" },
};
static struct served devices[RIG_DEVICES];
static struct blame_mark marks[RIG_DEVICES];
static struct peer peers[_RIG_PEERS];
static const struct role ctl_role = { .name = "ctl", .asks = ROLE_CTL };
static struct peer ctl = { .memory = &rig_memory,
	.name = (char *)"ctl",
	.role = &ctl_role,
	.link_fd = -1,
	.bell_fd = -1 };
static Bh__Envelope *answers[_RIG_ASKERS];
static Bh__Seen seen[RIG_DEVICES];
static const struct proc_role memory_role = { .name = "memory" };
static struct proc proc;
static uint64_t tokens[RIG_DEVICES * RIG_TOKENS];

struct memory rig_memory;

/* --- Life --- */

static void open_device(size_t i)
{
	devices[i] = (struct served){ .config = &configs[i], .mark = &marks[i] };
	check(served_open(&devices[i]) == 0);
}

void rig_open(const char *runtime_dir)
{
	static const char *const names[] = { "frontend", "net0", "net0+standby", "witness",
		"snapshot" };
	static const char *const roles_of[] = { "frontend", "net", "net", "net", "snapshot" };

	unsetenv("NOTIFY_SOCKET");
	proc = (struct proc){ .role = &memory_role,
		.guest = "vm1",
		.runtime_dir = runtime_dir,
		.runtime_base = runtime_dir };
	check(sd_event_new(&proc.event) >= 0);
	memset(marks, 0, sizeof(marks));
	memset(seen, 0, sizeof(seen));
	memset(tokens, 0, sizeof(tokens));
	rig_memory = (struct memory){ .proc = &proc,
		.devices = devices,
		.n_devices = RIG_DEVICES,
		.peers = peers,
		.n_peers = _RIG_PEERS,
		.seen = seen };
	for (size_t i = 0; i < RIG_DEVICES; i++)
		open_device(i);
	for (size_t i = 0; i < _RIG_PEERS; i++)
		peers[i] = (struct peer){ .memory = &rig_memory,
			.name = (char *)names[i],
			.user = geteuid(),
			.role = role_find(roles_of[i]),
			.listen_fd = -1,
			.link_fd = -1,
			.bell_fd = -1,
			.device = role_find(roles_of[i])->per_device ? &devices[i == RIG_WITNESS]
								     : NULL };
	check(watch_open(&rig_memory) >= 0 && held_open(&rig_memory) >= 0 &&
		transfers_open(&rig_memory) >= 0);
}

/* What a record names stays in the store for a successor; here there is none. */
static void close_device(struct served *device)
{
	Bh__Desired empty = BH__DESIRED__INIT;

	vault_committed(device->vault, &empty);
	vault_abandoned(device->vault);
	served_close(device);
}

static void free_requests(bool all)
{
	struct bus_request *request = LIST_FIRST(&requests), *next;

	for (; request; request = next) {
		next = LIST_NEXT(request, link);
		if (!all && !request->answered)
			continue;
		LIST_REMOVE(request, link);
		free(request);
	}
}

void rig_close(void)
{
	free_requests(true);
	sd_event_source_disable_unref(rig_memory.renewal);
	sd_event_source_disable_unref(rig_memory.hearing);
	sd_event_source_disable_unref(rig_memory.holding);
	transfers_close(&rig_memory);
	for (size_t i = 0; i < _RIG_ASKERS; i++) {
		if (answers[i])
			bh__envelope__free_unpacked(answers[i], NULL);
		answers[i] = NULL;
	}
	for (size_t i = 0; i < RIG_DEVICES; i++)
		close_device(&devices[i]);
	proc.event = sd_event_unref(proc.event);
}

void rig_turn(void)
{
	for (int i = 0; i < 64 && sd_event_run(proc.event, 0) > 0; i++)
		;
}

static int new_file(size_t i)
{
	int fd;

	if (i == 2)
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = memfd_create("rig", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	check(fd >= 0 && ftruncate(fd, i == 0 ? 1 << 20 : 1 << 16) == 0);
	return fd;
}

void rig_deposit(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
		check(vault_put(devices[i / RIG_TOKENS].vault, RECORD_DESIRED,
			      new_file(i % RIG_TOKENS), &tokens[i]) == 0);
}

uint64_t rig_token(uint64_t token)
{
	return token >= 1 && token <= ARRAY_SIZE(tokens) ? tokens[token - 1] : token;
}

uint64_t rig_transfer(uint64_t id)
{
	return id >= 1 && id <= RIG_DEVICES ? devices[id - 1].transfer.id : id;
}

uint64_t rig_start(enum rig_peer peer, size_t device, bool load)
{
	Bh__StartTransfer start = BH__START_TRANSFER__INIT;
	char text[256] = "";
	uint64_t id;
	int ends[2];

	check(pipe2(ends, O_CLOEXEC) == 0);
	start.device = devices[device].config->name;
	start.load = load;
	start.session = peer == RIG_CTL ? 0 : devices[device].desired->session;
	close(ends[load]);
	id = transfers_start(peer == RIG_CTL ? &ctl : &peers[peer], &start, ends[!load], text,
		sizeof(text));
	check(!id == !!*text);
	return id;
}

/* --- The bus --- */

static void keep_answer(const struct peer *peer, Bh__Envelope *answer)
{
	size_t i = peer == &ctl ? RIG_CTL : (size_t)(peer - peers);

	if (answers[i])
		bh__envelope__free_unpacked(answers[i], NULL);
	answers[i] = answer;
}

const Bh__Envelope *rig_answer(enum rig_peer peer)
{
	return answers[peer];
}

static void end(struct bus_request *request)
{
	check(!request->answered);
	request->answered = true;
}

void bus_request_reply(struct bus_request *request, const Bh__Envelope *body)
{
	size_t n = bh__envelope__get_packed_size(body);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);
	Bh__Envelope *copy;
	nng_msg *msg;

	check(body->body_case == BH__ENVELOPE__BODY_FAILURE ||
		body->body_case == request->row->reply);
	if (bus_pack(body, &msg) == 0) {
		nng_msg_free(msg);
		check(buf && bh__envelope__pack(body, buf) == n);
		copy = bh__envelope__unpack(NULL, n, buf);
		check(copy && copy->body_case == body->body_case);
		keep_answer(request->peer, copy);
	} else {
		keep_answer(request->peer, NULL);
	}
	end(request);
}

void bus_request_fail(struct bus_request *request, int error, const char *text)
{
	check(error > 0 && text);
	keep_answer(request->peer, NULL);
	end(request);
}

void bus_request_on_gone(struct bus_request *request,
	void (*fn)(void *data, struct bus_request *request), void *data)
{
	check(!request->answered && fn);
	request->on_gone = fn;
	request->on_gone_data = data;
}

const char *bus_request_peer(const struct bus_request *request)
{
	return request->peer->name;
}

int bus_server_dial(struct bus_server **ret_server, sd_event *event, const char *path,
	const struct bus_peer *peer)
{
	return -EOPNOTSUPP;
}

int bus_server_listen(struct bus_server **ret_server, sd_event *event, const char *path,
	unsigned int mode, const struct bus_peer *peer)
{
	return -EOPNOTSUPP;
}

void bus_server_redial(struct bus_server *server)
{
}

void bus_server_hang_up(struct bus_server *server)
{
}

void bus_server_left(struct bus_server *server)
{
}

struct bus_server *bus_server_free(struct bus_server *server)
{
	return NULL;
}

/* --- Questions --- */

static void name_tokens(Bh__Desired *desired)
{
	for (size_t i = 0; desired && i < desired->n_regions; i++)
		desired->regions[i]->token = rig_token(desired->regions[i]->token);
	for (size_t i = 0; desired && i < desired->n_rings; i++) {
		desired->rings[i]->kick_token = rig_token(desired->rings[i]->kick_token);
		desired->rings[i]->call_token = rig_token(desired->rings[i]->call_token);
		desired->rings[i]->err_token = rig_token(desired->rings[i]->err_token);
	}
	if (desired && desired->inflight)
		desired->inflight->token = rig_token(desired->inflight->token);
}

static bool is_held(const struct bus_request *request)
{
	for (size_t i = 0; i < _RIG_PEERS; i++)
		if (peers[i].watch == request)
			return true;
	for (size_t i = 0; i < CTL_MAX; i++)
		if (rig_memory.ctl_watches[i].request == request)
			return true;
	for (size_t i = 0; i < RIG_DEVICES; i++)
		if (devices[i].commit == request)
			return true;
	return rig_memory.watch == request;
}

static void put(struct bus_request *request, const Bh__Envelope *msg)
{
	int r = request->row->handle(&rig_memory, request, msg);

	if (r < 0)
		bus_request_fail(request, -r, strerror(-r));
	check(request->answered != is_held(request));
}

static void dispatch(const struct peer *peer, const Bh__Envelope *msg)
{
	const struct bus_row *row = memory_table;
	struct bus_request *request;

	while (row->request && row->request != msg->body_case)
		row++;
	if (!row->request || !(row->roles & peer->role->asks))
		return;
	request = calloc(1, sizeof(*request));
	check(request);
	*request = (struct bus_request){ .peer = peer, .role = peer->role->asks, .row = row };
	LIST_INSERT_HEAD(&requests, request, link);
	put(request, msg);
	free_requests(false);
}

void rig_leave(enum rig_peer peer)
{
	struct bus_request *request;

	LIST_FOREACH(request, &requests, link)
	{
		if (request->peer != (peer == RIG_CTL ? &ctl : &peers[peer]) || request->answered ||
			!request->on_gone)
			continue;
		request->on_gone(request->on_gone_data, request);
		check(!is_held(request));
		request->answered = true;
	}
	free_requests(false);
}

/** struct halves - what was there before a question */
struct halves {
	uint64_t desired, observed;
};

static void check_halves(const struct served *device, const struct peer *asker,
	const struct halves *before)
{
	char text[256];

	check(judge_desired(device->desired, device->desired->generation, text, sizeof(text)) == 0);
	check(judge_observed(device->observed, device->desired->generation, text, sizeof(text)) ==
		0);
	check(device->desired->generation >= before->desired &&
		device->observed->generation >= before->observed);
	if (device->desired->generation != before->desired)
		check(asker->role->asks == ROLE_FRONTEND);
	if (device->observed->generation != before->observed)
		check(asker->role->asks == ROLE_CTL || asker->device == device);
}

void rig_ask(enum rig_peer peer, const uint8_t *bytes, size_t n)
{
	const struct peer *asker = peer == RIG_CTL ? &ctl : &peers[peer];
	struct halves before[RIG_DEVICES];
	Bh__Envelope *envelope;
	nng_msg *msg;

	check(nng_msg_alloc(&msg, 0) == 0 && nng_msg_append(msg, bytes, n) == 0);
	envelope = bus_unpack(msg);
	nng_msg_free(msg);
	if (!envelope)
		return;
	for (size_t i = 0; i < RIG_DEVICES; i++)
		before[i] = (struct halves){ devices[i].desired->generation,
			devices[i].observed->generation };
	if (envelope->body_case == BH__ENVELOPE__BODY_COMMIT_DESIRED)
		name_tokens(envelope->commit_desired->desired);
	if (envelope->body_case == BH__ENVELOPE__BODY_REPORT_TRANSFER)
		envelope->report_transfer->id = rig_transfer(envelope->report_transfer->id);
	dispatch(asker, envelope);
	bh__envelope__free_unpacked(envelope, NULL);
	for (size_t i = 0; i < RIG_DEVICES; i++)
		check_halves(&devices[i], asker, &before[i]);
}
