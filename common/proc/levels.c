#include "proc/levels.h"

#include <signal.h>
#include <stdbool.h>

#include "base/log.h"
#include "base/bytes.h"

static int on_level(sd_event_source *source, const struct signalfd_siginfo *info, void *data)
{
	bool debug = (int)info->ssi_signo == LEVELS_DEBUG;

	log_set_debug(debug);
	log_notice("lines for debugging are %s from now on", debug ? "shown" : "not shown");
	return 0;
}

int levels_watch(sd_event *event)
{
	const int signals[] = { LEVELS_DEBUG, LEVELS_USUAL };
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&mask, signals[i]);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int r = sd_event_add_signal(event, NULL, signals[i], on_level, NULL);

		if (r < 0)
			return r;
	}
	return 0;
}
