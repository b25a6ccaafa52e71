/*
 * Where a ring goes on, computed from the record, the worker's report and what was heard besides: a
 * row for each combination that counts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/run.h"
#include "rings.h"

#define GENERATION 10
#define START 7 /* the start that the ring is at */

/* The four places of a position, all different. */
enum { RECORD = 100, REPORT = 200, HEARD = 300 };

/** struct row - what each of them says, and which one counts */
struct row {
	const char *name;
	bool started;
	uint64_t start_id; /* 0 = its position was set since it stopped, or it never started */
	uint64_t applied;
	bool reported;
	uint64_t report_start; /* 0 = a worker of a former release, which does not say */
	uint64_t heard_start;  /* 0 = nothing was heard */
	uint32_t position;
};

static const struct row rows[] = {
	/* name, started, start_id, applied, reported, report's start, heard's start, position */
	{ "never started", false, 0, 10, false, 0, 0, RECORD },
	{ "base was set since it stopped", false, 0, 10, true, START, START, RECORD },
	{ "base was set since it stopped, former worker", false, 0, 10, true, 0, 0, RECORD },
	{ "runs, and the report has where it began", true, START, 10, true, START, 0, RECORD },
	{ "runs, and something was heard", true, START, 9, true, START, START, RECORD },
	{ "stopped, and applied", false, START, 10, true, START, 0, REPORT },
	{ "stopped, and more than that applied", false, START, 11, true, START, 0, REPORT },
	{ "stopped, and applied by a former worker", false, START, 10, true, 0, 0, REPORT },
	{ "the worker knows better than the ledger", false, START, 10, true, START, START, REPORT },
	{ "applied, but the report is of another start", false, START, 10, true, START - 1, 0,
		RECORD },
	{ "applied, another start, and heard", false, START, 10, true, START - 1, START, HEARD },
	{ "applied, but the report leaves it out", false, START, 10, false, 0, START, HEARD },
	{ "the ledger knows better than a worker that is behind", false, START, 9, true, START,
		START, HEARD },
	{ "heard of another start, and behind", false, START, 9, true, START, START - 1, REPORT },
	{ "behind, and nothing was heard", false, START, 9, true, START, 0, REPORT },
	{ "behind, and a former worker", false, START, 9, true, 0, 0, REPORT },
	{ "behind, and nobody says anything", false, START, 9, false, 0, 0, RECORD },
	{ "behind, and both are of another start", false, START, 9, true, START - 1, START - 1,
		RECORD },
};

/** struct world - a record of one ring and a report of it */
struct world {
	Bh__Ring ring, *rings[1];
	Bh__RingState state, *states[1];
	Bh__Desired desired;
	Bh__Observed observed;
	struct heard heard;
};

static void make(struct world *w, uint32_t index)
{
	memset(w, 0, sizeof(*w));
	bh__ring__init(&w->ring);
	bh__ring_state__init(&w->state);
	bh__desired__init(&w->desired);
	bh__observed__init(&w->observed);
	w->rings[0] = &w->ring;
	w->states[0] = &w->state;
	w->desired.rings = w->rings;
	w->observed.rings = w->states;
	w->desired.n_rings = w->observed.n_rings = 1;
	w->desired.generation = w->observed.applied = GENERATION;
	w->ring.index = w->state.index = index;
	w->ring.position = RECORD;
	w->ring.start_id = w->state.start_id = START;
	w->state.position = REPORT;
}

START_TEST(test_position_is_the_best_word)
{
	const struct row *row = &rows[_i];
	struct world w;

	make(&w, 3);
	w.ring.started = row->started;
	w.ring.start_id = row->start_id;
	w.observed.applied = row->applied;
	w.observed.n_rings = row->reported;
	w.state.start_id = row->report_start;
	w.heard.rings[3].start_id = row->heard_start;
	w.heard.rings[3].position = HEARD;
	ck_assert_msg(ring_position(&w.desired, &w.observed, &w.heard, &w.ring) == row->position,
		"%s: not %u", row->name, row->position);
	rings_settle(&w.desired, &w.desired, &w.observed, &w.heard);
	ck_assert_uint_eq(w.ring.position, row->position);
}
END_TEST

