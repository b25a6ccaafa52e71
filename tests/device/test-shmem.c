/*
 * Shared memory regions: what a device (shmem.c) has the VMM map, and what becomes of it.
 */
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/patience.h"
#include "mapper.h"

#define PAGE UINT64_C(4096)

static struct mapper m;

START_TEST(test_regions_are_told)
{
	struct vu_shmem_config config;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	ck_assert_int_eq(window_get_config(&m.n.c, &config), 0);
	ck_assert_uint_eq(config.n, 1);
	for (unsigned int i = 0; i < VU_SHMEM_REGIONS; i++)
		ck_assert_uint_eq(config.sizes[i], i == SHMEM_REGION ? SHMEM_BYTES : 0);
	mapper_close(&m);
}
END_TEST

/* --- The operator --- */

/* What bulkheadctl says, until it says this. */
static void expect_status(const char *options, const char *text)
{
	static char out[1 << 16];
	char line[700];
	bool found = false;

	snprintf(line, sizeof(line), "%.400s/procs/ctl/bulkheadctl status %s --runtime-dir=%s/run",
		getenv("BULKHEAD_BUILD"), options, m.suite.dir);
	for (int i = 0; !found && i < 100; i++) {
		FILE *f = popen(line, "re");
		size_t n = f ? fread(out, 1, sizeof(out) - 1, f) : 0;

		out[n] = '\0';
		found = f && pclose(f) == 0 && strstr(out, text);
	}
	ck_assert_msg(found, "%s does not say %s: %s", line, text, out);
}

START_TEST(test_figures_are_shown)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, 3 * PAGE, 0);
	mapper_map(&m, 2, 4 * PAGE, PAGE, 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 2, SHMEM_MADE);
	expect_status("", "\n    maps 2, mapped 16384 bytes\n");
	expect_status("--json",
		"\"figures\":[{\"name\":\"maps\",\"value\":2,\"unit\":\"\"},"
		"{\"name\":\"mapped\",\"value\":16384,\"unit\":\"bytes\"}]");
	mapper_close(&m);
}
END_TEST

/* --- What is mapped --- */

/* uses: protocol:SHMEM protocol:BACKEND_SEND_FD protocol:BACKEND_REQ */
START_TEST(test_file_is_mapped_and_unmapped)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_map(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_check_there(&m, 1, 0, PAGE);
	mapper_check_there(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE);
	mapper_unmap(&m, 1);
	mapper_serve(&m, 1);
	ck_assert_ptr_null(window_at(&m.w, 0, PAGE));
	mapper_check_there(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE);
	mapper_map(&m, 3, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_check_there(&m, 3, 0, PAGE);
	ck_assert_uint_eq(m.w.n_refused_maps + m.w.n_refused_unmaps, 0);
	mapper_close(&m);
}
END_TEST

/* _i: SHMEM_F_... */
START_TEST(test_refusal_concerns_that_map_alone)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, 2 * PAGE, (uint32_t)_i);
	mapper_map(&m, 2, 2 * PAGE, PAGE, 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 1, SHMEM_REFUSED);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_check_there(&m, 2, 2 * PAGE, PAGE);
	mapper_unmap(&m, 1);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 3, SHMEM_MADE);
	ck_assert_uint_eq(m.w.n_refused_maps, 1);
	mapper_expect_silence(&m);
	mapper_close(&m);
}
END_TEST

/* The next one comes when the former is answered. */
START_TEST(test_maps_are_made_one_after_the_other)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	for (uint64_t seq = 1; seq <= 20; seq++)
		mapper_map(&m, seq, (20 - seq) * PAGE, PAGE, 0);
	for (uint64_t seq = 1; seq <= 20; seq++) {
		struct vu_msg msg = mapper_take(&m);
		struct vu_shmem_map map;

		memcpy(&map, msg.body.bytes, sizeof(map));
		ck_assert_uint_eq(map.offset, (20 - seq) * PAGE);
		if (seq % 8 == 0)
			mapper_expect_silence(&m);
		mapper_answer(&m, &msg);
	}
	for (uint64_t seq = 1; seq <= 20; seq++) {
		mapper_expect(&m, seq, SHMEM_MADE);
		mapper_check_there(&m, seq, (20 - seq) * PAGE, PAGE);
	}
	mapper_close(&m);
}
END_TEST

