/*
 * A VMM that goes away in the middle of its set-up, at every message and at several places of each:
 * nothing of it is left, no descriptor and no mapping, and the next one is served.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define STEPS_MAX 40
#define BODY_MAX 128
#define SETTLE_MS test_ms(10000)

struct step {
	uint32_t request;
	uint32_t size;
	uint8_t body[BODY_MAX];
	int fd; /* borrowed; -1: none */
};

enum {
	CUT_BETWEEN, /* after whole messages */
	CUT_HEADER,  /* 7 bytes of the next one's header, and its descriptor */
	CUT_PAYLOAD, /* its header and descriptor, and half of its payload */
	CUT_UNREAD,  /* all of it, and the answers are left unread */
	N_CUTS,
};

static struct net n;
static struct step steps[STEPS_MAX];
static size_t n_steps;
static int channel[2];

static void add_step(uint32_t request, const void *body, uint32_t size, int fd)
{
	struct step *s = &steps[n_steps++];

	ck_assert_uint_le(n_steps, STEPS_MAX);
	*s = (struct step){ .request = request, .size = size, .fd = fd };
	if (size)
		memcpy(s->body, body, size);
}

static void add_u64(uint32_t request, uint64_t value, int fd)
{
	add_step(request, &value, sizeof(value), fd);
}

static void add_state(uint32_t request, uint32_t index, uint32_t num)
{
	struct vu_state state = { index, num };

	add_step(request, &state, sizeof(state), -1);
}

static void add_memory(void)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	uint8_t body[8 + sizeof(regions[0])] = { 1 };
	int fds[GUEST_MAX_REGIONS];

	ck_assert_uint_eq(guest_table(&n.g, regions, fds), 1);
	memcpy(body + 8, &regions[0], sizeof(regions[0]));
	add_step(VU_SET_MEM_TABLE, body, sizeof(body), fds[0]);
}

static void add_ring(uint32_t i)
{
	struct vu_addr addr;

	ring_addr(&n.rings[i], &addr);
	add_state(VU_SET_VRING_NUM, i, n.rings[i].cfg.size);
	add_state(VU_SET_VRING_BASE, i, 0);
	add_step(VU_SET_VRING_ADDR, &addr, sizeof(addr), -1);
	add_u64(VU_SET_VRING_ERR, i, n.rings[i].err_fd);
	add_u64(VU_SET_VRING_CALL, i, n.rings[i].call_fd);
	add_u64(VU_SET_VRING_KICK, i, n.rings[i].kick_fd);
	add_state(VU_SET_VRING_ENABLE, i, 1);
}

static void make_steps(void)
{
	uint64_t pf = VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_REPLY_ACK) | VU_BIT(VU_PF_BACKEND_REQ) |
		VU_BIT(VU_PF_CONFIG);
	struct net_profile p = { 0 };

	rig_ok(net_init(&n, &p), n.why);
	rig_ok(net_make_rings(&n), n.why);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
	add_step(VU_GET_FEATURES, NULL, 0, -1);
	add_step(VU_GET_PROTOCOL_FEATURES, NULL, 0, -1);
	add_u64(VU_SET_PROTOCOL_FEATURES, pf, -1);
	add_step(VU_GET_QUEUE_NUM, NULL, 0, -1);
	add_step(VU_SET_BACKEND_REQ_FD, NULL, 0, channel[1]);
	add_step(VU_SET_OWNER, NULL, 0, -1);
	add_u64(VU_SET_FEATURES, VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES), -1);
	add_memory();
	add_ring(0);
	add_ring(1);
	add_state(VU_GET_VRING_BASE, 0, 0);
	add_state(VU_GET_VRING_BASE, 1, 0);
}

static void send_part(struct vu_client *c, const struct step *s, bool need_reply, uint32_t n_bytes)
{
	struct vu_header head = { s->request, VU_VERSION | (need_reply ? VU_NEED_REPLY : 0),
		s->size };
	uint8_t bytes[sizeof(head) + BODY_MAX];

	memcpy(bytes, &head, sizeof(head));
	memcpy(bytes + sizeof(head), s->body, s->size);
	rig_ok(vu_send_raw(c, bytes, n_bytes, &s->fd, s->fd >= 0 ? 1 : 0), c->why);
}

static void send_whole(struct vu_client *c, const struct step *s, bool need_reply)
{
	send_part(c, s, need_reply, (uint32_t)sizeof(struct vu_header) + s->size);
}

static void abort_at(size_t at, int cut)
{
	struct vu_client c = VU_CLIENT_NULL;

	c.timeout_ms = 20000;
	rig_ok(vu_connect(&c, rig_socket()), c.why);
	for (size_t i = 0; i < at; i++)
		send_whole(&c, &steps[i], cut == CUT_UNREAD);
	if (cut == CUT_HEADER)
		send_part(&c, &steps[at], false, 7);
	else if (cut == CUT_PAYLOAD)
		send_part(&c, &steps[at], false,
			(uint32_t)sizeof(struct vu_header) + steps[at].size / 2);
	else if (cut == CUT_UNREAD)
		send_whole(&c, &steps[at], true);
	vu_close(&c);
}

/* mappings of guests' memory in the product's processes */
static unsigned int n_mappings(void)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n_all = suite_processes(&rig, all, SUITE_MAX_PROCESSES);
	unsigned int count = 0;

	for (size_t i = 0; i < n_all; i++) {
		char path[64], line[512];
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/maps", all[i].pid);
		f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			count += strstr(line, "memfd:guest ") != NULL;
		if (f)
			fclose(f);
	}
	return count;
}

/* covers: M4 M27 */
START_TEST(test_vmm_that_goes_away_leaves_nothing)
{
	unsigned int before = n_mappings(), after;
	int ms = 0;

	make_steps();
	for (size_t at = 0; at < n_steps; at++)
		abort_at(at, _i);
	rig_check_net0();
	while ((after = n_mappings()) > before && ms < SETTLE_MS) {
		poll(NULL, 0, 5);
		ms += 5;
	}
	ck_assert_msg(after <= before, "%u mappings of guest memory, %u before", after, before);
	close(channel[0]);
	close(channel[1]);
	net_close(&n);
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "abort");

	tcase_add_loop_test(tc, test_vmm_that_goes_away_leaves_nothing, 0, N_CUTS);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("abort", &net0, add);
}
