/*
 * The dirty log is complete, and says no more than what was written; it is switched on and off
 * under traffic; its file is cut short.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "lib/patience.h"
#include "lib/transfer.h"
#include "logged.h"

#define SWITCHES 100

/* --- Complete --- */

START_TEST(test_every_page_that_changed_is_marked)
{
	open_logged(rig_socket(), _i);
	for (unsigned int round = 0; round < test_rounds(12); round++) {
		uint64_t changed;

		send_frames(1 + round * 9 % 30, 60 + round * 3571 % 19000);
		note_memory();
		start_rings();
		rig_ok(net_drain_tx(&n, 0, 5000), n.why);
		stop_rings();
		changed = all_is_marked();
		ck_assert_uint_ge(changed, 2); /* a buffer, and a ring */
		nothing_else_is_marked();
		receive_frames();
	}
	close_logged();
}
END_TEST

/* A frame that is dropped when it is in the receive buffers already: segments, which this driver
 * may send and not be sent. _i: bit 0 packed */
START_TEST(test_frame_that_is_written_and_dropped_is_marked)
{
	static const uint8_t header[NET_HDR_BYTES] = { 1, 1, 54, 0, 100, 0, 34, 0, 16, 0 };
	struct ring_seg seg = { .len = NET_HDR_BYTES + 9000 };
	uint64_t n_buffers = 0;

	open_logged(rig_socket(), _i | LOGGED_SEGMENTS);
	seg.gpa = n.free_tx[0][--n.n_free_tx[0]];
	memset(guest_at(&n.g, seg.gpa, seg.len), 0x5c, seg.len);
	memcpy(guest_at(&n.g, seg.gpa, seg.len), header, sizeof(header));
	rig_ok(ring_post(&n.rings[1], &seg, 1, (void *)(uintptr_t)seg.gpa), n.rings[1].fault);
	note_memory();
	start_rings();
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	stop_rings();
	ck_assert(!ring_has_used(&n.rings[0]));
	for (uint16_t i = 0; i < n.n_bufs[0]; i++)
		n_buffers += has_changed((n.bufs[0][i] + n.p.buf_bytes / 4) / PAGE);
	ck_assert_uint_ge(n_buffers, 1);
	(void)all_is_marked();
	nothing_else_is_marked();
	net_close(&n);
	drop_log();
}
END_TEST

/* --- What the ring's flag and the log's switches do --- */

/* Split: the used ring counts where the VMM says, here behind guest memory; without the flag,
 * nowhere. What descriptors point to counts all the same. */
START_TEST(test_used_ring_is_marked_where_the_vmm_says)
{
	uint64_t used_pages[2];

	open_logged(rig_socket(), 0);
	for (int on = 1; on >= 0; on--) {
		for (uint16_t i = 0; i < 2; i++) {
			set_ring_addr(i, on, BEHIND + i * 8 * PAGE + 17);
			used_pages[i] = n.rings[i].cfg.used / PAGE;
		}
		send_frames(20, 15000);
		note_memory();
		start_rings();
		rig_ok(net_drain_tx(&n, 0, 5000), n.why);
		stop_rings();
		for (uint16_t i = 0; i < 2; i++)
			ck_assert_int_eq(is_marked(BEHIND / PAGE + i * 8), on);
		for (uint64_t page = 0; page < n_pages(); page++)
			if (has_changed(page) && page != used_pages[0] && page != used_pages[1])
				ck_assert(is_marked(page));
		/* the transmit ring's page holds no buffer: nothing else marks it */
		ck_assert(has_changed(used_pages[1]));
		receive_frames();
	}
	close_logged();
}
END_TEST

/* _i: bit 0 packed; bit 1: LOG_ALL without a log, else a log without LOG_ALL */
START_TEST(test_half_of_it_marks_nothing)
{
	struct net_profile p = { .protocol = SHMFD, .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0 };

	make_log();
	rig_open(&n, &p);
	if (_i & 2)
		set_log_all(true);
	else
		set_log();
	set_ring_logs(true);
	rig_ok(net_pump(&n, 0, 500, 1000), n.why);
	ck_assert_uint_eq(n_marked(), 0);
	/* and the other half makes it whole */
	set_log();
	set_log_all(true);
	rig_ok(net_pump(&n, 0, 500, 1000), n.why);
	ck_assert_uint_gt(n_marked(), 2);
	rig_end(&n);
	drop_log();
}
END_TEST

#define BATCH 50

static atomic_bool done;
static atomic_int pump_error;
static atomic_ulong n_pumped;

static void *pump(void *data)
{
	while (!atomic_load(&done) && !atomic_load(&pump_error)) {
		atomic_store(&pump_error, net_pump(&n, 0, BATCH, 1500));
		atomic_fetch_add(&n_pumped, BATCH);
	}
	return NULL;
}

/* One batch at least, from its first frame to its last. */
static void wait_for_frames(void)
{
	unsigned long from = atomic_load(&n_pumped);

	while (atomic_load(&n_pumped) - from < 2 * BATCH) {
		ck_assert_int_eq(atomic_load(&pump_error), 0);
		usleep(100);
	}
}

