/*
 * What others can cause to be logged, and what they can cause to be shown: how many lines, and
 * which characters.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/limit.h"
#include "base/log.h"
#include "base/text.h"
#include "bus.pb-c.h"
#include "bus/texts.h"
#include "lib/run.h"

/* --- Characters --- */

static const struct {
	const char *text, *shown;
} texts[] = {
	{ "plain text, 100 %", "plain text, 100 %" },
	{ "Gr\xc3\xbc\xc3\x9f"
	  "e \xe2\x82\xac \xf0\x9f\x9a\xa2",
		"Gr\xc3\xbc\xc3\x9f"
		"e \xe2\x82\xac \xf0\x9f\x9a\xa2" },
	{ "\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?" },
	{ "one\ntwo\r\tthree\x7f", "one?two??three?" },
	{ "c1 \xc2\x9b"
	  "31m \xc2\x85",
		"c1 ?31m ?" },
	{ "turned \xe2\x80\xae"
	  "txt \xe2\x81\xa6",
		"turned ?txt ?" },
	{ "line \xe2\x80\xa8 paragraph \xe2\x80\xa9", "line ? paragraph ?" },
	{ "\xff\xfe latin \xe9", "?? latin ?" },
	{ "long \xc0\xaf \xe0\x80\xaf \xf8\x88\x80\x80\x80", "long ?? ??? ?????" },
	{ "surrogate \xed\xa0\x80, beyond \xf4\x90\x80\x80", "surrogate ???, beyond ????" },
	{ "cut \xe2\x82", "cut ??" },
	{ "", "" },
};

START_TEST(test_text_is_shown_without_control_characters)
{
	char buf[128];

	snprintf(buf, sizeof(buf), "%s", texts[_i].text);
	ck_assert_str_eq(text_clean(buf), texts[_i].shown);
}
END_TEST

/* Wherever in a message a text stands. */
START_TEST(test_texts_of_a_message_are_cleaned)
{
	Bh__GetStatusReply status = BH__GET_STATUS_REPLY__INIT;
	Bh__Envelope msg = BH__ENVELOPE__INIT;
	Bh__DeviceStatus device = BH__DEVICE_STATUS__INIT, *devices[] = { &device };
	Bh__Observed observed = BH__OBSERVED__INIT;
	char name[] = "net\x1b[1m", backend[] = "tap\n0", guest[] = "vm\x07";

	msg.body_case = BH__ENVELOPE__BODY_GET_STATUS_REPLY;
	msg.get_status_reply = &status;
	status.guest = guest;
	status.devices = devices;
	status.n_devices = 1;
	device.name = name;
	device.observed = &observed;
	observed.backend = backend;
	texts_clean(&msg.base);
	ck_assert_str_eq(guest, "vm?");
	ck_assert_str_eq(name, "net?[1m");
	ck_assert_str_eq(backend, "tap?0");
}
END_TEST

/* --- How many --- */

START_TEST(test_flood_costs_few_lines)
{
	struct limit limit = { 0 };
	struct limit_told told;
	unsigned int n_lines = 0, n_told = 0;

	for (unsigned int ms = 0; ms < 100000; ms++) {
		if (!limit_pass(&limit, 5000 + ms, &told))
			continue;
		n_lines++;
		n_told += told.more;
	}
	ck_assert_uint_le(n_lines, LIMIT_FIRST + 10);
	ck_assert(limit_due(&limit, 5000 + 100000 + 2 * LIMIT_WINDOW_MS, &told));
	ck_assert_uint_eq(n_lines + n_told + told.more, 100000);
	ck_assert(!limit_due(&limit, 5000 + 100000 + 9 * LIMIT_WINDOW_MS, &told));
}
END_TEST

START_TEST(test_quiet_kind_begins_anew)
{
	struct limit limit = { 0 };
	struct limit_told told;

	for (unsigned int i = 0; i < 2 * LIMIT_FIRST; i++)
		ck_assert_int_eq(limit_pass(&limit, 1000, &told), i < LIMIT_FIRST);
	for (unsigned int i = 0; i < LIMIT_FIRST; i++) {
		ck_assert(limit_pass(&limit, 1000 + 3 * LIMIT_WINDOW_MS, &told));
		ck_assert_uint_eq(told.more, i ? 0 : LIMIT_FIRST);
	}
}
END_TEST

START_TEST(test_rare_lines_are_all_written)
{
	struct limit limit = { 0 };
	struct limit_told told;

	for (unsigned int i = 0; i < 1000; i++) {
		ck_assert(limit_pass(&limit, 1000 + 1500ull * i, &told));
		ck_assert_uint_eq(told.more, 0);
	}
}
END_TEST

/* --- The log --- */

static int written; /* takes the place of stderr */
static char *shown;

static void catch_log(void)
{
	unsetenv("JOURNAL_STREAM");
	written = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(dup2(written, STDERR_FILENO), 0);
	log_open("test", "vm1", "net0");
}

static const char *read_written(void)
{
	off_t n = lseek(written, 0, SEEK_END);

	shown = calloc(1, (size_t)n + 1);
	ck_assert_int_eq(pread(written, shown, (size_t)n, 0), n);
	return shown;
}

static unsigned int count(const char *what)
{
	unsigned int n = 0;

	for (const char *at = read_written(); (at = strstr(at, what)); at += strlen(what))
		n++;
	free(shown);
	return n;
}

START_TEST(test_flood_hides_no_other_line)
{
	catch_log();
	for (int i = 0; i < 10000; i++)
		log_limited(LOG_WARNING, "net0", 7, "message %d is refused", i);
	log_limited(LOG_WARNING, "net0", 8, "message %d is refused", 10001);
	log_limited(LOG_WARNING, "net1", 7, "message %d is refused", 10002);
	log_limited(LOG_WARNING, "net0", 7, "another place");
	ck_assert_uint_eq(count("is refused"), LIMIT_FIRST + 2);
	ck_assert_uint_eq(count("message 10001 is"), 1);
	ck_assert_uint_eq(count("net1]: message 10002 is"), 1);
	ck_assert_uint_eq(count("another place"), 1);
}
END_TEST

/* More kinds than are remembered: each makes room for another, and none is lost without a word of
 * it. */
START_TEST(test_many_kinds_have_room)
{
	catch_log();
	for (unsigned int i = 0; i < 2000; i++)
		log_limited(LOG_WARNING, NULL, i, "kind");
	log_limited(LOG_WARNING, NULL, 1999, "kind");
	ck_assert_uint_eq(count("kind"), 2001);
}
END_TEST

START_TEST(test_logged_text_is_one_line)
{
	catch_log();
	log_error("what '%s' says", "\x1b[31m\nbulkhead-memory: all is well");
	ck_assert_uint_eq(count("\n"), 1);
	ck_assert_uint_eq(count("\x1b"), 0);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("log");

	tcase_add_loop_test(tc, test_text_is_shown_without_control_characters, 0,
		ARRAY_SIZE(texts));
	tcase_add_test(tc, test_texts_of_a_message_are_cleaned);
	tcase_add_test(tc, test_flood_costs_few_lines);
	tcase_add_test(tc, test_quiet_kind_begins_anew);
	tcase_add_test(tc, test_rare_lines_are_all_written);
	tcase_add_test(tc, test_flood_hides_no_other_line);
	tcase_add_test(tc, test_many_kinds_have_room);
	tcase_add_test(tc, test_logged_text_is_one_line);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("log", add);
}
