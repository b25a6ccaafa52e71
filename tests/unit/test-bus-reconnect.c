/* The bus: how the two ends find each other again, whoever else connects. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bus-actor.h"
#include "bus/pipes.h"
#include "lib/patience.h"
#include "lib/run.h"

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

#define RETRY_USEC 100000 /* how often the server looks by itself */
#define N_TOLD 100

/* Whoever listens here says nothing, so that the server is never connected; it is killed in the
 * end: see actor_end(). */
START_TEST(test_server_that_is_told_does_not_wait_for_its_next_try)
{
	struct actor_command redial = { 0 };
	int listen_fd = actor_raw_listen();
	struct actor server = actor_server();
	struct pollfd poller = { .fd = listen_fd, .events = POLLIN };
	uint64_t begin = now_usec(), n_by_itself;

	for (int i = 0; i < N_TOLD; i++) {
		ck_assert_int_eq(actor_ask(&server, &redial).error, 0);
		ck_assert_int_eq(poll(&poller, 1, test_ms(30000)), 1);
		close(accept(listen_fd, NULL, NULL));
	}
	n_by_itself = (now_usec() - begin) / RETRY_USEC;
	ck_assert_msg(n_by_itself < N_TOLD / 2,
		"it may have come %u times because it was told, or by itself", N_TOLD);
	close(listen_fd);
	actor_kill(&server);
}
END_TEST

START_TEST(test_being_told_while_connected_disturbs_nobody)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command watch = { .ask = ASK_WATCH }, redial = { 0 };

	actor_check_commit(&client, 1);
	actor_tell(&client, &watch);
	actor_wait(&actor_shared->n_held, 1);
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(actor_ask(&server, &redial).error, 0);
		actor_check_commit(&client, 2);
	}
	ck_assert_uint_eq(atomic_load(&actor_shared->n_gone), 0);
	actor_end(&server);
	actor_kill(&client);
}
END_TEST

/* --- nng takes nothing down any more --- */

/* A server that waits for a time without a loss before it starts anew has its list full by then. */
#define LOSS_MS 100

