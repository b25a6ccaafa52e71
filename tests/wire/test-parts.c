/*
 * Messages that come bit by bit from a sender that waits: for room in the socket, or until what it
 * has sent was read. Each arrives, once, wherever it is cut, whichever byte its descriptors come
 * with, and whenever the frontend dies.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define PATIENCE_MS 20000

static struct net n;

/* What is sent: a message and its descriptors. */
struct letter {
	struct {
		struct vu_header head;
		uint8_t body[4200];
	} bytes;
	size_t n_bytes;
	int fds[VU_MAX_FDS + 1];
	size_t n_fds;
};

static void wait_until_read(void)
{
	int left = 1, ms = 0;

	while (ioctl(n.c.fd, SIOCOUTQ, &left) == 0 && left && ms < test_ms(PATIENCE_MS)) {
		poll(NULL, 0, ms < 20 ? 0 : 1);
		ms++;
	}
	ck_assert_msg(left == 0, "what was sent is not read");
}

static void wait_for_room(void)
{
	struct pollfd p = { .fd = n.c.fd, .events = POLLOUT };

	ck_assert_msg(poll(&p, 1, test_ms(PATIENCE_MS)) == 1, "no room comes");
}

static void send_part(const struct letter *letter, size_t at, size_t n_bytes, bool with_fds)
{
	rig_ok(vu_send_raw(&n.c, (const uint8_t *)&letter->bytes + at, n_bytes, letter->fds,
		       with_fds ? letter->n_fds : 0),
		n.c.why);
}

/* Parts of so many bytes; the descriptors come with the byte at fds_at. Killed when this many bytes
 * have gone. */
static void send_in_parts(const struct letter *letter, size_t part, size_t fds_at, size_t kill_at)
{
	for (size_t at = 0; at < letter->n_bytes; at += part) {
		size_t n_bytes = letter->n_bytes - at < part ? letter->n_bytes - at : part;

		if (at <= kill_at && kill_at < at + n_bytes)
			rig_ok(suite_kill(&rig, "frontend"), rig.why);
		send_part(letter, at, n_bytes, fds_at >= at && fds_at < at + n_bytes);
		if (at + n_bytes < letter->n_bytes)
			wait_until_read();
	}
}

static void write_letter(struct letter *letter, uint32_t request, const void *body, size_t n_bytes)
{
	letter->bytes.head =
		(struct vu_header){ request, VU_VERSION | VU_NEED_REPLY, (uint32_t)n_bytes };
	memcpy(letter->bytes.body, body, n_bytes);
	letter->n_bytes = sizeof(struct vu_header) + n_bytes;
	letter->n_fds = 0;
}

static void write_table(struct letter *letter)
{
	struct {
		uint32_t n_regions, pad;
		struct vu_region regions[GUEST_MAX_REGIONS];
	} body = { 0 };

	letter->n_fds = 0;
	body.n_regions = (uint32_t)guest_table(&n.g, body.regions, letter->fds);
	write_letter(letter, VU_SET_MEM_TABLE, &body, 8 + body.n_regions * sizeof(body.regions[0]));
	letter->n_fds = body.n_regions;
}

static void write_call(struct letter *letter, uint16_t index)
{
	uint64_t value = index;

	write_letter(letter, VU_SET_VRING_CALL, &value, sizeof(value));
	letter->fds[letter->n_fds++] = n.rings[index].call_fd;
}

static void open_net(void)
{
	struct net_profile p = { 0 };

	rig_open(&n, &p);
	n.c.timeout_ms = PATIENCE_MS;
	rig_ok(net_pump(&n, 0, 20, 200), n.why);
}

static void close_net(void)
{
	rig_ok(vu_expect_silence(&n.c, 5), n.c.why);
	rig_ok(net_pump(&n, 0, 50, 200), n.why);
	net_close(&n);
}

#define NEVER SIZE_MAX

/* covers: M5 M6 */
START_TEST(test_any_cut_and_any_byte_for_descriptors)
{
	static const size_t parts[] = { 1, 5, 12, 13, 19 };
	struct letter letter;

	open_net();
	write_call(&letter, 0);
	for (size_t at = 0; at < letter.n_bytes; at++) {
		send_in_parts(&letter, parts[_i], at, NEVER);
		rig_ok(vu_recv_ack(&n.c, VU_SET_VRING_CALL), n.c.why);
	}
	write_table(&letter);
	send_in_parts(&letter, parts[_i], 0, NEVER);
	rig_ok(vu_recv_ack(&n.c, VU_SET_MEM_TABLE), n.c.why);
	close_net();
}
END_TEST

