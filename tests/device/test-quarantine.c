/*
 * An input that kills a process of the product again and again: after three times running its
 * device stands still, says why, and can be released; the other device never notices. What others
 * kill is not counted, nor is what did no harm in the end. With "standby" the worker is a pair, and
 * both of it are one. Needs a build with -Dfault-points=true.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define DEADLY 333 /* bytes of a frame that does not agree with the worker */
#define WAIT_MS 20000

static struct net n;
static char faults[64];
static const struct net_profile plain = { 0 };

/* --- The operator --- */

static char *ctl(const char *command, int *ret_status)
{
	static char out[1 << 16];
	char line[700];
	size_t len = 0, got;
	FILE *f;

	snprintf(line, sizeof(line), "%.400s/procs/ctl/bulkheadctl %.60s --runtime-dir=%s/run 2>&1",
		getenv("BULKHEAD_BUILD"), command, rig.dir);
	f = popen(line, "re");
	ck_assert_ptr_nonnull(f);
	while ((got = fread(out + len, 1, sizeof(out) - 1 - len, f)) > 0)
		len += got;
	out[len] = 0;
	*ret_status = pclose(f);
	return out;
}

/* what status --json says of a device's quarantine; "" = none */
static const char *quarantine(const char *device)
{
	static char text[400];
	char key[64];
	const char *at, *end;
	int status;

	snprintf(key, sizeof(key), "\"name\":\"%s\",\"type\"", device);
	at = strstr(ctl("status --json", &status), key);
	at = at ? strstr(at, "\"quarantine\":\"") : NULL;
	if (!at)
		return "";
	at += strlen("\"quarantine\":\"");
	end = strchr(at, '"');
	snprintf(text, sizeof(text), "%.*s", (int)(end - at), at);
	return text;
}

static void tick(void)
{
	struct timespec time = { 0, 20000000 };

	nanosleep(&time, NULL);
}

static void wait_quarantine(const char *first, const char *second)
{
	const char *text = "";

	for (int ms = 0; ms < test_ms(WAIT_MS) && !*text; ms += 20) {
		tick();
		text = quarantine("net0");
	}
	ck_assert_msg(strstr(text, first) && strstr(text, second) &&
			strstr(text, "3 times running"),
		"quarantine: '%s'", text);
	ck_assert_str_eq(quarantine("witness"), "");
	ck_assert(suite_logged(&rig, "quarantined: "));
	rig_check_witness();
}

static void release(void)
{
	int status;

	ctl("release guest net0", &status);
	ck_assert_int_eq(status, 0);
	for (int ms = 0; ms < test_ms(WAIT_MS) && *quarantine("net0"); ms += 20)
		tick();
	ck_assert_str_eq(quarantine("net0"), "");
	ctl("release guest net0", &status);
	ck_assert_int_ne(status, 0);
}

/* --- Faults --- */

static void order(const char *name, int value, int sig, int times)
{
	FILE *f = fopen(faults, "we");

	ck_assert_ptr_nonnull(f);
	for (int i = 0; i < times; i++)
		(void)fprintf(f, "%s %d %d\n", name, value, sig);
	/* who has died of one strikes it out, as a user of its own */
	ck_assert_int_eq(fchmod(fileno(f), 0666), 0);
	fclose(f);
}

static int left(void)
{
	FILE *f = fopen(faults, "re");
	char line[100];
	int count = 0;

	while (f && fgets(line, sizeof(line), f))
		count += line[0] != '#';
	if (f)
		fclose(f);
	return count;
}

static void send_deadly(void)
{
	uint8_t frame[DEADLY];

	net_frame_make(frame, sizeof(frame), 0);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
}

static void deadly_comes_back(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	rig_ok(net_recv(&n, 0, frame, &n_bytes, WAIT_MS), n.why);
	ck_assert_uint_eq(n_bytes, DEADLY);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
}

/* --- The worker --- */

static const int deadly_signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS };

START_TEST(test_chain_that_kills_the_worker_stops_its_device)
{
	struct net_profile p = { .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0 };
	char name[16];

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	order("net", DEADLY, deadly_signals[_i], 10);
	send_deadly();
	snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(deadly_signals[_i]));
	wait_quarantine("worker: ring 1, head ", name);
	ck_assert_int_eq(left(), 7);
	/* the VMM is still there, and is answered */
	rig_ok(vu_get_features(&n.c), n.c.why);
	order("none", 0, 0, 0);
	release();
	deadly_comes_back();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

