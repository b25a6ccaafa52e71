/* What a message says, in words, however much of it there is. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "protocol.h"
#include "requests.h"
#include "trace-text.h"

/** struct example - a payload, and what is to be said of it */
static const struct example {
	enum request request;
	bool is_reply;
	uint64_t words[5];
	size_t n_bytes;
	const char *text;
} examples[] = {
	{ SET_FEATURES, false, { 0x140010000 }, 8, "0x140010000" },
	{ SET_FEATURES, false, { 0x140010000 }, 7, "7 bytes" },
	{ SET_OWNER, false, { 0 }, 0, "" },
	{ GET_QUEUE_NUM, true, { 12 }, 8, "12" },
	{ SET_VRING_NUM, false, { 256ULL << 32 | 3 }, 8, "ring 3: 256" },
	{ SET_VRING_KICK, false, { 5 }, 8, "ring 5" },
	{ SET_VRING_KICK, false, { 0x105 }, 8, "ring 5, no descriptor" },
	{ SET_VRING_ADDR, false, { 1ULL << 32 | 2, 0xa000, 0xb000, 0xc000, 0xd000 }, 40,
		"ring 2: descriptors 0xa000, available 0xc000, used 0xb000, log 0xd000" },
	{ ADD_MEM_REG, false, { 0, 0x1000, 0x2000, 0x3000, 0x4000 }, 40,
		"guest 0x1000, size 0x2000, user 0x3000, offset 0x4000" },
	{ SET_MEM_TABLE, false, { 1, 0x1000, 0x2000, 0x3000, 0x4000 }, 40,
		"1 regions; guest 0x1000, size 0x2000, user 0x3000, offset 0x4000" },
	{ SET_MEM_TABLE, false, { 2, 0x1000, 0x2000, 0x3000, 0x4000 }, 40,
		"2 regions; guest 0x1000, size 0x2000, user 0x3000, offset 0x4000" },
	{ GET_CONFIG, true, { 2ULL << 32 | 6, 0xbbaa00000000 }, 14, "offset 6, 2 bytes: aa bb" },
	{ SET_DEVICE_STATE_FD, false, { 1 }, 8, "load, phase 0" },
	{ SET_DEVICE_STATE_FD, true, { 0x100 }, 8, "0x100" },
	{ _REQUESTS_END, false, { 0 }, 4, "4 bytes" },
};

START_TEST(test_payload_is_said_in_words)
{
	const struct example *example = &examples[_i];
	char text[TRACE_TEXT_BYTES];

	trace_text(example->request, example->is_reply, example->words, example->n_bytes, text);
	ck_assert_str_eq(text, example->text);
}
END_TEST

/* Memory that is exactly as long as the payload: a sanitizer sees what is read beyond it. */
START_TEST(test_payload_of_any_length_is_read_to_its_end_only)
{
	char text[TRACE_TEXT_BYTES];

	for (size_t n = 0; n < 400; n++) {
		uint8_t *payload = malloc(n + !n);

		ck_assert_ptr_nonnull(payload);
		memset(payload, 0xff, n);
		for (int reply = 0; reply < 2; reply++) {
			memset(text, 'x', sizeof(text));
			trace_text((uint32_t)_i, reply, payload, n, text);
			ck_assert_uint_lt(strnlen(text, sizeof(text)), sizeof(text));
		}
		free(payload);
	}
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("text");

	tcase_add_loop_test(tc, test_payload_is_said_in_words, 0, ARRAY_SIZE(examples));
	tcase_add_loop_test(tc, test_payload_of_any_length_is_read_to_its_end_only, 0,
		_REQUESTS_END + 1);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("trace", add_tests);
}