/* More single bytes than a socket of the usual size takes unread. */
/* covers: M5 M6 */
START_TEST(test_long_message_byte_by_byte)
{
	struct vu_config_head head = { .size = 256 };
	uint8_t body[sizeof(head) + 256] = { 0 };
	struct letter letter;

	open_net();
	memcpy(body, &head, sizeof(head));
	write_letter(&letter, VU_SET_CONFIG, body, sizeof(body));
	for (size_t at = 0; at < letter.n_bytes; at++) {
		wait_for_room();
		send_part(&letter, at, 1, false);
	}
	ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_CONFIG), VU_E_REFUSED);
	write_letter(&letter, VU_SET_FEATURES, &n.c.acked, 8);
	send_in_parts(&letter, 7, NEVER, NEVER);
	rig_ok(vu_recv_ack(&n.c, VU_SET_FEATURES), n.c.why);
	/* one that is too long for any is read to its end */
	write_letter(&letter, VU_SET_VRING_NUM, letter.bytes.body, 4150);
	send_in_parts(&letter, 100, NEVER, NEVER);
	ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_VRING_NUM), VU_E_REFUSED);
	close_net();
}
END_TEST

/* The rest comes together with what follows, whose descriptors are its own. */
START_TEST(test_end_of_one_and_the_next_in_one_piece)
{
	uint8_t both[128];
	struct letter first, next;

	open_net();
	write_call(&next, 1);
	for (size_t cut = 1; cut < sizeof(struct vu_header) + 8; cut++) {
		if (_i)
			write_call(&first, 0);
		else
			write_letter(&first, VU_SET_FEATURES, &n.c.acked, 8);
		send_part(&first, 0, cut, true);
		wait_until_read();
		memcpy(both, (uint8_t *)&first.bytes + cut, first.n_bytes - cut);
		rig_ok(vu_send_raw(&n.c, both, first.n_bytes - cut, NULL, 0), n.c.why);
		send_part(&next, 0, next.n_bytes, true);
		rig_ok(vu_recv_ack(&n.c, first.bytes.head.request), n.c.why);
		rig_ok(vu_recv_ack(&n.c, VU_SET_VRING_CALL), n.c.why);
	}
	close_net();
}
END_TEST

START_TEST(test_too_many_descriptors_are_refused)
{
	struct letter letter;

	open_net();
	write_call(&letter, 0);
	while (letter.n_fds < 9)
		letter.fds[letter.n_fds++] = n.rings[0].call_fd;
	for (size_t n_fds = 2; n_fds <= 9; n_fds++) {
		letter.n_fds = n_fds;
		send_in_parts(&letter, 3, 7, NEVER);
		ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_VRING_CALL), VU_E_REFUSED);
	}
	letter.n_fds = 1;
	for (size_t at = 0; at < letter.n_bytes; at++) {
		send_part(&letter, at, 1, true); /* with each byte */
		if (at + 1 < letter.n_bytes)
			wait_until_read();
	}
	ck_assert_int_eq(vu_recv_ack(&n.c, VU_SET_VRING_CALL), VU_E_REFUSED);
	close_net();
}
END_TEST

/* covers: M4 */
START_TEST(test_half_message_goes_with_its_sender)
{
	struct letter letter;

	for (size_t cut = 1; cut < sizeof(struct vu_header) + 8; cut += 3) {
		open_net();
		write_call(&letter, 0);
		send_part(&letter, 0, cut, true);
		wait_until_read();
		net_close(&n);
	}
	rig_check_net0();
}
END_TEST

/* --- Deaths --- */

/* covers: M5 P6 */
START_TEST(test_frontend_dies_between_any_two_bytes)
{
	struct letter letter;

	open_net();
	for (size_t at = 0; at < sizeof(struct vu_header) + 8; at++) {
		write_call(&letter, 0);
		send_in_parts(&letter, 1, at * 7 % 20, at);
		rig_ok(vu_recv_ack(&n.c, VU_SET_VRING_CALL), n.c.why);
	}
	close_net();
}
END_TEST

static pid_t start_killer(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 1;; i++) {
		/* later and later: a frontend that needs seconds to start gets there as well */
		unsigned int within_ms = 40u << (i / 20 < 7 ? i / 20 : 7);

		(void)suite_kill(&rig, "frontend");
		poll(NULL, 0, (int)(i * 13 % within_ms));
	}
}

/* covers: M5 P6 */
START_TEST(test_frontend_dies_at_any_time)
{
	struct letter letter;
	pid_t killer;

	open_net();
	write_table(&letter);
	killer = start_killer();
	for (size_t round = 0; round < 12; round++) {
		if (round & 1)
			write_table(&letter);
		else
			write_call(&letter, 0);
		send_in_parts(&letter, 1 + round % 3, round, NEVER);
		rig_ok(vu_recv_ack(&n.c, letter.bytes.head.request), n.c.why);
	}
	kill(killer, SIGKILL);
	waitpid(killer, NULL, 0);
	close_net();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "parts"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_any_cut_and_any_byte_for_descriptors, 0, 5);
	tcase_add_test(tc, test_long_message_byte_by_byte);
	tcase_add_loop_test(tc, test_end_of_one_and_the_next_in_one_piece, 0, 2);
	tcase_add_test(tc, test_too_many_descriptors_are_refused);
	tcase_add_test(tc, test_half_message_goes_with_its_sender);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 120);
	tcase_add_test(deaths, test_frontend_dies_between_any_two_bytes);
	tcase_add_test(deaths, test_frontend_dies_at_any_time);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("parts", &net0, add);
}
