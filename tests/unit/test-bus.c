/* The bus: questions answered, refused, timed out, and what a death at either end leaves behind. */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bus-actor.h"
#include "bus/bus.h"
#include "lib/patience.h"
#include "lib/run.h"

#define CONTEXTS 8 /* questions that may be held for one peer */

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* --- Asking and answering --- */

START_TEST(test_questions_are_answered)
{
	struct actor client = actor_client(), server = actor_server();

	for (uint64_t i = 1; i <= 200; i++)
		actor_check_commit(&client, i);
	ck_assert_uint_eq(atomic_load(&actor_shared->n_served), 200);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_many_at_once_are_each_answered)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("net0", 7);

	command.repeat = 100;
	actor_tell(&client, &command);
	for (int i = 0; i < 100; i++) {
		struct actor_result result = actor_result(&client);

		ck_assert_int_eq(result.error, 0);
		ck_assert_uint_eq(result.number, 8);
	}
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_refusals_name_their_reason)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command status = { .ask = ASK_STATUS, .timeout_ms = 30000 };
	struct actor_command unknown = { .ask = ASK_REPORT, .timeout_ms = 30000 };

	ck_assert_int_eq(actor_error(&client, actor_commit("fail", 1)), -ENOENT);
	ck_assert_int_eq(actor_error(&client, status), -EPERM);
	ck_assert_int_eq(actor_error(&client, unknown), -EOPNOTSUPP);
	actor_check_commit(&client, 5);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_question_without_answer_times_out)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("mute", 1);
	uint64_t begin;

	actor_check_commit(&client, 1);
	command.timeout_ms = 200;
	begin = now_usec();
	ck_assert_int_eq(actor_error(&client, command), -ETIMEDOUT);
	ck_assert_uint_ge(now_usec() - begin, 190000);
	actor_check_commit(&client, 2);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_question_without_peer_times_out)
{
	struct actor client = actor_client();
	struct actor_command command = actor_commit("net0", 1);

	command.timeout_ms = 100;
	ck_assert_int_eq(actor_error(&client, command), -ETIMEDOUT);
	actor_end(&client);
}
END_TEST

START_TEST(test_question_waits_for_a_peer_to_come)
{
	struct actor client = actor_client(), server;
	struct actor_command command = actor_commit("net0", 41);

	actor_tell(&client, &command);
	server = actor_server();
	ck_assert_uint_eq(actor_result(&client).number, 42);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_ctl_dials_and_asks)
{
	struct actor server = actor_listening_server();

	for (int i = 0; i < 20; i++) {
		struct actor ctl = actor_ctl();

		actor_check_commit(&ctl, 1);
		actor_end(&ctl);
	}
	actor_end(&server);
}
END_TEST

/* --- Sizes --- */

