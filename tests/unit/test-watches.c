/* Watches on the record: memory as one process, and a worker or the frontend that asks. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "memory/memory.h"
#include "memory/watch.h"
#include "lib/patience.h"
#include "lib/run.h"

static char dir[64], path[96];
static pid_t server;
static sd_event *event;
static struct bus_client *client;
static unsigned int n_answers;

static void serve(const char *name, unsigned int asks)
{
	static struct role role;
	static struct config_device config = { .name = (char *)"net0" };
	static struct served device;
	static struct blame_mark mark;
	static struct peer peer;
	static struct proc proc;
	static Bh__Seen seen;
	static struct memory memory = { .proc = &proc,
		.devices = &device,
		.n_devices = 1,
		.peers = &peer,
		.n_peers = 1,
		.seen = &seen };
	const struct bus_peer id = { .name = name,
		.role = asks,
		.user = geteuid(),
		.table = memory_table,
		.context = &memory };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	role.asks = asks;
	device = (struct served){ .config = &config, .mark = &mark };
	peer = (struct peer){ .memory = &memory,
		.name = (char *)name,
		.role = &role,
		.device = asks & ROLE_WORKER ? &device : NULL,
		.link_fd = 0,
		.bell_fd = -1 };
	if (sd_event_new(&proc.event) < 0 || served_open(&device) < 0 || watch_open(&memory) < 0 ||
		bus_server_dial(&peer.bus, proc.event, path, &id) < 0)
		_exit(EXIT_FAILURE);
	sd_event_loop(proc.event);
	_exit(EXIT_FAILURE);
}

static void set_up(void)
{
	unsetenv("NOTIFY_SOCKET");
	snprintf(dir, sizeof(dir), "/tmp/bulkhead-watches-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/bus.sock", dir);
}

static void start(const char *name, unsigned int asks)
{
	server = fork();
	ck_assert_int_ge(server, 0);
	if (server == 0)
		serve(name, asks);
	ck_assert_int_ge(sd_event_new(&event), 0);
	ck_assert_int_eq(bus_client_listen(&client, event, path, geteuid()), 0);
}

static void tear_down(void)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	unlink(path);
	snprintf(path, sizeof(path), "%s/bus.nng", dir);
	unlink(path);
	rmdir(dir);
}

static void on_answer(void *data, int error, const Bh__Envelope *reply)
{
	ck_assert_int_eq(error, 0);
	ck_assert_int_eq(reply->body_case, *(const Bh__Envelope__BodyCase *)data);
	n_answers++;
}

/* A watch of the frontend, or of a worker; its answer's type. */
static Bh__Envelope__BodyCase start_watching(bool frontend, Bh__Envelope *ret_question)
{
	static Bh__WatchDesired desired;
	static Bh__WatchObserved observed;

	bh__watch_desired__init(&desired);
	bh__watch_observed__init(&observed);
	bh__envelope__init(ret_question);
	desired.device = (char *)"net0";
	if (frontend) {
		start("frontend", ROLE_FRONTEND);
		ret_question->body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
		ret_question->watch_observed = &observed;
		return BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY;
	}
	start("net0", ROLE_WORKER);
	ret_question->body_case = BH__ENVELOPE__BODY_WATCH_DESIRED;
	ret_question->watch_desired = &desired;
	return BH__ENVELOPE__BODY_WATCH_DESIRED_REPLY;
}

static void wait_answers(unsigned int n)
{
	while (n_answers < n)
		ck_assert_int_gt(sd_event_run(event, test_us(30000)), 0);
}

/* Two may overtake each other on their way. The one that is there first is not left without an
 * answer: it may be the one that somebody still waits for. _i: of the frontend */
START_TEST(test_second_watch_answers_the_first)
{
	Bh__Envelope question;
	Bh__Envelope__BodyCase answer = start_watching(_i, &question);

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(bus_client_call(client, &question, BUS_TIMEOUT_MS, on_answer,
					 &answer),
			0);
	wait_answers(1);
}
END_TEST

static void on_renewed(void *data, int error, const Bh__Envelope *reply)
{
	ck_assert_int_eq(error, 0);
	if (reply->body_case == BH__ENVELOPE__BODY_WATCH_DESIRED_REPLY)
		ck_assert(reply->watch_desired_reply->unchanged);
	else
		ck_assert_uint_eq(reply->watch_observed_reply->n_records, 0);
	n_answers++;
}

/* A process of a former release would wait for ever for one that was lost. _i: of the frontend */
START_TEST(test_watch_is_answered_in_time)
{
	Bh__Envelope question;

	start_watching(_i, &question);
	for (unsigned int i = 0; i < 2; i++) {
		ck_assert_int_eq(bus_client_call(client, &question, BUS_TIMEOUT_MS, on_renewed,
					 NULL),
			0);
		wait_answers(i + 1);
	}
}
END_TEST

START_TEST(test_watch_of_the_patient_is_left_alone)
{
	Bh__Envelope question;

	start_watching(_i, &question);
	if (_i)
		question.watch_observed->patient = true;
	else
		question.watch_desired->patient = true;
	ck_assert_int_eq(bus_client_call(client, &question, BUS_WATCH_MS, on_renewed, NULL), 0);
	while (sd_event_run(event, (BUS_TIMEOUT_MS - 500) * UINT64_C(1000)) > 0)
		;
	ck_assert_uint_eq(n_answers, 0);
}
END_TEST

