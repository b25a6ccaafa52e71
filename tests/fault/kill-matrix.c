/*
 * The kill matrix: each process, and all of them at once, is killed before and after every system
 * call it makes in each phase of its work; after each kill the VMM must have noticed nothing.
 *
 * 	kill-matrix [PHASE [PROCESS [POINT]]]
 *
 * An ordinary run tries points spread evenly over each cell, other ones each time, and the same
 * ones again with the BULKHEAD_SEED that it printed; BULKHEAD_FULL=1 tries all.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/roles.h"
#include "lib/patience.h"
#include "dirty.h"
#include "moves.h"
#include "stepper.h"
#include "world.h"

#define SAMPLE 24 /* points of a cell in an ordinary run */
#define BATCH 64  /* chains that a worker takes in one turn at most */
#define SHOWN 12  /* failures of a cell that are told */
#define HOT_GPA (UINT64_C(64) << 30)
#define HOT_BYTES (UINT64_C(4) << 20)

#define N_VICTIMS                                                                                  \
	(ROLES_PER_GUEST +                                                                         \
		2) /* the processes of a guest with one device, and all of them at once */

/** struct phase - a piece of work, done while the tracer counts */
struct phase {
	const char *name;
	enum vmm vmm; /* who must be connected when it begins */
	int (*act)(struct world *w);
	bool restart; /* a kill comes first, and its successor's steps are the points */
	int (*prepare)(struct world *w); /* before anybody dies; NULL = nothing */
	bool brief; /* an ordinary run tries half as many points: the act is long */
};

/** struct cell - the outcome of one process in one phase */
struct cell {
	uint32_t n_steps; /* of an undisturbed run */
	uint32_t tried, survived, every, first;
	/* killed between accept4() and the next system call: no one could keep it */
	uint32_t too_early;
	double slowest; /* seconds */
};

/* --- the phases --- */

static int act_handshake(struct world *w)
{
	int e = world_handshake(w);

	return e ? e : world_move(w, 8);
}

/* Frames; and a change that every process has to do with, in the midst of them. */
static int act_running(struct world *w)
{
	int e = world_move(w, 16);

	if (!e)
		e = world_change(w);
	return e ? e : world_move(w, 16);
}

/* The replies that carry a descriptor. */
static int act_inflight(struct world *w)
{
	int e = world_inflight(w);

	return e ? e : world_move(w, 8);
}

static const struct vu_region hot = {
	.gpa = HOT_GPA, .size = HOT_BYTES, .uva = UINT64_C(0x7e0000000000)
};

/* One frame out of the new region. */
static int use_hot(struct world *w)
{
	struct net *n = &w->vm.n;
	uint64_t *top = &n->free_tx[0][n->n_free_tx[0] - 1];
	uint64_t usual = *top;
	int e;

	*top = guest_alloc_in(&n->g, n->g.n_regions - 1, 2048, 64);
	e = world_move(w, 0);
	for (uint16_t i = 0; i < n->n_free_tx[0]; i++)
		if (n->free_tx[0][i] >= HOT_GPA)
			n->free_tx[0][i] = usual;
	return e;
}

static int act_memory(struct world *w)
{
	struct net *n = &w->vm.n;
	int e = guest_add_region(&n->g, &hot);

	if (!e)
		e = vu_add_mem_reg(&n->c, &hot, n->g.regions[n->g.n_regions - 1].fd);
	if (e)
		return world_fail(w, e, "ADD_MEM_REG");
	e = use_hot(w);
	if (!e)
		e = world_fail(w, net_set_memory(n), "SET_MEM_TABLE");
	if (!e)
		e = world_move(w, 2);
	if (!e)
		e = world_fail(w, vu_rem_mem_reg(&n->c, &hot, -1), "REM_MEM_REG");
	guest_remove_region(&n->g, HOT_GPA);
	return e ? e : world_move(w, 2);
}

/* QEMU's last words, and the next VMM's first: only then has the product let go of the former. */
static int act_disconnect(struct world *w)
{
	struct replay *r = &w->vm;
	size_t i = 0;
	int e = 0;

	while (!replay_ends(&w->events[i]))
		i++;
	for (; !e && i < w->n_events && !w->events[i].closed; i++)
		e = replay_event(r, &w->events[i]);
	if (e)
		return world_fail(w, e, r->why);
	if (vu_expect_silence(&r->n.c, 0))
		return world_fail(w, -EPROTO, "a reply too many");
	world_hang_up(w);
	e = world_join(w, VMM_SPLIT);
	return e ? e : world_move(w, 8);
}

static int act_restart(struct world *w)
{
	int e = world_move(w, 8);

	if (!e)
		e = world_change(w);
	return e ? e : world_move(w, 8);
}