START_TEST(test_question_of_the_largest_size_passes)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("net0", 1);

	command.n_bytes = BUS_MESSAGE_MAX - 200;
	ck_assert_int_eq(actor_error(&client, command), 0);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_question_that_is_too_large_is_never_sent)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("net0", 1);

	command.n_bytes = BUS_MESSAGE_MAX;
	ck_assert_int_eq(actor_error(&client, command), -EMSGSIZE);
	ck_assert_uint_eq(atomic_load(&actor_shared->n_served), 0);
	actor_check_commit(&client, 1);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_answer_that_is_too_large_becomes_a_refusal)
{
	struct actor client = actor_client(), server = actor_server();

	ck_assert_int_eq(actor_error(&client, actor_commit("big", 1)), -EMSGSIZE);
	actor_check_commit(&client, 1);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

/* --- A peer that speaks the protocol below the bus --- */

/* In one piece: the other side may end the connection as soon as it has seen the length. */
static void raw_send(int fd, uint64_t claimed, const void *body, size_t n)
{
	uint8_t packet[64] = { 1 };
	const uint64_t be = htobe64(claimed);

	ck_assert_uint_le(9 + n, sizeof(packet));
	memcpy(packet + 1, &be, sizeof(be));
	memcpy(packet + 9, body, n);
	ck_assert_int_eq(send(fd, packet, 9 + n, MSG_NOSIGNAL), (ssize_t)(9 + n));
}

static bool raw_ended(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	uint8_t byte;

	return poll(&poller, 1, test_ms(30000)) == 1 && read(fd, &byte, 1) <= 0;
}

/* covers: P1 */
START_TEST(test_malformed_question_is_refused_and_the_peer_served_on)
{
	/* the number of the question, with the bit that ends the way back; then what is no
	 * message */
	const uint8_t garbage[] = { 0x80, 0, 0, 1, 0xff, 0xff, 0xff, 0xff };
	const uint8_t empty[] = { 0x80, 0, 0, 2 };
	int listen_fd = actor_raw_listen(), fd;
	struct actor server = actor_server();
	uint8_t head[9], answer[256];
	uint64_t n;

	fd = accept(listen_fd, NULL, NULL);
	actor_raw_hello(fd, 0x30);
	for (int i = 0; i < 20; i++) {
		raw_send(fd, sizeof(garbage), garbage, sizeof(garbage));
		actor_raw_read(fd, head, sizeof(head));
		memcpy(&n, head + 1, sizeof(n));
		n = be64toh(n);
		ck_assert_uint_le(n, sizeof(answer));
		actor_raw_read(fd, answer, n);
		ck_assert_mem_eq(answer, garbage, 4);
	}
	/* nothing at all is a well-formed message of no known type */
	raw_send(fd, sizeof(empty), empty, sizeof(empty));
	actor_raw_read(fd, head, sizeof(head));
	/* before its connection ends: it would be dialing when it is taken down */
	actor_end(&server);
	close(fd);
	close(listen_fd);
}
END_TEST

/* covers: P1 */
START_TEST(test_message_beyond_the_limit_ends_that_connection_alone)
{
	struct actor client = actor_client(), server;
	int fd = actor_raw_connect();

	actor_raw_hello(fd, 0x31);
	raw_send(fd, UINT64_C(1) << 62, "x", 1);
	ck_assert(raw_ended(fd));
	close(fd);
	fd = actor_raw_connect();
	actor_raw_hello(fd, 0x31);
	raw_send(fd, BUS_MESSAGE_MAX + 4096, "x", 1);
	ck_assert(raw_ended(fd));
	close(fd);
	server = actor_server();
	actor_check_commit(&client, 1);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

/* --- A server that lies --- */

/* The next question as it came: the number that its answer needs in `ret_way`, and what was
 * asked. */
static Bh__Envelope *raw_question(int fd, uint8_t *ret_way)
{
	uint8_t head[9], body[512];
	Bh__Envelope *question;
	uint64_t n;

	actor_raw_read(fd, head, sizeof(head));
	memcpy(&n, head + 1, sizeof(n));
	n = be64toh(n);
	ck_assert(n > 4 && n <= sizeof(body));
	actor_raw_read(fd, body, n);
	memcpy(ret_way, body, 4);
	question = bh__envelope__unpack(NULL, n - 4, body + 4);
	ck_assert_ptr_nonnull(question);
	return question;
}

static void raw_answer(int fd, const uint8_t *way, const Bh__Envelope *answer)
{
	uint8_t body[64];

	ck_assert_uint_le(4 + bh__envelope__get_packed_size(answer), sizeof(body));
	memcpy(body, way, 4);
	raw_send(fd, 4 + bh__envelope__get_packed_size(answer), body,
		4 + bh__envelope__pack(answer, body + 4));
}

/* Right in form, and no answer to what was asked. */
static void lie(Bh__Envelope *answer, int how)
{
	static Bh__CommitDesiredReply right = BH__COMMIT_DESIRED_REPLY__INIT;
	static Bh__WatchObservedReply other = BH__WATCH_OBSERVED_REPLY__INIT;
	static Bh__GetStatus question = BH__GET_STATUS__INIT;

	answer->body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY;
	answer->commit_desired_reply = &right;
	switch (how) {
	case 0:
		answer->body_case = BH__ENVELOPE__BODY__NOT_SET;
		break;
	case 1:
		answer->body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY;
		answer->watch_observed_reply = &other;
		break;
	case 2:
		answer->body_case = BH__ENVELOPE__BODY_GET_STATUS;
		answer->get_status = &question;
		break;
	case 3:
		answer->seq++;
		break;
	default:
		answer->caller++;
		break;
	}
}

#define N_LIES 5

/* covers: P1 */
START_TEST(test_answer_to_another_question_is_an_error_and_the_next_is_heard)
{
	struct actor client = actor_client(), server;
	struct actor_command command = actor_commit("net0", 1);
	int fd = actor_raw_connect();
	Bh__Envelope answer = BH__ENVELOPE__INIT, *question;
	struct actor_result result;
	uint8_t way[4];

	actor_raw_hello(fd, 0x31);
	actor_tell(&client, &command);
	question = raw_question(fd, way);
	answer.seq = question->seq;
	answer.caller = question->caller;
	lie(&answer, _i);
	raw_answer(fd, way, &answer);
	ck_assert_int_eq(actor_result(&client).error, -EBADMSG);
	bh__envelope__free_unpacked(question, NULL);
	close(fd);
	server = actor_server();
	/* what is asked before that connection's end is heard of breaks off with it, and is asked
	 * again */
	do {
		actor_tell(&client, &command);
		result = actor_result(&client);
	} while (result.error == -ECONNRESET);
	ck_assert_int_eq(result.error, 0);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

/* --- Deaths --- */

START_TEST(test_question_to_a_server_that_dies_breaks_off_and_is_not_asked_again)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("mute", 1);

	actor_tell(&client, &command);
	actor_wait(&actor_shared->n_served, 1);
	actor_kill(&server);
	ck_assert_int_eq(actor_result(&client).error, -ECONNRESET);
	server = actor_server();
	actor_check_commit(&client, 1);
	ck_assert_uint_eq(atomic_load(&actor_shared->n_served), 2);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_answer_after_the_asker_is_gone_is_lost_quietly)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command loose = { .ask = ASK_LOOSE, .timeout_ms = 60000 };
	struct actor_command watch = { .ask = ASK_WATCH, .timeout_ms = 60000 };

	actor_tell(&client, &loose);
	actor_tell(&client, &watch);
	actor_wait(&actor_shared->n_loose, 1);
	actor_wait(&actor_shared->n_held, 1);
	actor_kill(&client);
	actor_wait(&actor_shared->n_gone, 1);
	client = actor_client();
	/* what the dead one asked is answered now; its successor must not be given that answer */
	ck_assert_int_eq(actor_error(&client, actor_commit("release", 1)), 0);
	actor_check_commit(&client, 3);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_held_question_is_answered_when_its_time_comes)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command watch = { .ask = ASK_WATCH };
	struct actor_command release = actor_commit("release", 1);
	int n_refused = 0;

	actor_tell(&client, &watch);
	actor_wait(&actor_shared->n_held, 1);
	actor_tell(&client, &release);
	for (int i = 0; i < 2; i++)
		n_refused += actor_result(&client).error == -ESTALE;
	ck_assert_int_eq(n_refused, 1);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

/* nng before 1.8 may stop taking down what has ended, and tells of no end any more. */
static void jam(const struct actor *actor)
{
	struct actor_command command = { .ask = ASK_JAM };

	ck_assert_int_eq(actor_ask(actor, &command).error, 0);
}

START_TEST(test_server_whose_nng_stands_still_serves_the_next_peer_and_starts_anew)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command left = { .ask = ASK_PEER_HAS_LEFT }, redial = { 0 };
	uint64_t begin;

	actor_check_commit(&client, 1);
	jam(&server);
	actor_kill(&client);
	ck_assert_int_eq(actor_ask(&server, &left).error, 0);
	client = actor_client();
	begin = now_usec();
	ck_assert_int_eq(actor_ask(&server, &redial).error, 0);
	actor_check_commit(&client, 2);
	ck_assert_uint_lt(now_usec() - begin, 3000000);
	actor_ended(&server);
	actor_end(&client);
}
END_TEST

