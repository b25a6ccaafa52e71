/*
 * Commits that the frontend waits for until they are applied: when they are answered, with what,
 * and what is news after that; and which instance of a worker serves, by its reports. memory is in
 * this process, without a bus (tests/fuzz/memory-rig.h).
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "fuzz/memory-rig.h"
#include "lib/run.h"

static struct served *device;

static void ask(enum rig_peer peer, Bh__Envelope *body)
{
	size_t n = bh__envelope__get_packed_size(body);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	bh__envelope__pack(body, buf);
	rig_ask(peer, buf, n);
}

static void commit(uint64_t generation, const char *quarantine, bool applied)
{
	Bh__CommitDesired commit = BH__COMMIT_DESIRED__INIT;
	Bh__Desired desired = BH__DESIRED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	desired.generation = generation;
	desired.session = 1;
	desired.connected = true;
	desired.quarantine = (char *)quarantine;
	commit.device = (char *)"net0";
	commit.desired = &desired;
	commit.applied = applied;
	body.body_case = BH__ENVELOPE__BODY_COMMIT_DESIRED;
	body.commit_desired = &commit;
	ask(RIG_FRONTEND, &body);
}

static void report(uint64_t applied)
{
	Bh__ReportObserved report = BH__REPORT_OBSERVED__INIT;
	Bh__Observed observed = BH__OBSERVED__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	observed.applied = applied;
	observed.features = 77;
	report.device = (char *)"net0";
	report.observed = &observed;
	body.body_case = BH__ENVELOPE__BODY_REPORT_OBSERVED;
	body.report_observed = &report;
	ask(RIG_NET0, &body);
}

/* The frontend has seen all that there is. */
static void watch(void)
{
	Bh__WatchObserved watch = BH__WATCH_OBSERVED__INIT;
	Bh__Seen seen = BH__SEEN__INIT, *list = &seen;
	Bh__Envelope body = BH__ENVELOPE__INIT;

	seen.device = (char *)"net0";
	seen.generation = device->observed->generation;
	watch.seen = &list;
	watch.n_seen = 1;
	watch.patient = true;
	body.body_case = BH__ENVELOPE__BODY_WATCH_OBSERVED;
	body.watch_observed = &watch;
	ask(RIG_FRONTEND, &body);
	ck_assert_ptr_nonnull(rig_memory.watch);
}

static const Bh__CommitDesiredReply *answer(void)
{
	const Bh__Envelope *body = rig_answer(RIG_FRONTEND);

	if (!body || body->body_case != BH__ENVELOPE__BODY_COMMIT_DESIRED_REPLY)
		return NULL;
	return body->commit_desired_reply;
}

static void set_up(void)
{
	rig_open(NULL);
	device = &rig_memory.devices[0];
	device->n_attached = 1;
	report(0);
	watch();
}

START_TEST(test_answer_comes_with_the_report)
{
	commit(8, "", true);
	ck_assert_ptr_null(answer());
	ck_assert_uint_eq(device->desired->generation, 8);
	report(7);
	ck_assert(!answer() || answer()->generation != 8);
	commit(9, "", true);
	report(9);
	ck_assert_uint_eq(answer()->generation, 9);
	ck_assert_str_eq(answer()->refused, "");
	ck_assert_uint_eq(answer()->observed->applied, 9);
	ck_assert_uint_eq(answer()->observed->features, 77);
}
END_TEST

START_TEST(test_report_that_was_told_is_no_news)
{
	commit(8, "", true);
	report(8);
	ck_assert_ptr_nonnull(answer()->observed);
	ck_assert_ptr_nonnull(rig_memory.watch);
	report(8);
	ck_assert_ptr_null(rig_memory.watch);
}
END_TEST

START_TEST(test_worker_that_is_gone_is_not_waited_for)
{
	device->n_attached = 0;
	commit(8, "", true);
	ck_assert_uint_eq(answer()->generation, 8);
	ck_assert(answer()->worker_gone && !answer()->observed);
}
END_TEST

/* Its report is news then. */
START_TEST(test_worker_that_is_slow_is_not_waited_for)
{
	commit(8, "", true);
	sd_event_source_set_time(rig_memory.holding, 0);
	rig_turn();
	ck_assert_uint_eq(answer()->generation, 8);
	ck_assert(!answer()->observed && !device->commit);
	report(8);
	ck_assert_ptr_null(rig_memory.watch);
}
END_TEST

START_TEST(test_refused_commit_is_answered_at_once)
{
	commit(8, "two\nlines", true);
	ck_assert_str_ne(answer()->refused, "");
	ck_assert_uint_eq(answer()->generation, 0);
}
END_TEST

/* One that was repeated: nobody knows which of the two the frontend still waits for. */
START_TEST(test_repeated_commit_is_answered_at_once)
{
	commit(8, "", true);
	commit(8, "", true);
	ck_assert(answer()->stale && !answer()->observed);
	ck_assert_ptr_nonnull(device->commit);
	report(8);
	ck_assert(!answer()->stale && answer()->observed->applied == 8);
}
END_TEST

START_TEST(test_who_does_not_wait_is_answered_at_once)
{
	commit(8, "", false);
	ck_assert_uint_eq(answer()->generation, 8);
	ck_assert_ptr_null(device->commit);
}
END_TEST

START_TEST(test_frontend_that_leaves_is_not_answered)
{
	commit(8, "", true);
	rig_leave(RIG_FRONTEND);
	ck_assert_ptr_null(device->commit);
	report(8);
	ck_assert_ptr_null(answer());
}
END_TEST

/* --- Who serves --- */

static bool stands_by(enum rig_peer peer)
{
	Bh__GetStatus status = BH__GET_STATUS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	const Bh__GetStatusReply *reply;

	body.body_case = BH__ENVELOPE__BODY_GET_STATUS;
	body.get_status = &status;
	ask(RIG_CTL, &body);
	reply = rig_answer(RIG_CTL)->get_status_reply;
	for (size_t i = 0; i < reply->n_peers; i++)
		if (strcmp(reply->peers[i]->name, rig_memory.peers[peer].name) == 0)
			return reply->peers[i]->standby;
	ck_abort_msg("no status of that process");
}

/* One that is alone is no standby: who replaces it waits for one that serves. */
START_TEST(test_nobody_stands_by_before_another_one_serves)
{
	rig_memory.peers[RIG_NET0].pid = rig_memory.peers[RIG_STANDBY].pid = 1;
	device->serving = NULL; /* as after a restart of memory */
	ck_assert(!stands_by(RIG_NET0) && !stands_by(RIG_STANDBY));
	commit(8, "", true);
	report(8);
	ck_assert(!stands_by(RIG_NET0) && stands_by(RIG_STANDBY));
	rig_memory.peers[RIG_NET0].pid = rig_memory.peers[RIG_STANDBY].pid = 0;
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("held");

	tcase_add_checked_fixture(tc, set_up, rig_close);
	tcase_add_test(tc, test_answer_comes_with_the_report);
	tcase_add_test(tc, test_nobody_stands_by_before_another_one_serves);
	tcase_add_test(tc, test_report_that_was_told_is_no_news);
	tcase_add_test(tc, test_worker_that_is_gone_is_not_waited_for);
	tcase_add_test(tc, test_worker_that_is_slow_is_not_waited_for);
	tcase_add_test(tc, test_refused_commit_is_answered_at_once);
	tcase_add_test(tc, test_repeated_commit_is_answered_at_once);
	tcase_add_test(tc, test_who_does_not_wait_is_answered_at_once);
	tcase_add_test(tc, test_frontend_that_leaves_is_not_answered);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("held", add_tests);
}
