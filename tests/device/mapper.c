#include <check.h>

#include "mapper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/patience.h"
#include "lib/rig.h"
#include "lib/run.h"

#define SIZE 64
#define QUIET_MS 100

/* --- The session --- */

void mapper_start_rings(struct mapper *m)
{
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(net_start_ring(&m->n, i), m->n.why);
		rig_ok(net_enable(&m->n, i, true), m->n.why);
	}
}

void mapper_stop_rings(struct mapper *m)
{
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(net_stop_ring(&m->n, i), m->n.why);
}

void mapper_open(struct mapper *m, uint64_t protocol, bool with_channel)
{
	struct net_profile p = { .ring_size = SIZE, .protocol = protocol };
	struct net *n = &m->n;

	rig_ok(net_init(n, &p), n->why);
	rig_ok(vu_connect(&n->c, suite_socket(&m->suite, "net0")), n->c.why);
	n->c.timeout_ms = MAPPER_WAIT_MS;
	rig_ok(net_negotiate(n), n->why);
	rig_ok(net_make_rings(n), n->why);
	if (with_channel)
		rig_ok(vu_set_backend_channel(&n->c), n->c.why);
	if (protocol & VU_BIT(VU_PF_SHMEM))
		rig_ok(window_open(&m->w, &n->c, SHMEM_REGION), m->w.why);
	rig_ok(net_set_memory(n), n->why);
	m->request = guest_alloc(&n->g, sizeof(struct shmem_request), 8);
	m->answer = guest_alloc(&n->g, sizeof(struct shmem_answer), 8);
	ck_assert(m->request && m->answer);
	mapper_start_rings(m);
}

void mapper_close(struct mapper *m)
{
	mapper_stop_rings(m);
	rig_ok(net_check(&m->n), m->n.why);
	window_close(&m->w);
	net_close(&m->n);
}

/* --- The driver --- */

struct shmem_answer mapper_ask(struct mapper *m, const struct shmem_request *request)
{
	struct ring *ring = &m->n.rings[0];
	const struct ring_seg segs[] = { { m->request, sizeof(*request), false },
		{ m->answer, sizeof(struct shmem_answer), true } };
	struct shmem_answer answer;
	struct ring_used used;

	memcpy(guest_at(&m->n.g, m->request, sizeof(*request)), request, sizeof(*request));
	rig_ok(ring_post(ring, segs, 2, NULL), ring->fault);
	(void)ring_kick(ring);
	rig_ok(ring_poll(ring, MAPPER_WAIT_MS), ring->fault);
	ck_assert_int_eq(ring_reap(ring, &used), 1);
	ck_assert_uint_eq(used.len, sizeof(answer));
	memcpy(&answer, guest_at(&m->n.g, m->answer, sizeof(answer)), sizeof(answer));
	return answer;
}

void mapper_map(struct mapper *m, uint64_t seq, uint64_t offset, uint64_t size, uint32_t flags)
{
	const struct shmem_request request = {
		.op = SHMEM_MAP, .seq = seq, .offset = offset, .size = size, .flags = flags
	};

	/* the VMM may have been faster */
	ck_assert_uint_ne(mapper_ask(m, &request).state, SHMEM_FAILED);
}

void mapper_unmap(struct mapper *m, uint64_t seq)
{
	const struct shmem_request request = { .op = SHMEM_UNMAP, .seq = seq };

	ck_assert_uint_eq(mapper_ask(m, &request).state, SHMEM_NONE);
}

void mapper_forget(struct mapper *m)
{
	const struct shmem_request request = { .op = SHMEM_FORGET };

	(void)mapper_ask(m, &request);
}

void mapper_expect(struct mapper *m, uint64_t seq, enum shmem_state state)
{
	const struct shmem_request request = { .op = SHMEM_ASK, .seq = seq };
	struct shmem_answer answer = mapper_ask(m, &request);

	for (int i = 0; answer.state == SHMEM_PENDING && i < test_ms(MAPPER_WAIT_MS); i++) {
		poll(NULL, 0, 1);
		answer = mapper_ask(m, &request);
	}
	ck_assert_msg(answer.state == (uint32_t)state, "map %llu: state %u, and %u is due",
		(unsigned long long)seq, answer.state, state);
}

/* --- The VMM --- */