/* What leaves goes first, whether it was ever made or not. */
START_TEST(test_place_is_used_again_at_once)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	msg = mapper_take(&m);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	mapper_unmap(&m, 2);
	mapper_unmap(&m, 1);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	mapper_answer(&m, &msg);
	mapper_begin_vmm(&m);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_end_vmm(&m);
	mapper_check_there(&m, 3, 0, 2 * PAGE);
	ck_assert_uint_eq(m.w.n_maps, 1);
	ck_assert_uint_eq(m.w.n_refused_maps + m.w.n_refused_unmaps, 0);
	mapper_close(&m);
}
END_TEST

/* QEMU sends its memory table because of a mapping that it has made, and answers nothing before
 * that is acknowledged. _i: before it answers the mapping, or after that */
START_TEST(test_memory_is_set_while_a_map_is_under_way)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	msg = mapper_take(&m);
	if (_i)
		mapper_answer(&m, &msg);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(vu_set_mem_table(&m.n.c, &m.n.g.regions[0].at,
					 &m.n.g.regions[0].fd, 1),
			0);
	if (!_i)
		mapper_answer(&m, &msg);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_close(&m);
}
END_TEST

/* _i: bit 0: the answer comes while it is suspended; bit 1: it is a refusal */
START_TEST(test_suspended_device_asks_for_nothing)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, _i & 2 ? SHMEM_F_SHORT : 0);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	msg = mapper_take(&m);
	mapper_stop_rings(&m);
	if (_i & 1)
		mapper_answer(&m, &msg);
	mapper_expect_silence(&m);
	mapper_start_rings(&m);
	if (!(_i & 1))
		mapper_answer(&m, &msg);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, _i & 2 ? SHMEM_REFUSED : SHMEM_MADE);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_close(&m);
}
END_TEST

/* The guest has reset the device, and the VMM has dropped all mappings. */
START_TEST(test_forgotten_maps_are_not_unmapped)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	for (uint64_t seq = 1; seq <= 3; seq++)
		mapper_map(&m, seq, seq * PAGE, PAGE, 0);
	mapper_serve(&m, 3);
	mapper_expect(&m, 3, SHMEM_MADE);
	window_reset(&m.w);
	mapper_forget(&m);
	for (uint64_t seq = 4; seq <= 6; seq++)
		mapper_map(&m, seq, (seq - 3) * PAGE, PAGE, 0);
	mapper_serve(&m, 3);
	for (uint64_t seq = 4; seq <= 6; seq++) {
		mapper_expect(&m, seq, SHMEM_MADE);
		mapper_check_there(&m, seq, (seq - 3) * PAGE, PAGE);
	}
	ck_assert_uint_eq(m.w.n_refused_maps + m.w.n_refused_unmaps + m.w.n_unmapped, 0);
	mapper_close(&m);
}
END_TEST

/* covers: M28 */
START_TEST(test_maps_that_the_vmm_has_dropped_are_unmapped_in_vain)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 2, SHMEM_MADE);
	window_reset(&m.w);
	mapper_unmap(&m, 1);
	mapper_unmap(&m, 2);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	mapper_serve(&m, 3);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_check_there(&m, 3, 0, 2 * PAGE);
	ck_assert_uint_eq(m.w.n_refused_unmaps, 2);
	mapper_close(&m);
}
END_TEST

/* The VMM makes it when it has dropped all others: then it is in the way. _i: bit 0: it answers
 * before the guest starts the device anew; bit 1: it refuses it */
