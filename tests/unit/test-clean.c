/* What processes say of themselves, shown to an operator: whatever the bytes are, terminal and JSON
 * stay as they are. */
#include <stdlib.h>
#include <string.h>

#include "bus.pb-c.h"
#include "base/bytes.h"
#include "bus/texts.h"
#include "lib/run.h"

static const struct {
	const char *said, *shown;
} rows[] = {
	{ "", "" },
	{ "tap vm1-net0 (up)", "tap vm1-net0 (up)" },
	{ "/run/Br\xc3\xbc\xc3\xbc"
	  "cke\xe2\x82\xac\xf0\x9f\x9a\xa2",
		"/run/Br\xc3\xbc\xc3\xbc"
		"cke\xe2\x82\xac\xf0\x9f\x9a\xa2" },
	{ "a\nb\tc\rd", "a?b?c?d" },
	{ "\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?" },
	{ "\x7f\x01", "??" },
	/* the controls of 8 bits, as they are and as characters */
	{ "\x9b"
	  "31m",
		"?31m" },
	{ "\xc2\x9b"
	  "31m",
		"?31m" },
	{ "\xc2\xa0", "\xc2\xa0" },
	/* too short, at the end and before something else */
	{ "\xc3", "?" },
	{ "\xe2\x82", "??" },
	{ "\xf0\x9f\x9a"
	  "x",
		"???x" },
	{ "\x80\xbf\xff\xfe", "????" },
	/* written longer than need be, halves of a pair, beyond the last one */
	{ "\xc0\x8a", "??" },
	{ "\xe0\x80\x8a", "???" },
	{ "\xf0\x80\x80\x8a", "????" },
	{ "\xed\xa0\x80", "???" },
	{ "\xf4\x90\x80\x80", "????" },
	{ "\xf8\x88\x80\x80\x80", "?????" },
};

/* covers: P1 */
START_TEST(test_text_is_fit_to_be_shown)
{
	Bh__PeerStatus peer = BH__PEER_STATUS__INIT;

	peer.name = strdup(rows[_i].said);
	texts_clean(&peer.base);
	ck_assert_str_eq(peer.name, rows[_i].shown);
	free(peer.name);
}
END_TEST

/* covers: P1 */
START_TEST(test_texts_are_found_wherever_they_are)
{
	char guest[] = "a\n", peer_name[] = "b\n", error[] = "c\n", quarantine[] = "d\n";
	Bh__GetStatusReply status = BH__GET_STATUS_REPLY__INIT;
	Bh__PeerStatus peer = BH__PEER_STATUS__INIT, *peers[] = { &peer };
	Bh__DeviceStatus first = BH__DEVICE_STATUS__INIT, device = BH__DEVICE_STATUS__INIT,
			 *devices[] = { &first, &device };
	Bh__Observed observed = BH__OBSERVED__INIT;
	Bh__RingState ring = BH__RING_STATE__INIT, *rings[] = { &ring };

	status.guest = guest;
	status.n_peers = ARRAY_SIZE(peers);
	status.peers = peers;
	status.n_devices = ARRAY_SIZE(devices);
	status.devices = devices;
	peer.name = peer_name;
	device.observed = &observed;
	device.quarantine = quarantine;
	observed.n_rings = ARRAY_SIZE(rings);
	observed.rings = rings;
	ring.error = error;
	texts_clean(&status.base);
	ck_assert_str_eq(guest, "a?");
	ck_assert_str_eq(peer_name, "b?");
	ck_assert_str_eq(error, "c?");
	ck_assert_str_eq(quarantine, "d?");
}
END_TEST

/* Of a choice only what was chosen is there. */
/* covers: P1 */
START_TEST(test_text_of_a_choice)
{
	char text[] = "a\n";
	Bh__Failure failure = BH__FAILURE__INIT;
	Bh__Envelope envelope = BH__ENVELOPE__INIT;

	texts_clean(&envelope.base);
	failure.text = text;
	envelope.body_case = BH__ENVELOPE__BODY_FAILURE;
	envelope.failure = &failure;
	texts_clean(&envelope.base);
	ck_assert_str_eq(text, "a?");
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("clean");

	tcase_add_loop_test(tc, test_text_is_fit_to_be_shown, 0, ARRAY_SIZE(rows));
	tcase_add_test(tc, test_texts_are_found_wherever_they_are);
	tcase_add_test(tc, test_text_of_a_choice);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("clean", add_tests);
}
