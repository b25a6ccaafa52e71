#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a process dies of. Before an input that others wrote is handled, it is named here; if the process then
 * dies by a signal of its own making, the name goes into a mark that outlives it, and is counted as long as
 * the same input is named at each death. Whoever finds a mark at BLAME_LIMIT leaves that device alone.
 */

#define BLAME_LIMIT 3
#define BLAME_WHICH_ANY UINT32_MAX /* not one, but several of that kind */
#define BLAME_HUNG (1u << 31)      /* in `signal`: it did not die by itself, it was ended because it hung */
#define BLAME_HUNG_SEC 60          /* who has not hung for so long has got over it */

/** struct blame_mark - shared memory that outlives the process; zeros = nobody died. Written by the dying */
struct blame_mark {
	uint64_t what;      /* the input, in its owner's terms */
	uint64_t which;
	uint64_t when_usec; /* of the last death; CLOCK_REALTIME */
	uint32_t deaths;    /* running, by this input */
	uint32_t signal;    /* of the last one; with BLAME_HUNG */
};

/** struct blame_here - what this thread handles; mark NULL = nothing that anybody else wrote */
struct blame_here {
	struct blame_mark *mark;
	uint64_t what;
	uint64_t which;
};

extern _Thread_local struct blame_here blame_here __attribute__((tls_model("initial-exec"))); /* set per chain */

/** blame_install() - catch the signals that a broken process ends with; before any other handler for them.
 * What was installed before is called afterwards. 0 | negative errno */
int blame_install(void);

/** blame_thread_begin() - this thread handles inputs, too: it has a stack for its last words, and when another
 * thread is told to abort because this one hangs, what this one handles is named. Until blame_thread_end() */
void blame_thread_begin(void);
void blame_thread_end(void);

static inline void blame_set(struct blame_mark *mark, uint64_t what, uint64_t which)
{
	blame_here = (struct blame_here){ .mark = mark, .what = what, .which = which };
}

static inline void blame_unset(void)
{
	blame_here.mark = NULL;
}

/** BLAME_SCOPE() - blame_set() until the block ends, whichever way it is left; then what was named before is again */
#define BLAME_SCOPE(mark, what, which)                                                             \
	struct blame_here _blame_before __attribute__((cleanup(blame_leave), unused)) = blame_here;        \
	blame_set(mark, what, which)

static inline void blame_leave(const struct blame_here *before)
{
	blame_here = *before;
}

/** blame_finish() - what this thread handled is done, and did no harm: blame_acquit() and blame_unset() */
void blame_finish(void);

/** blame_acquit() - this input did no harm: if the mark is about it, and has not come to the limit, it is void */
void blame_acquit(struct blame_mark *mark, uint64_t what, uint64_t which);

/** blame_may_acquit() - whether success of an input proves anything: who hangs does so over the next one, too,
 * and what it has done before is no proof; time is */
bool blame_may_acquit(const struct blame_mark *mark);

/** blame_describe() - "killed it 3 times running, last by SIGSEGV" */
const char *blame_describe(const struct blame_mark *mark, char *buf, unsigned int n);