START_TEST(test_map_under_way_is_unmapped_when_it_is_forgotten)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 8 * PAGE, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_map(&m, 2, 0, PAGE, _i & 2 ? SHMEM_F_SHORT : 0);
	msg = mapper_take(&m);
	mapper_stop_rings(&m);
	window_reset(&m.w);
	if (_i & 1)
		mapper_answer(&m, &msg);
	mapper_start_rings(&m);
	mapper_forget(&m);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	if (!(_i & 1))
		mapper_answer(&m, &msg);
	mapper_begin_vmm(&m);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_end_vmm(&m);
	mapper_check_there(&m, 3, 0, 2 * PAGE);
	ck_assert_uint_eq(m.w.n_maps, 1);
	mapper_close(&m);
}
END_TEST

/* _i: a map is under way */
START_TEST(test_another_vmm_begins_with_nothing)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	if (_i) {
		struct vu_msg msg = mapper_take(&m);

		vu_msg_deinit(&msg);
	} else {
		mapper_serve(&m, 1);
		mapper_expect(&m, 2, SHMEM_MADE);
	}
	window_close(&m.w);
	net_close(&m.n);
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_expect_silence(&m);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_expect(&m, 1, SHMEM_NONE);
	ck_assert_uint_eq(m.w.n_mapped, 1);
	mapper_close(&m);
}
END_TEST

/* --- A VMM that cannot, or does not do what it should --- */

/* _i: which of what it takes is missing; the last: the channel */
START_TEST(test_without_what_it_takes_all_is_refused)
{
	static const uint64_t missing[] = { VU_BIT(VU_PF_SHMEM), VU_BIT(VU_PF_BACKEND_SEND_FD), 0 };

	mapper_open(&m, MAPPER_PROTOCOL & ~missing[_i], _i != 2);
	for (uint64_t seq = 1; seq <= 3; seq++)
		mapper_map(&m, seq, seq * PAGE, PAGE, 0);
	for (uint64_t seq = 1; seq <= 3; seq++)
		mapper_expect(&m, seq, SHMEM_REFUSED);
	/* one that comes later counts for what comes later */
	if (_i == 2) {
		ck_assert_int_eq(vu_set_backend_channel(&m.n.c), 0);
		mapper_map(&m, 4, PAGE, PAGE, 0);
		mapper_serve(&m, 1);
		mapper_expect(&m, 4, SHMEM_MADE);
	}
	mapper_close(&m);
}
END_TEST

/* The request is taken, and this is said in place of an answer. */
static void say(uint32_t request, uint32_t flags, uint32_t size, size_t n_bytes)
{
	struct {
		struct vu_header head;
		uint8_t body[52];
	} __attribute__((packed)) answer = { { request, flags, size }, { 0 } };

	ck_assert_int_eq(send(m.n.c.back_fd, &answer, n_bytes, MSG_NOSIGNAL), (ssize_t)n_bytes);
}

static void say_with_fd(void)
{
	const struct vu_header head = { VU_BACKEND_SHMEM_MAP, VU_REPLY_FLAGS, 8 };
	struct vu_client c = { .fd = m.n.c.back_fd };
	uint64_t value = 0;

	ck_assert_int_eq(vu_send(&c, &head, &value, &c.fd, 1), 0);
}

#define N_NONSENSE 7 /* the last one hangs up */