static int stop_and_start(struct world *w, struct dirty *d)
{
	struct net *n = &w->vm.n;
	int e = 0;

	for (uint16_t i = 0; !e && i < 2; i++)
		e = world_fail(w, net_stop_ring(n, i), "GET_VRING_BASE");
	if (!e)
		e = world_fail(w, dirty_check(d, n, WORLD_FRAME_BYTES), "the dirty log");
	for (uint16_t i = 0; !e && i < 2; i++)
		e = world_fail(w, net_start_ring(n, i), "starting the rings again");
	return e;
}

/* A migration that fails at its very end: the guest goes on here, and nobody logs any more. */
static int act_migrate(struct world *w)
{
	struct net *n = &w->vm.n;
	struct dirty d;
	int e = world_fail(w, dirty_begin(&d, n), "switching the log on");

	if (!e)
		e = world_move(w, 16);
	if (!e)
		e = stop_and_start(w, &d);
	if (!e)
		e = world_move(w, 8);
	if (!e)
		e = world_fail(w, dirty_end(&d, n), "switching the log off");
	if (!e)
		e = world_move(w, 8);
	if (!e)
		e = world_fail(w, dirty_is_clean(&d, n), "the dirty log");
	dirty_free(&d);
	return e;
}

static const struct phase phases[] = {
	{ "handshake", VMM_NONE, act_handshake, false },
	{ "running-split", VMM_SPLIT, act_running, false },
	{ "running-packed", VMM_PACKED, act_running, false },
	{ "inflight", VMM_NONE, act_inflight, false },
	{ "memory", VMM_SPLIT, act_memory, false },
	{ "disconnect", VMM_LOGGED, act_disconnect, false },
	{ "migrate-split", VMM_SPLIT, act_migrate, false },
	{ "migrate-packed", VMM_PACKED, act_migrate, false },
	{ "restart-split", VMM_SPLIT, act_restart, true },
	{ "restart-packed", VMM_PACKED, act_restart, true },
	{ "save", VMM_SPLIT, moves_save, .brief = true },
	{ "load", VMM_SPLIT, moves_load, .prepare = moves_prepare, .brief = true },
};

#define N_PHASES (sizeof(phases) / sizeof(phases[0]))

/* --- one try --- */

