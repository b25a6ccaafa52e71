#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/roles.h"
#include "lib/patience.h"
#include "world.h"

#define LOG "/tests/data/messages/qemu72-tp-tap22.log"
#define WAIT_MS 10000
#define INFLIGHT_RING 256

int world_fail(struct world *w, int e, const char *what)
{
	const struct net *n = &w->vm.n;

	if (e && !w->why[0])
		snprintf(w->why, sizeof(w->why), "%.60s: %.40s; %.90s %.90s", what,
			e > 0 ? "refused" : strerror(-e), n->why[0] ? n->why : "", n->c.why);
	return e > 0 ? -EPROTO : e;
}

/* --- the product --- */

const char *world_role(const struct world *w, size_t i)
{
	size_t n = 0;

	for (size_t k = 0; k < N_ROLES; k++) {
		if (roles[k].per_device && &roles[k] != role_find(suite_type(&w->device)))
			continue;
		if (n++ == i)
			return roles[k].name;
	}
	return NULL;
}

static bool belongs(const struct world *w, const char *role, const char *wanted)
{
	const char *own;

	for (size_t i = 0; (own = world_role(w, i)); i++)
		if (!strcmp(role, own))
			return !strcmp(wanted, "all") || !strcmp(role, wanted);
	return false;
}

size_t world_pids(const struct world *w, const char *role, pid_t *ret_pids, size_t max)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n_all = suite_processes(&w->suite, all, SUITE_MAX_PROCESSES);
	size_t n = 0;

	for (size_t i = 0; i < n_all && n < max; i++)
		if (belongs(w, all[i].role, role))
			ret_pids[n++] = all[i].pid;
	return n;
}

int world_wait(struct world *w)
{
	pid_t pids[SUITE_MAX_PROCESSES];

	for (int ms = 0; ms < test_ms(WAIT_MS); ms++) {
		size_t i = 0;

		while (world_role(w, i) &&
			world_pids(w, world_role(w, i), pids, SUITE_MAX_PROCESSES) == 1)
			i++;
		if (!world_role(w, i))
			return 0;
		poll(NULL, 0, 1);
	}
	return world_fail(w, -ETIMEDOUT, "a process was not started again");
}

static int start(struct world *w)
{
	int e = suite_start(&w->suite, &w->device, 1);

	if (e) {
		snprintf(w->why, sizeof(w->why), "%.290s", w->suite.why);
		return e;
	}
	w->kind = VMM_NONE;
	if (suite_wait_ready(&w->suite))
		return world_fail(w, -ETIMEDOUT, w->suite.why);
	return world_wait(w);
}

int world_open(struct world *w, const struct suite_device *device)
{
	static const struct suite_device echo = { .backend = "echo" };
	char path[512];
	int n;

	memset(w, 0, sizeof(*w));
	w->device = device ? *device : echo;
	w->device.name = "net0";
	snprintf(path, sizeof(path), "%s" LOG, getenv("BULKHEAD_SOURCE"));
	n = log_read(path, w->events, LOG_MAX_EVENTS);
	if (n < 0)
		return world_fail(w, n, path);
	w->n_events = (size_t)n;
	return start(w);
}

int world_close(struct world *w)
{
	world_hang_up(w);
	return suite_stop(&w->suite) ? world_fail(w, -ECHILD, w->suite.why) : 0;
}

int world_renew(struct world *w)
{
	world_hang_up(w);
	w->features = 0;
	kill(w->suite.pid, SIGKILL);
	waitpid(w->suite.pid, NULL, 0);
	return start(w);
}

/* --- the VMM --- */

void world_hang_up(struct world *w)
{
	if (w->kind != VMM_NONE)
		replay_close(&w->vm);
	w->kind = VMM_NONE;
}

static int same_offer(struct world *w, uint64_t features)
{
	if (!w->features)
		w->features = features;
	if (features == w->features)
		return 0;
	return world_fail(w, -EBADMSG, "other features than before");
}

/* how many messages there are to hear, and what they say, is learnt in the first session of all,
 * in which nobody dies: that one is judged by the protocol alone */
static int same_replies(struct world *w)
{
	const struct vu_client *c = &w->vm.n.c;

	if (!w->n_heard) {
		w->n_heard = c->n_heard;
		w->heard = c->heard;
	}
	if (c->n_heard == w->n_heard && c->heard == w->heard)
		return 0;
	return world_fail(w, -EBADMSG, "other replies than in an undisturbed handshake");
}

int world_handshake(struct world *w)
{
	struct replay *r = &w->vm;
	int e = replay_open(r, suite_socket(&w->suite, "net0"));

	w->kind = VMM_LOGGED;
	r->n.c.timeout_ms = test_ms(WAIT_MS);
	for (size_t i = 0; !e && !replay_ends(&w->events[i]); i++)
		e = replay_event(r, &w->events[i]);
	if (e)
		return world_fail(w, e, r->why);
	e = same_replies(w);
	for (uint16_t i = 0; !e && i < r->n.n_rings; i++)
		e = world_fail(w, net_make_bufs(&r->n, i), "buffers");
	if (!e)
		e = world_fail(w, net_fill(&r->n, 0), "receive ring");
	return e ? e : same_offer(w, r->n.c.features);
}

static void begin_driver(struct world *w, enum vmm kind)
{
	memset(&w->vm, 0, sizeof(w->vm));
	for (size_t i = 0; i < 2 * NET_MAX_PAIRS; i++)
		w->vm.rings[i].call_fd = -1;
	w->kind = kind;
}