/* covers: M28 */
START_TEST(test_nonsense_concerns_maps_alone)
{
	static const struct {
		uint32_t request, flags, size;
		size_t n_bytes;
	} nonsense[] = { { VU_BACKEND_SHMEM_MAP, VU_VERSION, 8, 20 },
		{ VU_BACKEND_SHMEM_MAP, VU_REPLY_FLAGS | VU_NEED_REPLY, 8, 20 },
		{ VU_BACKEND_SHMEM_MAP, VU_REPLY_FLAGS, 16, 28 }, { 8, VU_REPLY_FLAGS, 8, 20 },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, 64 } };
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	mapper_map(&m, 3, 2 * PAGE, PAGE, 0);
	msg = mapper_take(&m);
	vu_msg_deinit(&msg);
	if (_i < 5) {
		say(nonsense[_i].request, nonsense[_i].flags, nonsense[_i].size,
			nonsense[_i].n_bytes);
	} else if (_i == 5) {
		say_with_fd();
	} else {
		say(VU_BACKEND_SHMEM_MAP, VU_REPLY_FLAGS, 8, 19);
		ck_assert_int_eq(shutdown(m.n.c.back_fd, SHUT_RDWR), 0);
	}
	mapper_expect(&m, 2, SHMEM_REFUSED);
	mapper_expect(&m, 3, SHMEM_REFUSED);
	mapper_expect(&m, 1, SHMEM_MADE);
	/* another channel is as good as the first, and what was in doubt is unmapped first */
	ck_assert_int_eq(vu_set_backend_channel(&m.n.c), 0);
	mapper_map(&m, 4, PAGE, 2 * PAGE, 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 4, SHMEM_MADE);
	mapper_check_there(&m, 4, PAGE, 2 * PAGE);
	mapper_close(&m);
}
END_TEST

/* An answer that is read after a request was sent counts as the answer to that. */
static void wait_until_read(int fd)
{
	int unread = 1;

	for (int ms = 0; unread > 0 && ms < test_ms(5000); ms++) {
		ck_assert_int_eq(ioctl(fd, SIOCOUTQ, &unread), 0);
		usleep(1000);
	}
	ck_assert_int_eq(unread, 0);
}