START_TEST(test_client_whose_nng_stands_still_asks_the_next_peer_and_starts_anew)
{
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("mute", 1);
	uint64_t begin = now_usec();

	jam(&client);
	actor_tell(&client, &command);
	actor_wait(&actor_shared->n_served, 1);
	actor_kill(&server);
	ck_assert_int_eq(actor_result(&client).error, -ECONNRESET);
	server = actor_server();
	actor_check_commit(&client, 2);
	ck_assert_uint_lt(now_usec() - begin, 3000000);
	actor_ended(&client);
	actor_kill(&server);
}
END_TEST

static unsigned int deaths(void)
{
	const char *text = getenv("BULKHEAD_TEST_DEATHS");

	return text ? (unsigned int)atoi(text) : 150;
}

/* All contexts of the server are free: as many questions as it has can be held at once. */
static void check_contexts(void)
{
	struct actor client = actor_client();

	actor_hold(&client, CONTEXTS);
	actor_kill(&client);
	actor_wait(&actor_shared->n_gone, atomic_load(&actor_shared->n_held));
}

START_TEST(test_questions_held_for_the_dead_are_ended)
{
	struct actor server = actor_server();
	struct actor_command redial = { 0 };
	size_t n_fds;

	check_contexts();
	n_fds = actor_n_fds(&server);
	for (unsigned int i = 0; i < deaths(); i++) {
		struct actor client = actor_client();

		ck_assert_int_eq(actor_ask(&server, &redial).error, 0);
		actor_hold(&client, 2);
		actor_kill(&client);
		actor_wait(&actor_shared->n_gone, atomic_load(&actor_shared->n_held));
	}
	check_contexts();
	/* some connections may be in the making or in the ending: that passes, a leak does not */
	for (int i = 0; actor_n_fds(&server) > n_fds + 4; i++) {
		ck_assert_msg(i < test_ms(5000), "%zu descriptors, not %zu", actor_n_fds(&server),
			n_fds);
		usleep(1000);
	}
	actor_kill(&server);
}
END_TEST