START_TEST(test_only_what_is_about_a_stopped_ring_is_heard)
{
	struct world w;

	make(&w, 3);
	w.ring.started = true;
	rings_hear(&w.heard, &w.desired, w.states, 1);
	w.ring.started = false;
	w.state.start_id = START - 1;
	rings_hear(&w.heard, &w.desired, w.states, 1);
	w.state.start_id = START;
	w.state.index = 4;
	rings_hear(&w.heard, &w.desired, w.states, 1);
	ck_assert_uint_eq(w.heard.rings[3].start_id, 0);
	ck_assert_uint_eq(w.heard.rings[4].start_id, 0);
	w.state.index = 3;
	w.state.start_id = 0;
	rings_hear(&w.heard, &w.desired, w.states, 1);
	ck_assert_uint_eq(w.heard.rings[3].start_id, START);
	ck_assert_uint_eq(w.heard.rings[3].position, REPORT);
}
END_TEST

/* A worker or a memory manager that lies. */
START_TEST(test_index_beyond_all_rings_is_heard_by_nobody)
{
	struct world w;

	make(&w, UINT32_MAX);
	rings_hear(&w.heard, &w.desired, w.states, 1);
	ck_assert_uint_eq(ring_position(&w.desired, &w.observed, &w.heard, &w.ring), REPORT);
	w.observed.n_rings = 0;
	ck_assert_uint_eq(ring_position(&w.desired, &w.observed, &w.heard, &w.ring), RECORD);
}
END_TEST

START_TEST(test_ring_runs_when_nothing_is_missing)
{
	struct world w;

	make(&w, 0);
	w.ring.started = w.ring.has_addresses = true;
	w.ring.size = 256;
	w.desired.n_regions = 1;
	ck_assert(ring_runs(&w.desired, &w.observed, &w.ring));
	ck_assert_ptr_eq(ring_any_runs(&w.desired, &w.observed), &w.ring);
	w.state.error = (char *)"broken";
	w.state.error_start_id = START - 1;
	ck_assert(ring_runs(&w.desired, &w.observed, &w.ring));
	w.state.error_start_id = START;
	ck_assert(ring_failed(&w.observed, &w.ring) &&
		!ring_runs(&w.desired, &w.observed, &w.ring));
	w.state.error = (char *)"";
	w.ring.size = 0;
	ck_assert(!ring_runs(&w.desired, &w.observed, &w.ring));
	w.ring.size = 256;
	w.desired.n_regions = 0;
	ck_assert_ptr_null(ring_any_runs(&w.desired, &w.observed));
}
END_TEST

START_TEST(test_running_ring_is_held_only_while_it_is_disabled)
{
	struct world w;

	make(&w, 0);
	w.ring.started = w.ring.has_addresses = w.ring.enabled = true;
	w.ring.size = 256;
	w.desired.n_regions = 1;
	ck_assert(!ring_hold(&w.desired, &w.observed, &w.ring));
	ck_assert_int_eq(rings_hold(&w.desired, &w.observed, &w.desired), -EBUSY);
	ring_enable(&w.desired, &w.ring, false);
	ck_assert(w.ring.started && !w.ring.enabled);
	ck_assert_int_eq(rings_hold(&w.desired, &w.observed, &w.desired), 1);
	ck_assert(!w.ring.started && w.ring.held && w.ring.start_id == START);
	ring_enable(&w.desired, &w.ring, true);
	ck_assert(w.ring.started && !w.ring.held && w.ring.start_id == GENERATION);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("positions");

	tcase_add_loop_test(tc, test_position_is_the_best_word, 0,
		(int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_test(tc, test_only_what_is_about_a_stopped_ring_is_heard);
	tcase_add_test(tc, test_index_beyond_all_rings_is_heard_by_nobody);
	tcase_add_test(tc, test_ring_runs_when_nothing_is_missing);
	tcase_add_test(tc, test_running_ring_is_held_only_while_it_is_disabled);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("positions", add_tests);
}