static bool lives(const struct actor *actor)
{
	siginfo_t info = { 0 };

	ck_assert_int_eq(waitid(P_PID, (id_t)actor->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == 0;
}

/* It may end at any moment, and its answers are of no interest. */
static void tell(const struct actor *server, enum actor_ask ask)
{
	struct actor_command command = { .ask = ask };

	(void)send(server->fd, &command, sizeof(command), MSG_NOSIGNAL);
}

/* A peer that was connected dies. */
static void lose_a_peer(const struct actor *server)
{
	unsigned int n_served = atomic_load(&actor_shared->n_served);
	struct actor_command commit = actor_commit("net0", 1);
	struct actor client = actor_client();

	tell(server, ASK_COMMIT); /* which makes it dial */
	actor_tell(&client, &commit);
	while (atomic_load(&actor_shared->n_served) == n_served && lives(server))
		poll(NULL, 0, 1);
	actor_kill(&client);
	tell(server, ASK_PEER_HAS_LEFT);
}

/* Each of them is one more that is not taken down, and no reason to go on waiting until no more can
 * be listed. */
START_TEST(test_server_whose_nng_stands_still_starts_anew_while_peers_go_on_dying)
{
	struct actor_command jam = { .ask = ASK_JAM };
	struct actor server = actor_server();
	uint64_t begin = now_usec();
	unsigned int n = 0;

	ck_assert_int_eq(actor_ask(&server, &jam).error, 0);
	for (; lives(&server); n++) {
		ck_assert_uint_lt(now_usec() - begin, (uint64_t)test_ms(20000) * 1000);
		lose_a_peer(&server);
		poll(NULL, 0, LOSS_MS);
	}
	ck_assert_uint_gt(n, 1);
	ck_assert_uint_lt(n, BUS_PIPES_MAX);
	actor_ended(&server);
}
END_TEST

/* --- Whoever else connects --- */

/* A question that was given to one whose end is still to be noticed breaks off and is asked
 * again. */
static void check_commit(const struct actor *client, uint64_t number)
{
	unsigned int n_broken = 0;
	int r;

	while ((r = actor_error(client, actor_commit("net0", number))) == -ECONNRESET)
		ck_assert_uint_lt(++n_broken, 10);
	ck_assert_int_eq(r, 0);
}

/* What a process killed between its connect() and its first bytes leaves: it ends a listener of nng
 * 1.5. */
static void abort_connection(void)
{
	close(actor_raw_connect());
}

START_TEST(test_listener_bears_an_aborted_connection_before_each_peer)
{
	struct actor client = actor_client();

	for (uint64_t i = 0; i < 6; i++) {
		struct actor server;

		abort_connection();
		if (i % 2)
			abort_connection();
		server = actor_server();
		check_commit(&client, i);
		actor_kill(&server);
	}
	actor_kill(&client);
}
END_TEST

#define PLACES 16 /* of a gate; each takes three descriptors */

/* Where it is asked whether somebody came through: a peer that listens and asks, or one that
 * listens and answers. */
static struct actor listener_of(bool answers)
{
	return answers ? actor_listening_server() : actor_client();
}

static void check_served(const struct actor *listener, bool answers, uint64_t number)
{
	struct actor other = answers ? actor_ctl() : actor_server();

	check_commit(answers ? &other : listener, number);
	actor_kill(&other);
}

/* What may be said before it is broken off, to one that answers; the last four are right as far as
 * they go. */
static const struct beginning {
	const char *bytes;
	size_t n;
} beginnings[] = {
	{ "", 0 },
	{ "\0SP", 3 },
	{ "GET / HTTP/1.1\r\n\r\n", 18 },
	{ "\0SP\0\0\x62\0\0", 8 },
#define ANSWERERS_HELLO 4
	{ "\0SP\0\0\x31\0\0", 8 },
	{ "\0SP\0\0\x30\0\0", 8 },
	{ "\0SP\0\0\x30\0\0\1\x7f\0\0\0\0\0\0\0", 17 },
	{ "\0SP\0\0\x30\0\0\1\0\0\0\0\0\0\0\x08\x80", 18 },
	{ "\0SP\0\0\x30\0\0\1\0\0\0\0\0\0\0\x08\x80\0\0\1\xff\xff\xff\xff", 25 },
};

/* Who may answer and says that he will is asked, and nobody else then: that one alone is no
 * stranger. */
static bool is_of_a_peer(bool answers, int beginning)
{
	return !answers && beginning == ANSWERERS_HELLO;
}

static int begin_connection(const struct beginning *beginning)
{
	int fd = actor_raw_connect();

	/* it may have been sent away already */
	(void)!send(fd, beginning->bytes, beginning->n, MSG_NOSIGNAL);
	return fd;
}

/* What connections have left passes; what would be left of each would not. */
static void check_fds(const struct actor *actor, size_t n_fds)
{
	for (int i = 0; actor_n_fds(actor) > n_fds; i++) {
		ck_assert_msg(i < 30000, "%zu descriptors, not %zu", actor_n_fds(actor), n_fds);
		usleep(1000);
	}
}

/* Those that nng 1.5 is deaf after, and all others. _i: of a listener that asks, or answers, and
 * the beginning */
START_TEST(test_connections_that_end_early_leave_nothing)
{
	bool answers = _i % 2;
	struct actor listener;
	size_t n_fds;

	if (is_of_a_peer(answers, _i / 2))
		return;
	listener = listener_of(answers);
	check_served(&listener, answers, 1);
	n_fds = actor_n_fds(&listener);
	for (unsigned int i = 0; i < 400; i++) {
		close(begin_connection(&beginnings[_i / 2]));
		if (i % 100 == 99)
			check_served(&listener, answers, i);
	}
	check_fds(&listener, n_fds);
	actor_kill(&listener);
}
END_TEST

/* Somebody who takes all places, and says no more, is no reason to send others away. */
START_TEST(test_connections_that_stay_silent_take_nobodys_place)
{
	bool answers = _i % 2;
	struct actor listener;
	int fds[10 * PLACES];
	size_t n_fds;

	if (is_of_a_peer(answers, _i / 2))
		return;
	listener = listener_of(answers);
	check_served(&listener, answers, 1);
	n_fds = actor_n_fds(&listener);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = begin_connection(&beginnings[_i / 2]);
		if (i > ARRAY_SIZE(fds) / 2 && i % PLACES == 0)
			check_served(&listener, answers, i);
	}
	check_served(&listener, answers, 2);
	check_fds(&listener, n_fds + 3 * PLACES);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	check_fds(&listener, n_fds);
	actor_kill(&listener);
}
END_TEST

static void limit_fds(const struct actor *actor, rlim_t n)
{
	const struct rlimit limit = { .rlim_cur = n, .rlim_max = 1024 };

	ck_assert_int_eq(prlimit(actor->pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

START_TEST(test_who_finds_no_descriptor_left_is_let_in_when_there_is_one)
{
	struct actor server = actor_listening_server(), ctl;
	struct actor_command command = actor_commit("net0", 4);

	limit_fds(&server, actor_n_fds(&server));
	ctl = actor_ctl();
	actor_tell(&ctl, &command);
	usleep(250000);
	limit_fds(&server, 1024);
	ck_assert_uint_eq(actor_result(&ctl).number, 5);
	actor_kill(&ctl);
	actor_kill(&server);
}
END_TEST

START_TEST(test_listener_removed_from_its_path_comes_back)
{
	struct actor client = actor_client(), server;

	ck_assert_int_eq(unlink(actor_sock), 0);
	server = actor_server();
	check_commit(&client, 1);
	actor_end(&server);
	actor_kill(&client);
}
END_TEST

/* Only the gate knows that there is another path beside its own. */
START_TEST(test_inner_listener_removed_from_its_path_comes_back)
{
	struct actor client = actor_client(), server;
	char inner[sizeof(actor_dir) + 16];

	snprintf(inner, sizeof(inner), "%s/bus.nng", actor_dir);
	ck_assert_int_eq(unlink(inner), 0);
	server = actor_server();
	check_commit(&client, 1);
	actor_end(&server);
	actor_kill(&client);
}
END_TEST

START_TEST(test_listener_that_serves_bears_aborted_connections)
{
	struct actor server = actor_listening_server(), ctl = actor_ctl();

	check_commit(&ctl, 1);
	for (uint64_t i = 0; i < 3; i++) {
		struct actor other;

		abort_connection();
		other = actor_ctl();
		check_commit(&other, i);
		actor_kill(&other);
		check_commit(&ctl, i);
	}
	actor_end(&ctl);
	actor_kill(&server);
}
END_TEST

START_TEST(test_listener_that_serves_and_is_removed_comes_back)
{
	struct actor server = actor_listening_server(), ctl = actor_ctl(), other;

	check_commit(&ctl, 1);
	ck_assert_int_eq(unlink(actor_sock), 0);
	other = actor_ctl();
	check_commit(&other, 2);
	check_commit(&ctl, 3);
	actor_end(&other);
	actor_end(&ctl);
	actor_kill(&server);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("bus-reconnect");

	tcase_add_checked_fixture(tc, actor_set_up, actor_tear_down);
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_server_that_is_told_does_not_wait_for_its_next_try);
	tcase_add_test(tc, test_being_told_while_connected_disturbs_nobody);
	tcase_add_test(tc, test_server_whose_nng_stands_still_starts_anew_while_peers_go_on_dying);
	tcase_add_test(tc, test_listener_bears_an_aborted_connection_before_each_peer);
	tcase_add_loop_test(tc, test_connections_that_end_early_leave_nothing, 0,
		2 * ARRAY_SIZE(beginnings));
	tcase_add_loop_test(tc, test_connections_that_stay_silent_take_nobodys_place, 0,
		2 * ARRAY_SIZE(beginnings));
	tcase_add_test(tc, test_who_finds_no_descriptor_left_is_let_in_when_there_is_one);
	tcase_add_test(tc, test_listener_removed_from_its_path_comes_back);
	tcase_add_test(tc, test_inner_listener_removed_from_its_path_comes_back);
	tcase_add_test(tc, test_listener_that_serves_bears_aborted_connections);
	tcase_add_test(tc, test_listener_that_serves_and_is_removed_comes_back);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("bus-reconnect", add_tests);
}