/* Killed while the question may be anywhere: not sent, sent, received, held. */
START_TEST(test_askers_may_die_at_any_moment)
{
	struct actor server = actor_server();
	struct actor_command watch = { .ask = ASK_WATCH, .repeat = 3 }, redial = { 0 };

	srand(1);
	for (unsigned int i = 0; i < deaths(); i++) {
		struct actor client = actor_client();
		const struct timespec pause = { .tv_nsec = rand() % 3000 * 1000 };

		actor_tell(&server, &redial);
		actor_tell(&client, &watch);
		nanosleep(&pause, NULL);
		actor_kill(&client);
		ck_assert_int_eq(actor_result(&server).error, 0);
	}
	actor_wait(&actor_shared->n_gone, atomic_load(&actor_shared->n_held));
	check_contexts();
	actor_kill(&server);
}
END_TEST

/* --- Questions that are lost --- */

/* Somebody who answers, as far as its hello. */
static int raw_answerer(void)
{
	int fd = actor_raw_connect();

	actor_raw_hello(fd, 0x31);
	return fd;
}

static void raw_take_question(int fd)
{
	uint8_t head[9], body[256];
	uint64_t n;

	actor_raw_read(fd, head, sizeof(head));
	memcpy(&n, head + 1, sizeof(n));
	n = be64toh(n);
	ck_assert_uint_le(n, sizeof(body));
	actor_raw_read(fd, body, n);
}

/* nng hears nothing of a question that it lost: here nobody answers it, over a connection that
 * stays. The end of the other one says that it may be lost. */
START_TEST(test_end_of_a_connection_ends_what_was_asked_before)
{
	struct actor client = actor_client();
	struct actor_command watch = { .ask = ASK_WATCH };
	int fd = raw_answerer();

	for (int i = 0; i < 20; i++) {
		actor_tell(&client, &watch);
		raw_take_question(fd);
		close(raw_answerer());
		ck_assert_int_eq(actor_result(&client).error, -ECONNRESET);
	}
	close(fd);
	actor_kill(&client);
}
END_TEST

/* Who is asked goes away after its hello, with the question taken or not, or in the midst of its
 * answer. _i: the step */
START_TEST(test_question_that_is_lost_is_told_of_at_every_step)
{
	static const uint8_t part_of_answer[] = { 1, 0, 0, 0, 0, 0, 0, 0, 99, 0x80 };
	struct actor client = actor_client();
	struct actor_command watch = { .ask = ASK_WATCH };

	for (int i = 0; i < 20; i++) {
		int fd = raw_answerer();

		actor_tell(&client, &watch);
		if (_i >= 1)
			raw_take_question(fd);
		if (_i >= 2)
			ck_assert_int_eq(write(fd, part_of_answer,
						 _i == 2 ? 5 : sizeof(part_of_answer)),
				_i == 2 ? 5 : sizeof(part_of_answer));
		close(fd);
		if (_i == 0) {
			/* it may not be sent yet, and waits for the next one */
			fd = raw_answerer();
			close(raw_answerer());
			close(fd);
		}
		ck_assert_int_eq(actor_result(&client).error, -ECONNRESET);
	}
	actor_kill(&client);
}
END_TEST

