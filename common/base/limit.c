/* Time is divided into windows. A flood costs LIMIT_FIRST lines in its first window, and one line
 * in each later one. */
#include "base/limit.h"

static void begin_window(struct limit *limit, uint64_t now_ms)
{
	bool flood = limit->more && now_ms - limit->since_ms < 2 * LIMIT_WINDOW_MS;

	limit->room = flood ? 1 : LIMIT_FIRST;
	limit->used = 0;
	limit->since_ms = now_ms;
}

struct limit_told limit_tell(struct limit *limit, uint64_t now_ms)
{
	struct limit_told told = { 0 };

	if (limit->more)
		told = (struct limit_told){ .more = limit->more,
			.seconds = (unsigned int)((now_ms - limit->counted_ms + 999) / 1000) };
	limit->more = 0;
	return told;
}

bool limit_pass(struct limit *limit, uint64_t now_ms, struct limit_told *ret)
{
	if (!limit->room || now_ms - limit->since_ms >= LIMIT_WINDOW_MS)
		begin_window(limit, now_ms);
	if (limit->used < limit->room) {
		limit->used++;
		*ret = limit_tell(limit, now_ms);
		return true;
	}
	if (limit->more++ == 0)
		limit->counted_ms = now_ms;
	return false;
}

bool limit_due(struct limit *limit, uint64_t now_ms, struct limit_told *ret)
{
	if (!limit->more || now_ms - limit->since_ms < 2 * LIMIT_WINDOW_MS)
		return false;
	*ret = limit_tell(limit, now_ms);
	limit->room = 0;
	return true;
}
