#include "often.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lib/patience.h"
#include "lib/run.h"

/* what an allocator may keep of one occasion, and give at the next */
#define SPARE_KIB 512
/* as suite.c says of the bus */
#define SPARE_SOCKETS 48
#define REST_MS 20
#define RESTS 5 /* so often nothing may have changed */

static size_t kib_of(pid_t pid)
{
	char path[64], line[256];
	size_t kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %zu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static void look(struct often *o)
{
	memset(o->fds, 0, sizeof(o->fds));
	for (size_t i = 0; i < o->n; i++) {
		o->kib[i] = kib_of(o->processes[i].pid);
		suite_count_fds(o->processes[i].pid, &o->fds[i]);
	}
}

/* The last session's end is still being worked at: a descriptor that is replaced meanwhile must not
 * be missing. */
static void come_to_rest(struct often *o)
{
	const struct timespec tick = { 0, REST_MS * 1000000 };
	struct suite_fds former[SUITE_MAX_PROCESSES];

	for (int same = 0, ms = 0; same < RESTS && ms < test_ms(5000); ms += REST_MS) {
		memcpy(former, o->fds, sizeof(former));
		nanosleep(&tick, NULL);
		look(o);
		same = memcmp(former, o->fds, sizeof(former)) ? 0 : same + 1;
	}
}

void often_note(struct often *ret, const struct suite *s)
{
	memset(ret, 0, sizeof(*ret));
	ret->n = suite_processes(s, ret->processes, SUITE_MAX_PROCESSES);
	look(ret);
	come_to_rest(ret);
}

static bool is_sanitized(void)
{
	const char *text = getenv("BULKHEAD_SANITIZED");

	return text && atoi(text); /* freed memory is kept for long */
}

static int has_grown(const struct often *before, const struct often *after, char *why)
{
	for (size_t i = 0; i < after->n; i++) {
		const struct suite_process *process = &after->processes[i];

		if (process->role[0] == '(')
			continue;
		if (after->fds[i].others <= before->fds[i].others &&
			after->fds[i].sockets <= before->fds[i].sockets + SPARE_SOCKETS &&
			(is_sanitized() || after->kib[i] <= before->kib[i] + SPARE_KIB))
			continue;
		snprintf(why, 200,
			"%s %s had %zu sockets, %zu other descriptors and %zu KiB, and has %zu, %zu and %zu KiB",
			process->role, process->instance, before->fds[i].sockets,
			before->fds[i].others, before->kib[i], after->fds[i].sockets,
			after->fds[i].others, after->kib[i]);
		return 1;
	}
	return 0;
}

int often_has_grown(const struct often *before, struct often *ret, char *why)
{
	struct timespec tick = { 0, REST_MS * 1000000 };

	/* what was closed last may still be open in a process that has not been told */
	*ret = *before;
	look(ret);
	for (int ms = 0; has_grown(before, ret, why) && ms < test_ms(5000); ms += REST_MS) {
		nanosleep(&tick, NULL);
		look(ret);
	}
	return has_grown(before, ret, why);
}

void often_tell(const struct often *o, char *ret_text, size_t n)
{
	size_t fds = 0, kib = 0;

	for (size_t i = 0; i < o->n; i++) {
		fds += o->fds[i].sockets + o->fds[i].others;
		kib += o->kib[i];
	}
	snprintf(ret_text, n, "%zu descriptors and %zu KiB", fds, kib);
}

static unsigned int number_of(const char *name)
{
	const char *text = getenv(name);

	return text ? (unsigned int)atoi(text) : 0;
}

int often_run(struct suite *s, const char *name, void (*add)(Suite *suite))
{
	unsigned int rounds = number_of("BULKHEAD_ROUNDS"), n = 1;
	int n_failed = run_suite(name, add);
	unsigned int seconds = number_of("BULKHEAD_ROUNDS_S");
	uint64_t end = seconds ? clock_ms() + 1000u * seconds : UINT64_MAX;
	char was[80], is[80], why[200] = "";
	struct often before, after;
	int has_grown;

	if (rounds <= 1 || n_failed)
		return n_failed;
	for (int i = 0; i < RESTS; i++)
		often_note(&before, s); /* what is made once is there now */
	for (; n < rounds && clock_ms() < end && !n_failed; n++)
		n_failed = run_suite(name, add);
	has_grown = often_has_grown(&before, &after, why);
	often_tell(&before, was, sizeof(was));
	often_tell(&after, is, sizeof(is));
	printf("rounds: %u, with %s after the first and %s after the last\n", n, was, is);
	if (has_grown)
		printf("grown: %s\n", why);
	fflush(stdout);
	return n_failed ? n_failed : has_grown;
}