START_TEST(test_chain_that_succeeds_in_the_end_is_forgotten)
{
	rig_open(&n, &plain);
	for (int i = 0; i < 3; i++) {
		order("net", DEADLY, SIGSEGV, 2);
		send_deadly();
		deadly_comes_back();
		ck_assert_int_eq(left(), 0);
	}
	ck_assert_str_eq(quarantine("net0"), "");
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

/* _i: by whom: SIGKILL and SIGTERM are an operator's */
START_TEST(test_who_is_killed_has_not_died_of_it)
{
	rig_open(&n, &plain);
	order("net", DEADLY, _i ? SIGTERM : SIGKILL, 5);
	send_deadly();
	deadly_comes_back();
	ck_assert_str_eq(quarantine("net0"), "");
	net_close(&n);
}
END_TEST

/* _i: 1 = it hangs, and the watchdog ends it */
START_TEST(test_record_that_kills_the_worker_stops_its_device)
{
	struct net_profile p = { .protocol = VU_BIT(VU_PF_STATUS) };

	rig_open(&n, &p);
	order("apply", 77, _i ? 0 : SIGSEGV, 10);
	n.c.ack = false;
	rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, 77), n.c.why);
	wait_quarantine("worker: generation ", _i ? "SIGABRT" : "SIGSEGV");
	ck_assert_int_eq(left(), 7);
	order("none", 0, 0, 0);
	release();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

/* --- The others --- */

START_TEST(test_message_that_kills_the_frontend_stops_its_device)
{
	struct vu_client late = VU_CLIENT_NULL;

	rig_open(&n, &plain);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	order("frontend", VU_RESET_OWNER, SIGSEGV, 10);
	n.c.ack = false;
	rig_ok(vu_set(&n.c, VU_RESET_OWNER, NULL, 0, -1), n.c.why);
	wait_quarantine("frontend: message RESET_OWNER (4) of 0 bytes", "SIGSEGV");
	ck_assert_int_eq(left(), 7);
	rig_ok(vu_expect_close(&n.c), n.c.why);
	/* it may come back, and waits */
	rig_ok(vu_connect(&late, rig_socket()), late.why);
	late.timeout_ms = 100;
	ck_assert_int_ne(vu_get_features(&late), 0);
	vu_close(&late);
	net_close(&n);
	order("none", 0, 0, 0);
	release();
	rig_check_net0();
}
END_TEST

START_TEST(test_message_that_succeeds_in_the_end_is_forgotten)
{
	rig_open(&n, &plain);
	for (int i = 0; i < 3; i++) {
		order("frontend", VU_RESET_OWNER, SIGSEGV, 2);
		rig_ok(vu_set(&n.c, VU_RESET_OWNER, NULL, 0, -1), n.c.why);
		ck_assert_int_eq(left(), 0);
	}
	ck_assert_str_eq(quarantine("net0"), "");
	net_close(&n);
	rig_check_net0();
}
END_TEST

START_TEST(test_record_that_kills_memory_stops_its_device)
{
	struct net_profile p = { .protocol = VU_BIT(VU_PF_STATUS) };

	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	order("memory", 77, SIGSEGV, 10);
	n.c.ack = false;
	rig_ok(vu_set_u64(&n.c, VU_SET_STATUS, 77), n.c.why);
	wait_quarantine("memory manager: a record of the frontend", "SIGSEGV");
	ck_assert_int_eq(left(), 7);
	rig_ok(vu_expect_close(&n.c), n.c.why);
	net_close(&n);
	order("none", 0, 0, 0);
	release();
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("quarantine");

	rig.deadly = true;
	tcase_set_timeout(tc, 120);
	suite_add_tcase(suite, tc);
	tcase_add_loop_test(tc, test_chain_that_kills_the_worker_stops_its_device, 0, 6);
	tcase_add_test(tc, test_chain_that_succeeds_in_the_end_is_forgotten);
	tcase_add_loop_test(tc, test_who_is_killed_has_not_died_of_it, 0, 2);
	tcase_add_loop_test(tc, test_record_that_kills_the_worker_stops_its_device, 0, 2);
	tcase_add_test(tc, test_message_that_kills_the_frontend_stops_its_device);
	tcase_add_test(tc, test_message_that_succeeds_in_the_end_is_forgotten);
	tcase_add_test(tc, test_record_that_kills_memory_stops_its_device);
}

int main(int argc, char *argv[])
{
	struct suite_device net0 = { .backend = "echo",
		.standby = argc > 1 && strcmp(argv[1], "standby") == 0 };
	int r;

	(void)snprintf(faults, sizeof(faults), "/tmp/bh-faults-%d", getpid());
	unlink(faults); /* one that died had the number before */
	setenv("BULKHEAD_FAULTS", faults, 1);
	setenv("BULKHEAD_TEST_OPTION", "--watchdog=3", 1);
	r = rig_main("quarantine", &net0, add);
	unlink(faults);
	return r;
}
