/*
 * The product connects, the test listens: it keeps trying until somebody listens, serves the
 * session, and comes back after each loss.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"

static struct net n;

static void serve(int listen_fd, uint32_t n_frames)
{
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF), .lax = rig.peer };

	rig_ok(net_init(&n, &p), n.why);
	rig_ok(vu_accept(&n.c, listen_fd), "the product does not connect");
	rig_ok(net_negotiate(&n), n.why);
	rig_ok(net_make_rings(&n), n.why);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(net_start_ring(&n, i), n.why);
		rig_ok(net_enable(&n, i, true), n.why);
	}
	rig_ok(net_fill(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, n_frames, 200), n.why);
	net_close(&n);
}

START_TEST(test_connects_when_somebody_listens_and_again_after_each_loss)
{
	int listen_fd;

	rig_ok(vu_listen(rig_socket(), &listen_fd), "listen");
	for (int i = 0; i < 5; i++)
		serve(listen_fd, 100);
	close(listen_fd);
	unlink(rig_socket());
}
END_TEST

START_TEST(test_connects_to_a_listener_that_came_back)
{
	for (int i = 0; i < 3; i++) {
		int listen_fd;

		rig_ok(vu_listen(rig_socket(), &listen_fd), "listen");
		serve(listen_fd, 50);
		close(listen_fd);
		unlink(rig_socket());
	}
}
END_TEST

START_TEST(test_listener_that_hangs_up_at_once)
{
	int listen_fd;

	rig_ok(vu_listen(rig_socket(), &listen_fd), "listen");
	for (int i = 0; i < 5; i++) {
		struct vu_client c = VU_CLIENT_NULL;

		rig_ok(vu_accept(&c, listen_fd), "the product does not connect");
		vu_close(&c);
	}
	serve(listen_fd, 50);
	close(listen_fd);
	unlink(rig_socket());
}
END_TEST

/* It listens, has a session, gives us its end of the connection, and dies. */
static void die_as_listener(void)
{
	struct vu_client c = VU_CLIENT_NULL;
	int listen_fd;

	rig_ok(vu_listen(rig_socket(), &listen_fd), "listen");
	rig_ok(vu_accept(&c, listen_fd), "the product does not connect");
	rig_ok(vu_hello(&c, 0), c.why);
	rig_ok(vu_set_vring_fd(&c, VU_SET_VRING_CALL, 0, c.fd), c.why);
	(void)vu_get_features(&c); /* an answer, or the end */
	_exit(0);
}

START_TEST(test_dead_vmm_that_left_its_end_to_us_is_replaced)
{
	int listen_fd, status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		die_as_listener();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	unlink(rig_socket());
	rig_ok(vu_listen(rig_socket(), &listen_fd), "listen");
	serve(listen_fd, 100);
	close(listen_fd);
	unlink(rig_socket());
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "client mode");

	tcase_add_test(tc, test_connects_when_somebody_listens_and_again_after_each_loss);
	tcase_add_test(tc, test_connects_to_a_listener_that_came_back);
	tcase_add_test(tc, test_listener_that_hangs_up_at_once);
	tcase_add_test(tc, test_dead_vmm_that_left_its_end_to_us_is_replaced);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .client = true };

	return rig_main("client-mode", &net0, add);
}