/* What nobody has asked for changes nothing. */
START_TEST(test_answers_that_nobody_asked_for_are_ignored)
{
	static const uint32_t requests[] = { VU_BACKEND_SHMEM_MAP, VU_BACKEND_SHMEM_UNMAP,
		VU_BACKEND_CONFIG_CHANGE };
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	for (unsigned int i = 0; i < 300; i++)
		ck_assert_int_eq(vu_backend_answer(&m.n.c, requests[i % 3], i % 2), 0);
	wait_until_read(m.n.c.back_fd);
	mapper_map(&m, 1, 0, PAGE, 0);
	msg = mapper_take(&m);
	for (unsigned int i = 0; i < 30; i++)
		ck_assert_int_eq(vu_backend_answer(&m.n.c, requests[1 + i % 2], i % 2), 0);
	mapper_answer(&m, &msg);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_unmap(&m, 1);
	mapper_serve(&m, 1);
	mapper_map(&m, 2, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_close(&m);
}
END_TEST

/* The request under way is asked for again, and what it may have left is unmapped before. */
START_TEST(test_another_channel_takes_over)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	msg = mapper_take(&m);
	ck_assert_int_eq(window_do(&m.w, &msg), 0);
	vu_msg_deinit(&msg);
	ck_assert_int_eq(vu_set_backend_channel(&m.n.c), 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_check_there(&m, 1, 0, PAGE);
	ck_assert_uint_eq(m.w.n_mapped, 2);
	ck_assert_uint_eq(m.w.n_unmapped, 1);
	mapper_close(&m);
}
END_TEST

/* As when the frontend dies while it handles the message: a request under way stays so. */
START_TEST(test_channel_that_is_handed_over_twice_is_one)
{
	struct vu_msg msg;
	int pair[2];

	mapper_open(&m, MAPPER_PROTOCOL, false);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	m.n.c.back_fd = pair[0];
	ck_assert_int_eq(vu_set(&m.n.c, VU_SET_BACKEND_REQ_FD, NULL, 0, pair[1]), 0);
	mapper_map(&m, 1, 0, PAGE, 0);
	msg = mapper_take(&m);
	ck_assert_int_eq(vu_set(&m.n.c, VU_SET_BACKEND_REQ_FD, NULL, 0, pair[1]), 0);
	close(pair[1]);
	mapper_answer(&m, &msg);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_map(&m, 2, PAGE, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 2, SHMEM_MADE);
	ck_assert_uint_eq(m.w.n_mapped, 2);
	mapper_close(&m);
}
END_TEST

/* It holds up nobody, and is not waited for when it goes. */
START_TEST(test_vmm_that_never_answers_waits_for_nothing)
{
	struct vu_msg msg;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	for (uint64_t seq = 1; seq <= 50; seq++)
		mapper_map(&m, seq, seq * PAGE, PAGE, 0);
	msg = mapper_take(&m);
	vu_msg_deinit(&msg);
	for (int i = 0; i < 3; i++) {
		mapper_stop_rings(&m);
		mapper_start_rings(&m);
	}
	for (uint64_t seq = 1; seq <= 50; seq++)
		mapper_unmap(&m, seq);
	mapper_expect_silence(&m);
	mapper_close(&m);
}
END_TEST

START_TEST(test_there_is_a_limit)
{
	const uint64_t max = 1024;
	const struct shmem_request more = {
		.op = SHMEM_MAP, .seq = max + 1, .offset = max * PAGE, .size = PAGE
	};

	mapper_open(&m, MAPPER_PROTOCOL, true);
	for (uint64_t seq = 1; seq <= max; seq++) {
		mapper_map(&m, seq, (seq - 1) * PAGE, PAGE, 0);
		mapper_serve(&m, 1);
	}
	mapper_expect(&m, max, SHMEM_MADE);
	ck_assert_uint_eq(mapper_ask(&m, &more).state, SHMEM_FAILED);
	mapper_unmap(&m, 1);
	mapper_serve(&m, 1);
	mapper_map(&m, max + 2, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, max + 2, SHMEM_MADE);
	for (uint64_t seq = 2; seq <= max; seq++)
		mapper_check_there(&m, seq, (seq - 1) * PAGE, PAGE);
	mapper_close(&m);
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("shmem");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_regions_are_told);
	tcase_add_test(tc, test_figures_are_shown);
	tcase_add_test(tc, test_file_is_mapped_and_unmapped);
	tcase_add_loop_test(tc, test_refusal_concerns_that_map_alone, SHMEM_F_READ_ONLY,
		SHMEM_F_SHORT + 1);
	tcase_add_test(tc, test_maps_are_made_one_after_the_other);
	tcase_add_test(tc, test_place_is_used_again_at_once);
	tcase_add_loop_test(tc, test_memory_is_set_while_a_map_is_under_way, 0, 2);
	tcase_add_loop_test(tc, test_suspended_device_asks_for_nothing, 0, 4);
	tcase_add_test(tc, test_forgotten_maps_are_not_unmapped);
	tcase_add_test(tc, test_maps_that_the_vmm_has_dropped_are_unmapped_in_vain);
	tcase_add_loop_test(tc, test_map_under_way_is_unmapped_when_it_is_forgotten, 0, 4);
	tcase_add_loop_test(tc, test_another_vmm_begins_with_nothing, 0, 2);
	tcase_add_loop_test(tc, test_without_what_it_takes_all_is_refused, 0, 3);
	tcase_add_loop_test(tc, test_nonsense_concerns_maps_alone, 0, N_NONSENSE);
	tcase_add_test(tc, test_answers_that_nobody_asked_for_are_ignored);
	tcase_add_test(tc, test_another_channel_takes_over);
	tcase_add_test(tc, test_channel_that_is_handed_over_twice_is_one);
	tcase_add_test(tc, test_vmm_that_never_answers_waits_for_nothing);
	tcase_add_test(tc, test_there_is_a_limit);
	suite_add_tcase(s, tc);
}

int main(void)
{
	return mapper_main(&m, "shmem", add);
}
