#include "device/polling.h"

#include <sched.h>

#include "base/bytes.h"

#define SHORTEST_NS 2000
/* A look takes a microsecond or two. When the next one comes that much later, another thread had
 * the processor. */
#define TAKEN_NS 20000

void polling_worked(struct polling *polling, uint64_t now_ns)
{
	polling->work_ns = now_ns;
	polling->look_ns = 0;
}

bool polling_again(struct polling *polling, uint64_t now_ns)
{
	uint64_t since = polling->look_ns ? now_ns - polling->look_ns : 0;

	polling->look_ns = now_ns;
	if (since > TAKEN_NS)
		polling->window_ns = 0;
	if (now_ns - polling->work_ns >= polling->window_ns)
		return false;
	(void)sched_yield();
	return true;
}

/* Twice the pause, since the next one is hardly ever the same. */
void polling_woke(struct polling *polling, uint64_t now_ns)
{
	uint64_t pause = now_ns - polling->work_ns;

	if (pause < polling->limit_ns)
		polling->window_ns = MIN(2 * pause, polling->limit_ns);
	else if (polling->window_ns < 2 * SHORTEST_NS)
		polling->window_ns = 0;
	else
		polling->window_ns /= 2;
}
