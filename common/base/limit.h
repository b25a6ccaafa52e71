#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * How often a line may be logged that others can cause. The first ones of a kind are; then it is counted, and told once
 * in a while with one more of them. A kind that was quiet for a while begins anew.
 */

#define LIMIT_FIRST 10        /* lines in the first window */
#define LIMIT_WINDOW_MS 10000

/** struct limit - of one kind of line; zeros = none yet. Written by limit_pass() */
struct limit {
	uint64_t since_ms;   /* when the window began; 0 = there was none */
	uint64_t counted_ms; /* since when `more` is counted */
	unsigned int used;   /* lines of this window */
	unsigned int room;   /* how many it has */
	unsigned int more;   /* left out, and not told yet */
};

/** struct limit_told - what goes with a line: how many were left out, and in how many seconds; 0 = none */
struct limit_told {
	unsigned int more;
	unsigned int seconds;
};

/** limit_pass() - whether a line may be logged now; fills *ret if it may */
bool limit_pass(struct limit *limit, uint64_t now_ms, struct limit_told *ret);

/** limit_tell() - what was left out, which is then told */
struct limit_told limit_tell(struct limit *limit, uint64_t now_ms);

/** limit_due() - whether what was left out is due to be told, though no more of that kind has come; fills *ret, which
 * is then told */
bool limit_due(struct limit *limit, uint64_t now_ms, struct limit_told *ret);