/* No frame is lost, no ring stops, and no mark comes after the answer. _i: bit 0 packed */
/* uses: net:LOG_ALL protocol:LOG_SHMFD */
/* covers: M19 */
START_TEST(test_switched_on_and_off_under_traffic)
{
	struct net_profile p = { .protocol = SHMFD, .features = _i & 1 ? VU_BIT(VU_F_PACKED) : 0 };
	pthread_t thread;

	make_log();
	rig_open(&n, &p);
	set_log();
	set_ring_logs(true);
	atomic_store(&done, false);
	atomic_store(&pump_error, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, pump, NULL), 0);
	for (int i = 0; i < SWITCHES; i++) {
		if (i % 10 == 5) /* another one, as QEMU for a guest that grew */
			set_log();
		set_log_all(true);
		wait_for_frames();
		ck_assert_uint_gt(n_marked(), 2);
		set_log_all(false);
		clear_log();
		wait_for_frames();
		ck_assert_uint_eq(n_marked(), 0);
	}
	atomic_store(&done, true);
	pthread_join(thread, NULL);
	ck_assert_msg(atomic_load(&pump_error) == 0, "%s", n.why);
	rig_end(&n);
	drop_log();
}
END_TEST

/* --- The log's file --- */

/* The guest is served all the same, and the operator is told once. */
/* covers: M17 M19 */
START_TEST(test_log_that_is_cut_short_harms_nobody)
{
	open_logged(rig_socket(), _i);
	start_rings();
	rig_ok(net_pump(&n, 0, 300, 1500), n.why);
	ck_assert_int_eq(ftruncate(log_fd, 0), 0);
	rig_ok(net_pump(&n, 0, 2000, 1500), n.why);
	rig_ok(suite_same(&rig), rig.why);
	ck_assert(suite_logged(&rig, "the VMM has cut the file of its dirty log short"));
	/* another log, and all is well */
	drop_log();
	make_log();
	set_log();
	rig_ok(net_pump(&n, 0, 300, 1500), n.why);
	ck_assert_uint_gt(n_marked(), 2);
	rig_end(&n);
	drop_log();
}
END_TEST

/* Memory came while the rings stood still, with a log left behind that does not cover it. */
/* covers: M19 */
START_TEST(test_memory_behind_the_log_is_served_and_not_marked)
{
	struct vu_log log = { (UINT64_C(1) << 30) / PAGE / 8, 0 };
	struct vu_region second = { BEHIND, 1 << 20, UINT64_C(0x7e0000000000), 0 };
	struct ring_seg seg = { BEHIND + 2 * PAGE, 2048, true };
	uint8_t beyond[64];

	open_logged(rig_socket(), 0);
	rig_ok(vu_set_log_base(&n.c, &log, &log_fd, 1), n.c.why);
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	rig_ok(net_set_memory(&n), n.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	bases[0] = 0;
	for (int i = 0; i < 100; i++) {
		seg.gpa = BEHIND + 2 * PAGE + (uint64_t)i * 2048;
		rig_ok(ring_post(&n.rings[0], &seg, 1, (void *)(uintptr_t)seg.gpa), "");
	}
	set_ring_logs(true);
	clear_log();
	memset(beyond, 0, sizeof(beyond));
	send_frames(50, 1000);
	start_rings();
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	stop_rings();
	ck_assert(ring_has_used(&n.rings[0]));
	ck_assert(memcmp(bits + log.mmap_size, beyond, sizeof(beyond)) == 0);
	ck_assert_uint_ge(n_marked(), 1); /* of the used rings */
	ck_assert(suite_logged(&rig, "that the VMM's dirty log does not cover"));
	net_close(&n);
	drop_log();
}
END_TEST

/* --- What a migration asks for next --- */

/* With the word that the last ring stands, the worker hands over its state: the guest stands still,
 * and nobody waits for the worker again. */
START_TEST(test_state_is_saved_without_the_worker)
{
	static uint8_t state[VU_STATE_MAX];
	size_t n_state = 0;
	pid_t worker;

	open_logged(rig_socket(), _i);
	send_frames(20, 1000);
	start_rings();
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	stop_rings();
	receive_frames();
	worker = suite_pid(&rig, "net", "net0");
	ck_assert_int_eq(kill(worker, SIGSTOP), 0);
	rig_ok(vu_save_state(&n.c, state, &n_state), n.c.why);
	ck_assert_int_eq(kill(worker, SIGCONT), 0);
	rig_ok(vu_load_state(&n.c, state, n_state), n.c.why);
	close_logged();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "log");

	tcase_add_loop_test(tc, test_every_page_that_changed_is_marked, 0, 16);
	tcase_add_loop_test(tc, test_frame_that_is_written_and_dropped_is_marked, 0, 2);
	tcase_add_test(tc, test_used_ring_is_marked_where_the_vmm_says);
	tcase_add_loop_test(tc, test_half_of_it_marks_nothing, 0, 4);
	tcase_add_loop_test(tc, test_switched_on_and_off_under_traffic, 0, 2);
	tcase_add_loop_test(tc, test_log_that_is_cut_short_harms_nobody, 0, 2);
	tcase_add_test(tc, test_memory_behind_the_log_is_served_and_not_marked);
	tcase_add_loop_test(tc, test_state_is_saved_without_the_worker, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("log", &net0, add);
}
