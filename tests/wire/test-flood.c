/*
 * A VMM that does the same wrong thing over and over: the log says so in a few lines, whoever of
 * the suite writes them.
 */
#include <stdio.h>
#include <string.h>

#include "rig.h"

#define TIMES 600
#define LINES_MAX 100

static unsigned int log_lines(void)
{
	unsigned int n = 0;
	char path[128];
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "%s/log", rig.dir);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while ((c = fgetc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* Its index says that there are more chains than it has room for: the worker gives it up each time
 * it starts. That it has started is acknowledged: a ring that is stopped with the next message need
 * never have run. */
static void start_broken_ring(struct net *n)
{
	uint32_t base;

	n->rings[1].avail[1] = 0x5000;
	for (int i = 0; i < TIMES; i++) {
		rig_ok(vu_set_vring_fd(&n->c, VU_SET_VRING_KICK, 1, n->rings[1].kick_fd), n->c.why);
		rig_ok(vu_get_vring_base(&n->c, 1, &base), n->c.why);
	}
}

START_TEST(test_broken_ring_that_starts_again_and_again)
{
	unsigned int n_before = log_lines();
	struct net_profile p = { 0 };
	static struct net n;

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	start_broken_ring(&n);
	ck_assert(suite_logged(&rig, "ring 1 stopped"));
	ck_assert_uint_lt(log_lines() - n_before, LINES_MAX);
	net_close(&n);
}
END_TEST

START_TEST(test_messages_that_are_refused)
{
	unsigned int n_before = log_lines();
	struct vu_client c;

	rig_hello(&c, 0);
	c.ack = true;
	for (int i = 0; i < TIMES; i++) {
		ck_assert_int_eq(vu_set_state(&c, VU_SET_VRING_NUM, 77, 1), VU_E_REFUSED);
		ck_assert_int_eq(vu_set_u64(&c, VU_SET_FEATURES, UINT64_MAX), VU_E_REFUSED);
	}
	vu_close(&c);
	ck_assert_uint_lt(log_lines() - n_before, LINES_MAX);
}
END_TEST

START_TEST(test_connections_that_come_and_go)
{
	unsigned int n_before = log_lines();
	struct vu_header head = { VU_GET_FEATURES, 0x2, 0 };

	for (int i = 0; i < TIMES; i++) {
		struct vu_client c = VU_CLIENT_NULL;

		rig_ok(vu_connect(&c, rig_socket()), c.why);
		if (i & 1)
			rig_ok(vu_send(&c, &head, NULL, NULL, 0), c.why);
		vu_close(&c);
	}
	rig_check_net0();
	ck_assert_uint_lt(log_lines() - n_before, LINES_MAX);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "flood");

	tcase_add_test(tc, test_broken_ring_that_starts_again_and_again);
	tcase_add_test(tc, test_messages_that_are_refused);
	tcase_add_test(tc, test_connections_that_come_and_go);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("flood", &net0, add);
}