void mapper_serve(struct mapper *m, unsigned int n)
{
	while (n--) {
		int r = window_serve(&m->w, &m->n.c);

		ck_assert_msg(!r, "%u requests are still due: %d %s", n + 1, r, m->w.why);
	}
}

struct vu_msg mapper_take(struct mapper *m)
{
	struct vu_msg msg;

	rig_ok(vu_backend_recv(&m->n.c, &msg), m->n.c.why);
	return msg;
}

void mapper_answer(struct mapper *m, struct vu_msg *msg)
{
	int value = window_do(&m->w, msg);

	vu_msg_deinit(msg);
	ck_assert_msg(value >= 0, "%s", m->w.why);
	rig_ok(vu_backend_answer(&m->n.c, msg->head.request, (uint64_t)value), m->n.c.why);
}

void mapper_expect_silence(struct mapper *m)
{
	struct pollfd p = { .fd = m->n.c.back_fd, .events = POLLIN };

	ck_assert_int_eq(poll(&p, 1, QUIET_MS), 0);
}

/* --- The VMM in a thread --- */

static void serve_one(struct mapper *m)
{
	struct vu_msg msg = { .n_fds = 0 };
	int value = 0;

	rig_ok(vu_backend_recv(&m->n.c, &msg), m->n.c.why);
	pthread_mutex_lock(&m->lock);
	value = window_do(&m->w, &msg);
	pthread_mutex_unlock(&m->lock);
	vu_msg_deinit(&msg);
	if (value >= 0)
		(void)vu_backend_answer(&m->n.c, msg.head.request, (uint64_t)value);
}

static void *vmm_main(void *data)
{
	struct mapper *m = data;
	struct pollfd p = { .fd = m->n.c.back_fd, .events = POLLIN };

	while (!atomic_load(&m->quit))
		if (poll(&p, 1, 10) > 0)
			serve_one(m);
	return NULL;
}

void mapper_begin_vmm(struct mapper *m)
{
	atomic_store(&m->quit, false);
	pthread_mutex_init(&m->lock, NULL);
	ck_assert_int_eq(pthread_create(&m->vmm, NULL, vmm_main, m), 0);
}

void mapper_end_vmm(struct mapper *m)
{
	atomic_store(&m->quit, true);
	pthread_join(m->vmm, NULL);
	pthread_mutex_destroy(&m->lock);
}

void mapper_await_maps(struct mapper *m, size_t n)
{
	size_t has = n + 1;

	for (int ms = 0; has != n && ms < test_ms(MAPPER_WAIT_MS); ms++) {
		pthread_mutex_lock(&m->lock);
		has = m->w.n_maps;
		pthread_mutex_unlock(&m->lock);
		if (has != n)
			poll(NULL, 0, 1);
	}
	ck_assert_msg(has == n, "the VMM has %zu mappings, and %zu are due", has, n);
}

void mapper_check_there(struct mapper *m, uint64_t seq, uint64_t offset, uint64_t size)
{
	uint64_t *words = window_at(&m->w, offset, size);

	ck_assert_ptr_nonnull(words);
	ck_assert_uint_eq(words[0], seq);
	words[size / sizeof(*words) - 1] = ~seq;
	ck_assert_uint_eq(words[size / sizeof(*words) - 1], ~seq);
}

/* --- The program --- */

static int run(struct mapper *m, const char *name, void (*add)(Suite *suite))
{
	struct suite_device net0 = { .name = "net0", .backend = "echo" };
	int r = suite_start(&m->suite, &net0, 1) ?: suite_wait_ready(&m->suite);

	if (!r)
		r = run_main(name, add);
	r = suite_stop(&m->suite) ?: r;
	if (r)
		fprintf(stderr, "%s: %s\n", name, m->suite.why);
	return r != 0;
}

int mapper_main(struct mapper *m, const char *name, void (*add)(Suite *suite))
{
	char dir[] = "/tmp/bh-shmem-XXXXXX";
	const char *build = getenv("BULKHEAD_BUILD");
	int r;

	if (!build || getenv("BULKHEAD_TEST_PEER")) {
		printf("1..0 # SKIP it needs this product\n");
		return 0;
	}
	if (instead_open(dir, build, "tests/device/bulkhead-shmem") < 0)
		return 1;
	r = run(m, name, add);
	instead_close(dir);
	return r;
}
