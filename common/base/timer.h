#pragma once

#include <systemd/sd-event.h>

/* One-shot timers: event sources of the loop that go off once. They are made disabled. */

/** timer_after() - go off in so long, whatever was set before */
static inline void timer_after(sd_event_source *timer, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(timer, usec);
	(void)sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/** timer_stop() - do not go off; NULL is fine */
static inline void timer_stop(sd_event_source *timer)
{
	if (timer)
		(void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
}
