#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * The rate limit of log lines that others can cause. The first lines of a kind are logged, later
 * ones are counted, and the count is logged with the next line that passes. A kind that was quiet
 * for two windows starts again.
 */

#define LIMIT_FIRST 10 /* lines in the first window */
#define LIMIT_WINDOW_MS 10000

/** struct limit - the state of one kind of line; zeros = none was logged. Written by
 * limit_pass() */
struct limit {
	uint64_t since_ms;   /* start of the window; 0 = none yet */
	uint64_t counted_ms; /* time of the first line counted in `more` */
	unsigned int used;   /* lines logged in this window */
	unsigned int room;   /* lines allowed in this window */
	unsigned int more;   /* suppressed lines that were not reported yet */
};

/** struct limit_told - what to report with a line: how many lines were suppressed, in how many
 * seconds; 0 = none */
struct limit_told {
	unsigned int more;
	unsigned int seconds;
};

/** limit_pass() - whether a line may be logged now; *ret is set only if it may */
bool limit_pass(struct limit *limit, uint64_t now_ms, struct limit_told *ret);

/** limit_tell() - fetch the count of suppressed lines, and reset it */
struct limit_told limit_tell(struct limit *limit, uint64_t now_ms);

/** limit_due() - whether suppressed lines must be reported although no further line came; *ret is
 * set only if so, and the count is reset */
bool limit_due(struct limit *limit, uint64_t now_ms, struct limit_told *ret);