static void kill_role(const struct world *w, const char *role)
{
	pid_t pids[SUITE_MAX_PROCESSES];
	size_t n = world_pids(w, role, pids, SUITE_MAX_PROCESSES);

	for (size_t i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
}

/* A kill may cost the batch that the worker has in hand; without the worker's death there is no
 * loss. */
static int check_loss(struct world *w, const char *role, const struct traffic *before)
{
	bool worker = !strcmp(role, suite_type(&w->device)) || !strcmp(role, "all");
	uint64_t lost = w->traffic.n_lost - before->n_lost;
	uint64_t repeated = w->traffic.n_repeated - before->n_repeated;
	char text[80];

	snprintf(text, sizeof(text), "%lu frames lost, %lu repeated", lost, repeated);
	if (lost + repeated > (worker ? BATCH : 0))
		return world_fail(w, -EBADMSG, text);
	return 0;
}

static int try_point(struct world *w, const struct phase *phase, const char *role, uint32_t point,
	struct stepper_report *ret)
{
	struct stepper_plan plan = { .kill_at = point };
	struct traffic before = w->traffic;
	struct stepper stepper;
	int e = world_connect(w, phase->vmm);

	if (!e && phase->prepare)
		e = phase->prepare(w);
	if (e)
		return e;
	if (phase->restart)
		plan.parent = w->suite.pid;
	else
		plan.n_pids = (unsigned int)world_pids(w, role, plan.pids, STEPPER_MAX);
	e = world_fail(w, stepper_arm(&stepper, &plan), "the tracer");
	if (e)
		return e;
	if (phase->restart)
		kill_role(w, role);
	e = phase->act(w);
	if (stepper_disarm(&stepper, ret))
		return world_fail(w, -EIO, "the tracer's report");
	if (!e)
		e = world_wait(w);
	if (!e)
		e = world_check(w);
	return e ? e : check_loss(w, role, &before);
}

/* The one window: the connection was accepted, and the very next call would have stored it,
 * whichever thread was at the step where all of them died. */
static bool is_too_early(const struct world *w, const struct stepper_report *r)
{
	return r->reached && strstr(w->why, strerror(ECONNRESET)) && r->accepting;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* --- a cell --- */

static void tell_failure(struct world *w, const struct stepper_report *r, uint32_t point)
{
	printf("#   point %u (%s %s system call %u of thread %d): %s\n", point,
		r->reached ? "killed" : "not reached", r->before ? "before" : "after", r->call,
		r->pid, w->why);
	printf("#   product's directory: %s\n", w->suite.dir);
	fflush(stdout);
}

/* true: there may be more points */
static bool run_point(struct world *w, const struct phase *phase, const char *role, uint32_t point,
	struct cell *cell)
{
	struct stepper_report report = { 0 };
	double start = now(), took;
	int e = try_point(w, phase, role, point, &report);

	took = now() - start;
	cell->slowest = took > cell->slowest ? took : cell->slowest;
	cell->n_steps = report.n_steps > cell->n_steps ? report.n_steps : cell->n_steps;
	if (report.reached)
		cell->tried++;
	if (!e) {
		cell->survived += report.reached;
		return report.reached;
	}
	if (!report.reached)
		cell->tried++;
	if (is_too_early(w, &report)) {
		cell->too_early++;
		w->why[0] = 0;
		world_hang_up(w);
		return true;
	}
	if (cell->tried - cell->survived <= SHOWN)
		tell_failure(w, &report, point);
	w->why[0] = 0;
	if (world_renew(w))
		printf("Bail out! the product does not start anew: %s\n", w->why);
	return true;
}

static void run_cell(struct world *w, const struct phase *phase, const char *role, uint32_t only,
	struct cell *cell)
{
	uint32_t n_steps, sample = phase->brief ? SAMPLE / 2 : SAMPLE;

	*cell = (struct cell){ .every = 1, .first = 1 };
	if (only) {
		run_point(w, phase, role, only, cell);
		return;
	}
	run_point(w, phase, role, STEPPER_NEVER, cell);
	run_point(w, phase, role, STEPPER_NEVER, cell);
	n_steps = cell->n_steps;
	if (!getenv("BULKHEAD_FULL") && n_steps > sample) {
		cell->every = n_steps / sample;
		cell->first += test_seed() % cell->every;
	}
	for (uint32_t point = cell->first; point <= n_steps; point += cell->every)
		run_point(w, phase, role, point, cell);
	/* runs differ: go on until one ends before its point comes */
	for (uint32_t i = 1; cell->every == 1 && n_steps; i++)
		if (!run_point(w, phase, role, n_steps + i, cell))
			break;
}

static bool is_good(const struct cell *cell)
{
	return cell->tried == cell->survived + cell->too_early;
}

static void report_cell(int number, const struct phase *phase, const char *role,
	const struct cell *cell)
{
	printf("%s %d - kill %s, %s: %u points tried, %u survived", is_good(cell) ? "ok" : "not ok",
		number, role, phase->name, cell->tried, cell->survived);
	if (cell->too_early)
		printf(", %u between accept4() and the next call", cell->too_early);
	printf(" (every %u. from %u. of about %u steps; slowest %.1f s)\n", cell->every,
		cell->first, cell->n_steps, cell->slowest);
	fflush(stdout);
}

/* --- the matrix --- */

static const char *victim(const struct world *w, size_t k)
{
	return k + 1 < N_VICTIMS ? world_role(w, k) : "all";
}

static void print_matrix(const struct world *w, const struct cell cells[N_PHASES][N_VICTIMS])
{
	printf("# %-16s", "survived/tried");
	for (size_t k = 0; k < N_VICTIMS; k++)
		printf("%16s", victim(w, k));
	for (size_t i = 0; i < N_PHASES; i++) {
		printf("\n# %-16s", phases[i].name);
		for (size_t k = 0; k < N_VICTIMS; k++) {
			char text[32] = "-";

			if (cells[i][k].every)
				snprintf(text, sizeof(text), "%u/%u", cells[i][k].survived,
					cells[i][k].tried);
			printf("%16s", text);
		}
	}
	printf("\n");
}

static bool wanted(int argc, char **argv, int at, const char *name)
{
	return argc <= at || !strncmp(name, argv[at], strlen(argv[at]));
}

/* covers: P2 P3 P6 */
int main(int argc, char **argv)
{
	static struct world w;
	static struct cell cells[N_PHASES][N_VICTIMS];
	uint32_t only = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
	bool failed = false;
	int number = 0;

	if (world_open(&w, NULL)) {
		printf("Bail out! %s\n", w.why);
		return 1;
	}
	if (world_connect(&w, VMM_LOGGED))
		printf("Bail out! an undisturbed session fails: %s\n", w.why);
	for (size_t i = 0; i < N_PHASES; i++)
		for (size_t k = 0; k < N_VICTIMS; k++) {
			struct cell *cell = &cells[i][k];

			if (!wanted(argc, argv, 1, phases[i].name) ||
				!wanted(argc, argv, 2, victim(&w, k)))
				continue;
			run_cell(&w, &phases[i], victim(&w, k), only, cell);
			report_cell(++number, &phases[i], victim(&w, k), cell);
			failed |= !is_good(cell);
		}
	printf("1..%d\n", number);
	print_matrix(&w, cells);
	printf("# frames: %lu sent, %lu lost, %lu repeated; at most %u lost, %u repeated in a run\n",
		w.traffic.n_sent, w.traffic.n_lost, w.traffic.n_repeated, w.traffic.worst_lost,
		w.traffic.worst_repeated);
	if (world_close(&w))
		printf("Bail out! at the end: %s\n", w.why);
	return failed;
}