static int open_driver(struct world *w, bool packed)
{
	struct net_profile p = { .features = VU_BIT(VU_F_EVENT_IDX) |
			(packed ? VU_BIT(VU_F_PACKED) : 0),
		.protocol = VU_BIT(VU_PF_MEM_SLOTS) | VU_BIT(VU_PF_LOG_SHMFD) |
			VU_BIT(VU_PF_DEVICE_STATE) };
	struct net *n = &w->vm.n;
	int e;

	begin_driver(w, packed ? VMM_PACKED : VMM_SPLIT);
	e = net_open(n, suite_socket(&w->suite, "net0"), &p);
	n->c.timeout_ms = test_ms(WAIT_MS);
	return e ? world_fail(w, e, "opening a session") : same_offer(w, n->c.features);
}

/* one region asked for: one reply, with one descriptor, of a file that holds it and cannot
 * shrink */
static int get_region(struct world *w, struct vu_inflight *area, int *ret_fd)
{
	struct stat st;
	int e = vu_get_inflight(&w->vm.n.c, area, ret_fd);

	if (e)
		return world_fail(w, e, "GET_INFLIGHT_FD");
	if (area->n_queues != 2 || area->queue_size != INFLIGHT_RING || fstat(*ret_fd, &st) < 0 ||
		(uint64_t)st.st_size < area->mmap_offset + area->mmap_size ||
		!(fcntl(*ret_fd, F_GET_SEALS) & F_SEAL_SHRINK))
		return world_fail(w, -EBADMSG, "the region of GET_INFLIGHT_FD");
	return 0;
}

static int start_driver(struct world *w)
{
	struct net *n = &w->vm.n;
	int e = 0;

	for (uint16_t i = 0; !e && i < 2; i++)
		e = net_start_ring(n, i);
	for (uint16_t i = 0; !e && i < 2; i++)
		e = net_enable(n, i, true);
	if (!e)
		e = net_fill(n, 0);
	return world_fail(w, e, "starting the rings");
}

int world_inflight(struct world *w)
{
	struct net_profile p = { .protocol =
					 VU_BIT(VU_PF_MEM_SLOTS) | VU_BIT(VU_PF_INFLIGHT_SHMFD) };
	struct vu_inflight area = { .n_queues = 2, .queue_size = INFLIGHT_RING };
	struct net *n = &w->vm.n;
	int fds[3] = { -1, -1, -1 };
	int e;

	begin_driver(w, VMM_SPLIT);
	e = net_init(n, &p);
	n->c.timeout_ms = test_ms(WAIT_MS);
	if (!e)
		e = vu_connect(&n->c, suite_socket(&w->suite, "net0"));
	if (!e)
		e = net_negotiate(n);
	if (!e)
		e = net_make_rings(n);
	if (!e)
		e = net_set_memory(n);
	e = world_fail(w, e, "opening a session");
	for (int i = 0; !e && i < 3; i++)
		e = get_region(w, &area, &fds[i]);
	if (!e)
		e = world_fail(w, vu_set_inflight(&n->c, &area, fds[2]), "SET_INFLIGHT_FD");
	if (!e)
		e = start_driver(w);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return e;
}

int world_join(struct world *w, enum vmm kind)
{
	world_hang_up(w);
	if (kind == VMM_NONE)
		return 0;
	return kind == VMM_LOGGED ? world_handshake(w) : open_driver(w, kind == VMM_PACKED);
}

int world_connect(struct world *w, enum vmm kind)
{
	int e = world_wait(w);

	if (e || w->kind == kind)
		return e;
	e = world_join(w, kind);
	return e || kind == VMM_NONE ? e : world_check(w);
}

int world_move(struct world *w, uint32_t n_frames)
{
	return world_fail(w, traffic_run(&w->traffic, &w->vm.n, n_frames, WORLD_FRAME_BYTES),
		"frames");
}

/* --- the question --- */

/* An acknowledged change goes through every process. */
int world_change(struct world *w)
{
	struct vu_client *c = &w->vm.n.c;
	struct vu_header head = { VU_SET_VRING_ENABLE, VU_VERSION | VU_NEED_REPLY,
		sizeof(struct vu_state) };
	struct vu_state state = { .index = 0, .num = 1 };
	int e = vu_send(c, &head, &state, NULL, 0);

	if (!e)
		e = vu_recv_ack(c, VU_SET_VRING_ENABLE);
	return world_fail(w, e, "an acknowledged change");
}

static int nothing_more(struct world *w)
{
	struct pollfd p = { .fd = w->vm.n.c.fd, .events = POLLIN | POLLRDHUP };

	if (poll(&p, 1, 0) == 0)
		return 0;
	return world_fail(w, -EPROTO,
		p.revents & POLLRDHUP ? "the connection is closed" : "a reply too many");
}

int world_check(struct world *w)
{
	uint64_t lost;
	int e = world_move(w, 4);

	if (!e)
		e = world_change(w);
	if (!e)
		e = world_fail(w, vu_get_features(&w->vm.n.c), "GET_FEATURES");
	if (!e)
		e = same_offer(w, w->vm.n.c.features);
	lost = w->traffic.n_lost + w->traffic.n_repeated;
	if (!e)
		e = world_move(w, 4);
	if (!e && lost != w->traffic.n_lost + w->traffic.n_repeated)
		e = world_fail(w, -EBADMSG, "frames lost or repeated though nobody died");
	return e ? e : nothing_more(w);
}