static uint64_t applied;

static void on_observed(void *data, int error, const Bh__Envelope *reply)
{
	ck_assert_int_eq(error, 0);
	if (reply->body_case == BH__ENVELOPE__BODY_WATCH_OBSERVED_REPLY)
		applied = reply->watch_observed_reply->records[0]->observed->applied;
	n_answers++;
}

static void ask(const Bh__Envelope *question)
{
	unsigned int before = n_answers;

	ck_assert_int_eq(bus_client_call(client, question, 30 * UINT64_C(1000000), on_observed,
				 NULL),
		0);
	while (n_answers == before)
		ck_assert_int_gt(sd_event_run(event, test_us(30000)), 0);
}

static uint64_t report_generation;
static uint64_t report_token; /* of the worker's own; 0 = none */

static void report(uint64_t generation)
{
	Bh__ReportObserved report = BH__REPORT_OBSERVED__INIT;
	Bh__Observed observed = BH__OBSERVED__INIT;
	Bh__Envelope question = BH__ENVELOPE__INIT;

	observed.generation = report_generation;
	observed.applied = generation;
	observed.tokens = &report_token;
	observed.n_tokens = report_token != 0;
	report.device = (char *)"net0";
	report.observed = &observed;
	question.body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED;
	question.report_observed = &report;
	ask(&question);
}

static void commit(uint64_t generation)
{
	Bh__CommitDesired commit = BH__COMMIT_DESIRED__INIT;
	Bh__Desired desired = BH__DESIRED__INIT;
	Bh__Envelope question = BH__ENVELOPE__INIT;

	desired.generation = generation;
	commit.device = (char *)"net0";
	commit.desired = &desired;
	question.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED;
	question.commit_desired = &commit;
	ask(&question);
}

static int broken;

static void on_broken(void *data, int error, const Bh__Envelope *reply)
{
	broken = error;
	n_answers++;
}

/* There is something to say to the frontend, and nobody asks: its question may be lost. A question
 * of its own that is open tells of the end of the connection. */
START_TEST(test_who_does_not_ask_is_made_to)
{
	Bh__WatchDesired watch = BH__WATCH_DESIRED__INIT;
	Bh__Envelope question = BH__ENVELOPE__INIT;

	start("net0", ROLE_WORKER | ROLE_FRONTEND);
	commit(1);
	watch.device = (char *)"net0";
	watch.generation = 1;
	watch.patient = true;
	question.body_case = BH__ENVELOPE__BODY_WATCH_DESIRED;
	question.watch_desired = &watch;
	ck_assert_int_eq(bus_client_call(client, &question, BUS_WATCH_MS, on_broken, NULL), 0);
	report(1);
	wait_answers(3);
	ck_assert_int_eq(broken, -ECONNRESET);
}
END_TEST

/* The frontend asks what the worker says. */
static void check_applied(uint64_t generation)
{
	Bh__WatchObserved watch = BH__WATCH_OBSERVED__INIT;
	Bh__Envelope question = BH__ENVELOPE__INIT;

	question.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
	question.watch_observed = &watch;
	ask(&question);
	ck_assert_uint_eq(applied, generation);
}

/* One that was given up may arrive after the one that was sent in its place. */
/* covers: P3 */
START_TEST(test_late_report_takes_nothing_back)
{
	start("net0", ROLE_WORKER | ROLE_FRONTEND);
	commit(8);
	report(7);
	report(6);
	check_applied(7);
	report(8);
	check_applied(8);
}
END_TEST

/* From a worker that was taken over: it is answered, and changes nothing, also for the one that
 * follows. */
START_TEST(test_report_of_what_nobody_has_asked_for_is_left_out)
{
	static const uint64_t forged[] = { 9, UINT64_MAX / 2, UINT64_MAX };

	start("net0", ROLE_WORKER | ROLE_FRONTEND);
	commit(8);
	report(7);
	for (size_t i = 0; i < ARRAY_SIZE(forged); i++) {
		report(forged[i]);
		check_applied(7);
	}
	report(8);
	check_applied(8);
}
END_TEST

/* The count of reports is ours: one that begins near its end would be the last. */
START_TEST(test_generation_of_a_report_is_not_the_workers)
{
	start("net0", ROLE_WORKER | ROLE_FRONTEND);
	commit(3);
	report_generation = UINT64_MAX;
	report(1);
	check_applied(1);
	report(2);
	check_applied(2);
}
END_TEST

START_TEST(test_report_that_names_what_was_not_deposited_is_left_out)
{
	start("net0", ROLE_WORKER | ROLE_FRONTEND);
	commit(3);
	report(1);
	report_token = 77;
	report(2);
	check_applied(1);
	report_token = 0;
	report(3);
	check_applied(3);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("watches");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_second_watch_answers_the_first, 0, 2);
	tcase_add_loop_test(tc, test_watch_is_answered_in_time, 0, 2);
	tcase_add_loop_test(tc, test_watch_of_the_patient_is_left_alone, 0, 2);
	tcase_add_test(tc, test_who_does_not_ask_is_made_to);
	tcase_add_test(tc, test_late_report_takes_nothing_back);
	tcase_add_test(tc, test_report_of_what_nobody_has_asked_for_is_left_out);
	tcase_add_test(tc, test_generation_of_a_report_is_not_the_workers);
	tcase_add_test(tc, test_report_that_names_what_was_not_deposited_is_left_out);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("watches", add_tests);
}