/* Until the question has come to somebody; what breaks off is asked again, and nothing is waited
 * for that is lost. */
static void wait_held(const struct actor *client, const struct actor_command *watch, unsigned int n)
{
	struct pollfd poller = { .fd = client->fd, .events = POLLIN };

	for (int i = 0; atomic_load(&actor_shared->n_held) < n; i++) {
		ck_assert_int_lt(i, 30000);
		if (poll(&poller, 1, 1) == 0)
			continue;
		ck_assert_int_eq(actor_result(client).error, -ECONNRESET);
		actor_tell(client, watch);
	}
}

START_TEST(test_servers_may_die_at_any_moment)
{
	struct actor client = actor_client();
	struct actor_command watch = { .ask = ASK_WATCH };

	srand(2);
	actor_tell(&client, &watch);
	for (unsigned int i = 0; i < deaths(); i++) {
		unsigned int n_held = atomic_load(&actor_shared->n_held);
		struct actor server = actor_server();
		const struct timespec pause = { .tv_nsec = rand() % 3000 * 1000 };

		if (i % 2)
			wait_held(&client, &watch, n_held + 1);
		else
			nanosleep(&pause, NULL);
		actor_kill(&server);
	}
	actor_server();
	wait_held(&client, &watch, atomic_load(&actor_shared->n_held) + 1);
	actor_kill(&client);
}
END_TEST

START_TEST(test_question_to_a_server_that_stands_still_is_answered_when_it_goes_on)
{
	const struct timespec pause = { .tv_nsec = 300000000 };
	struct actor client = actor_client(), server = actor_server();
	struct actor_command command = actor_commit("net0", 1);

	actor_check_commit(&client, 1);
	kill(server.pid, SIGSTOP);
	actor_tell(&client, &command);
	nanosleep(&pause, NULL);
	kill(server.pid, SIGCONT);
	ck_assert_uint_eq(actor_result(&client).number, 2);
	actor_end(&server);
	actor_end(&client);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("bus");

	tcase_add_checked_fixture(tc, actor_set_up, actor_tear_down);
	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_questions_are_answered);
	tcase_add_test(tc, test_many_at_once_are_each_answered);
	tcase_add_test(tc, test_refusals_name_their_reason);
	tcase_add_test(tc, test_question_without_answer_times_out);
	tcase_add_test(tc, test_question_without_peer_times_out);
	tcase_add_test(tc, test_question_waits_for_a_peer_to_come);
	tcase_add_test(tc, test_ctl_dials_and_asks);
	tcase_add_test(tc, test_question_of_the_largest_size_passes);
	tcase_add_test(tc, test_question_that_is_too_large_is_never_sent);
	tcase_add_test(tc, test_answer_that_is_too_large_becomes_a_refusal);
	tcase_add_test(tc, test_malformed_question_is_refused_and_the_peer_served_on);
	tcase_add_test(tc, test_message_beyond_the_limit_ends_that_connection_alone);
	tcase_add_loop_test(tc, test_answer_to_another_question_is_an_error_and_the_next_is_heard,
		0, N_LIES);
	tcase_add_test(tc, test_question_to_a_server_that_dies_breaks_off_and_is_not_asked_again);
	tcase_add_test(tc, test_answer_after_the_asker_is_gone_is_lost_quietly);
	tcase_add_test(tc, test_held_question_is_answered_when_its_time_comes);
	tcase_add_test(tc, test_server_whose_nng_stands_still_serves_the_next_peer_and_starts_anew);
	tcase_add_test(tc, test_client_whose_nng_stands_still_asks_the_next_peer_and_starts_anew);
	tcase_add_test(tc, test_questions_held_for_the_dead_are_ended);
	tcase_add_test(tc, test_askers_may_die_at_any_moment);
	tcase_add_test(tc, test_end_of_a_connection_ends_what_was_asked_before);
	tcase_add_loop_test(tc, test_question_that_is_lost_is_told_of_at_every_step, 0, 4);
	tcase_add_test(tc, test_servers_may_die_at_any_moment);
	tcase_add_test(tc, test_question_to_a_server_that_stands_still_is_answered_when_it_goes_on);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("bus", add_tests);
}
