#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A crash counter that knows its cause. A thread names each untrusted input before it handles it.
 * If the process then dies of a fault, the handler stores that name in a mark, which outlives the
 * process, and counts the death. The count goes on for as long as every death names the same input.
 * A successor that finds a mark at BLAME_LIMIT does not serve that device any more.
 */

#define BLAME_LIMIT 3
#define BLAME_WHICH_ANY UINT32_MAX /* several inputs of that kind */
#define BLAME_HUNG (1u << 31)      /* in `signal`: a watchdog ended the process */
#define BLAME_HUNG_SEC 60          /* without a hang for so long, the count starts again */

/** struct blame_mark - shared memory that outlives the process; zeros = no death. Written by the
 * signal handler of the dying process */
struct blame_mark {
	uint64_t what; /* the input, in its owner's terms */
	uint64_t which;
	uint64_t when_usec; /* of the last death; CLOCK_REALTIME */
	uint32_t deaths;    /* in a row, by this input */
	uint32_t signal;    /* of the last death; with BLAME_HUNG */
};

/** struct blame_here - the input that this thread handles; mark NULL = no untrusted input */
struct blame_here {
	struct blame_mark *mark;
	uint64_t what;
	uint64_t which;
};

/* initial-exec: it is set for every chain */
extern _Thread_local struct blame_here blame_here __attribute__((tls_model("initial-exec")));

/** blame_install() - catch the signals of a crash; call it before any other handler for them is
 * installed. A handler that was there already runs afterwards.
 *
 * Errors: 0 | negative errno. */
int blame_install(void);

/** blame_thread_begin() - register the calling thread, until blame_thread_end(): it gets a stack
 * for the signal handler, and is looked at when a watchdog's SIGABRT arrives in another thread */
void blame_thread_begin(void);
/** blame_thread_end() - the calling thread ends; the counterpart of blame_thread_begin() */
void blame_thread_end(void);

/** blame_set() - name the input that the calling thread handles from now on; mark is borrowed */
static inline void blame_set(struct blame_mark *mark, uint64_t what, uint64_t which)
{
	blame_here = (struct blame_here){ .mark = mark, .what = what, .which = which };
}

/** blame_unset() - the calling thread handles no untrusted input any more */
static inline void blame_unset(void)
{
	blame_here.mark = NULL;
}

/** BLAME_SCOPE() - blame_set() for the rest of the block; leaving it, in any way, restores the
 * former input */
#define BLAME_SCOPE(mark, what, which)                                                             \
	struct blame_here _blame_before __attribute__((cleanup(blame_leave), unused)) =            \
		blame_here;                                                                        \
	blame_set(mark, what, which)

/** blame_leave() - for BLAME_SCOPE() alone */
static inline void blame_leave(const struct blame_here *before)
{
	blame_here = *before;
}

/** blame_finish() - the calling thread has handled its input without harm: blame_acquit() and
 * blame_unset() */
void blame_finish(void);

/** blame_acquit() - this input did no harm: clear the mark if it counts this input and is below the
 * limit */
void blame_acquit(struct blame_mark *mark, uint64_t what, uint64_t which);

/** blame_may_acquit() - whether a handled input proves that the process is healthy. A process that
 * hung may hang on the next input of that kind, so after a hang only time is a proof */
bool blame_may_acquit(const struct blame_mark *mark);

/** blame_describe() - write "killed it 3 times running, last by SIGSEGV" to buf of n bytes; returns
 * buf */
const char *blame_describe(const struct blame_mark *mark, char *buf, unsigned int n);
