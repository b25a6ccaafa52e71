#include "victims.h"

#include <check.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "lib/patience.h"

unsigned int victims_pids(const struct victims *victims, size_t victim, pid_t *ret_pids)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n = suite_processes(victims->suite, all, SUITE_MAX_PROCESSES);
	unsigned int n_pids = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < victims->n_roles; k++)
			if ((victim == k || victim == victims->n_roles - 1) &&
				!strcmp(all[i].role, victims->roles[k]) && n_pids < STEPPER_MAX)
				ret_pids[n_pids++] = all[i].pid;
	return n_pids;
}

void victims_await(const struct victims *victims)
{
	pid_t pids[STEPPER_MAX];
	unsigned int n = 0;

	for (int ms = 0; n != victims->n_roles && ms < test_ms(victims->wait_ms); ms++) {
		n = victims_pids(victims, victims->n_roles - 1, pids);
		if (n != victims->n_roles)
			poll(NULL, 0, 1);
	}
	ck_assert_uint_eq(n, victims->n_roles);
}

void victims_kill(const struct victims *victims, size_t victim)
{
	pid_t pids[STEPPER_MAX];
	unsigned int n = victims_pids(victims, victim, pids);

	for (unsigned int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
}

struct stepper_report victims_try(const struct victims *victims, size_t victim, bool restart,
	uint32_t point, void (*work)(void))
{
	struct stepper_plan plan = { .kill_at = point };
	struct stepper_report report;
	struct stepper stepper;

	victims_await(victims);
	if (restart)
		plan.parent = victims->suite->pid;
	else
		plan.n_pids = victims_pids(victims, victim, plan.pids);
	ck_assert_int_eq(stepper_arm(&stepper, &plan), 0);
	if (restart)
		victims_kill(victims, victim);
	work();
	ck_assert_int_eq(stepper_disarm(&stepper, &report), 0);
	victims_await(victims);
	work();
	return report;
}
