/*
 * A worker that dies in the midst of a burst: which frames are lost or come twice follows from the
 * step at which it died, and no buffer is lost. The worker is stopped while the driver sends more
 * than one burst, which crosses the end of both rings. Needs a build with -Dfault-points=true.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define BURST 32 /* frames that the worker has in hand at most */
#define FRAMES 40
#define RING_SIZE 128
#define BEGIN_AT 112 /* of a ring, so that a burst ends behind its end */
#define FRAME_BYTES 100
#define WAIT_MS 20000

/** struct point - where the worker dies, and what that costs: it publishes what it received before
 * what it sent, except for frames of a burst that is not full */
struct point {
	const char *name;
	int value;
	unsigned int n_lost, n_repeated;
};

static const struct point points[] = {
	{ "net-rx-loaded", 0, 0, 0 },
	{ "net-rx-loaded", 13, 0, 0 },
	{ "net-rx-held", 1, 0, 0 },
	{ "net-rx-held", BURST, 0, 0 },
	{ "net-rx-taken", BURST, 0, 0 },
	{ "net-rx-published", BURST, 0, BURST },
	{ "net-tx-sent", 0, 0, 0 },
	{ "net-tx-sent", BURST - 2, 0, 0 },
	{ "net-tx-sent", BURST - 1, 0, BURST },
	{ "net-tx-taken", BURST, 0, BURST },
	{ "net-tx-published", BURST, 0, 0 },
	{ "net-tx-taken", FRAMES - BURST, 0, 0 },
	{ "net-tx-published", FRAMES - BURST, FRAMES - BURST, 0 },
	{ "net-rx-taken", FRAMES - BURST, FRAMES - BURST, 0 },
	{ "net-rx-published", FRAMES - BURST, 0, 0 },
};

static struct net n;
static char faults[64];

/* --- The order to die --- */

static void order(const struct point *point)
{
	FILE *f = fopen(faults, "we");

	ck_assert_ptr_nonnull(f);
	if (point)
		(void)fprintf(f, "%s %d %d\n", point->name, point->value, SIGKILL);
	/* who has died of it strikes it out, as a user of its own */
	ck_assert_int_eq(fchmod(fileno(f), 0666), 0);
	fclose(f);
}

static bool carried_out(void)
{
	char first = 0;
	FILE *f = fopen(faults, "re");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(&first, 1, 1, f), 1);
	fclose(f);
	return first == '#';
}

/* --- Frames --- */

static uint32_t number_of(const uint8_t *frame)
{
	return (uint32_t)frame[14] << 24 | (uint32_t)frame[15] << 16 | (uint32_t)frame[16] << 8 |
		frame[17];
}

static void send_one(uint32_t seq)
{
	uint8_t frame[FRAME_BYTES];

	net_frame_make(frame, sizeof(frame), seq);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
}

static uint32_t receive_one(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes, seq;

	rig_ok(net_recv(&n, 0, frame, &n_bytes, test_ms(WAIT_MS)), n.why);
	seq = number_of(frame);
	ck_assert_msg(net_frame_is_echo(frame, n_bytes, seq), "a frame came back changed");
	return seq;
}

static bool stands_still(pid_t pid)
{
	char path[300];
	bool all = true;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (all && (entry = readdir(dir))) {
		char state = 'T';
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.200s/stat", pid, entry->d_name);
		f = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (f) {
			ck_assert_int_eq(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
			fclose(f);
		}
		all = state == 'T';
	}
	closedir(dir);
	return all;
}

/* All at once, because the worker stands still meanwhile. */
static void send_frames(void)
{
	pid_t worker = suite_pid(&rig, "net", "net0");

	ck_assert_int_gt(worker, 0);
	ck_assert_int_eq(kill(worker, SIGSTOP), 0);
	for (int ms = 0; ms < test_ms(WAIT_MS) && !stands_still(worker); ms++)
		usleep(1000);
	ck_assert(stands_still(worker));
	for (uint32_t i = 0; i < FRAMES; i++)
		send_one(i);
	ck_assert_int_eq(kill(worker, SIGCONT), 0);
}

/* Nothing overtakes: the one behind them comes last, but for its own repetition. */
static void count_frames(unsigned int *ret_lost, unsigned int *ret_repeated)
{
	unsigned int times[FRAMES + 1] = { 0 };

	rig_ok(net_drain_tx(&n, 0, test_ms(WAIT_MS)), n.why);
	send_one(FRAMES);
	while (!times[FRAMES]) {
		uint32_t seq = receive_one();

		ck_assert_uint_le(seq, FRAMES);
		times[seq]++;
	}
	*ret_lost = *ret_repeated = 0;
	for (unsigned int i = 0; i < FRAMES; i++) {
		*ret_lost += times[i] == 0;
		*ret_repeated += times[i] ? times[i] - 1 : 0;
	}
	rig_ok(net_drain_tx(&n, 0, test_ms(WAIT_MS)), n.why);
}

/* _i: bit 0 packed, bit 1 mergeable, and then the point; every other one in order */
START_TEST(test_death_in_a_burst_costs_what_was_under_way)
{
	const struct point *point = &points[_i / 4];
	struct net_profile p = { .ring_size = RING_SIZE,
		.features = (_i & 1 ? VU_BIT(VU_F_PACKED) : 0) |
			(_i & 2 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0) |
			(_i / 4 % 2 ? VU_BIT(VU_F_IN_ORDER) : 0) };
	unsigned int n_lost, n_repeated;

	order(NULL);
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, BEGIN_AT, FRAME_BYTES), n.why);
	order(point);
	send_frames();
	count_frames(&n_lost, &n_repeated);
	ck_assert_msg(carried_out(), "the worker did not come to %s %d", point->name, point->value);
	ck_assert_msg(n_lost == point->n_lost && n_repeated == point->n_repeated,
		"dead at %s %d: %u frames lost, %u repeated", point->name, point->value, n_lost,
		n_repeated);
	rig_ok(net_pump(&n, 0, 4 * RING_SIZE, FRAME_BYTES), n.why);
	rig_end(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("bursts");

	tcase_set_timeout(tc, 120);
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, test_death_in_a_burst_costs_what_was_under_way, 0,
		4 * sizeof(points) / sizeof(points[0]));
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };
	int r;

	(void)snprintf(faults, sizeof(faults), "/tmp/bh-faults-%d", getpid());
	unlink(faults); /* one that died had the number before */
	setenv("BULKHEAD_FAULTS", faults, 1);
	r = rig_main("bursts", &net0, add);
	unlink(faults);
	return r;
}
