/* Commands of the driver's, in form: what each must have, and what is made of it. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "request.h"

static uint8_t bytes[REQUEST_HEAD_MAX + 64];
static struct request request;

static void put32(size_t at, uint32_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

static void begin(uint32_t type)
{
	memset(bytes, 0, sizeof(bytes));
	memset(&request, 0, sizeof(request));
	put32(0, type);
	put32(8, 7);
}

static uint32_t parse(size_t n_bytes, bool send_fences)
{
	return request_parse(&request, bytes, MIN(n_bytes, REQUEST_HEAD_MAX), n_bytes, send_fences);
}

static const struct {
	uint32_t type;
	size_t n_bytes; /* of the shortest one */
	uint32_t parsed_type;
} types[] = {
	{ VIRTIO_WL_CMD_VFD_NEW, 32, VIRTIO_WL_CMD_VFD_NEW },
	{ VIRTIO_WL_CMD_VFD_CLOSE, 12, VIRTIO_WL_CMD_VFD_CLOSE },
	{ VIRTIO_WL_CMD_VFD_SEND, 16, VIRTIO_WL_CMD_VFD_SEND },
	{ VIRTIO_WL_CMD_VFD_NEW_CTX, 12, VIRTIO_WL_CMD_VFD_NEW_CTX },
	{ VIRTIO_WL_CMD_VFD_NEW_PIPE, 32, VIRTIO_WL_CMD_VFD_NEW_PIPE },
	{ VIRTIO_WL_CMD_VFD_NEW_DMABUF, 64, VIRTIO_WL_CMD_VFD_NEW_DMABUF },
	{ VIRTIO_WL_CMD_VFD_DMABUF_SYNC, 16, VIRTIO_WL_CMD_VFD_DMABUF_SYNC },
	{ VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID, 16, VIRTIO_WL_CMD_VFD_SEND },
	{ VIRTIO_WL_CMD_VFD_NEW_CTX_NAMED, 60, VIRTIO_WL_CMD_VFD_NEW_CTX },
};

START_TEST(test_each_type_has_its_least_length)
{
	begin(types[_i].type);
	ck_assert_uint_eq(parse(types[_i].n_bytes - 1, true), VIRTIO_WL_RESP_ERR);
	ck_assert_uint_eq(parse(types[_i].n_bytes, true), 0);
	ck_assert_uint_eq(request.type, types[_i].parsed_type);
	ck_assert_uint_eq(request.vfd_id, 7);
	ck_assert_uint_eq(parse(types[_i].n_bytes + 64, true), 0);
}
END_TEST

static const uint32_t no_commands[] = { 0, 0xff, VIRTIO_WL_CMD_VFD_RECV, VIRTIO_WL_CMD_VFD_HUP,
	0x10b, 0x1000, UINT32_MAX };

START_TEST(test_what_is_no_command_is_refused)
{
	begin(no_commands[_i]);
	ck_assert_uint_eq(parse(sizeof(bytes), true), VIRTIO_WL_RESP_INVALID_CMD);
}
END_TEST

START_TEST(test_command_of_less_than_a_type_is_refused)
{
	begin(VIRTIO_WL_CMD_VFD_CLOSE);
	for (size_t n = 0; n < 4; n++)
		ck_assert_uint_eq(parse(n, true), VIRTIO_WL_RESP_INVALID_CMD);
}
END_TEST

START_TEST(test_sizes_and_flags_are_found)
{
	begin(VIRTIO_WL_CMD_VFD_NEW);
	put32(12, 3);
	put32(24, 0x12345);
	ck_assert_uint_eq(parse(64, false), 0);
	ck_assert_uint_eq(request.flags, 3);
	ck_assert_uint_eq(request.size, 0x12345);
	begin(VIRTIO_WL_CMD_VFD_DMABUF_SYNC);
	put32(12, 5);
	ck_assert_uint_eq(parse(16, false), 0);
	ck_assert_uint_eq(request.flags, 5);
	begin(VIRTIO_WL_CMD_VFD_NEW_DMABUF);
	put32(28, 640);
	put32(32, 480);
	put32(36, 0x34325258);
	ck_assert_uint_eq(parse(64, false), 0);
	ck_assert_uint_eq(request.width, 640);
	ck_assert_uint_eq(request.height, 480);
	ck_assert_uint_eq(request.format, 0x34325258);
}
END_TEST

/* 4 bytes an entry in a SEND; 8 or 16 in SEND_FOREIGN_ID */
static const struct {
	uint32_t type;
	bool send_fences;
	size_t item_bytes;
} sends[] = {
	{ VIRTIO_WL_CMD_VFD_SEND, false, 4 },
	{ VIRTIO_WL_CMD_VFD_SEND, true, 4 },
	{ VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID, false, 8 },
	{ VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID, true, 16 },
};

START_TEST(test_send_has_up_to_28_entries_then_data)
{
	size_t item_bytes = sends[_i].item_bytes;

	for (uint32_t n = 0; n <= 30; n++) {
		uint32_t r;

		begin(sends[_i].type);
		put32(12, n);
		r = parse(16 + n * item_bytes + 5, sends[_i].send_fences);
		ck_assert_uint_eq(r, n <= 28 ? 0 : VIRTIO_WL_RESP_INVALID_CMD);
		if (r != 0)
			continue;
		ck_assert_uint_eq(request.n_items, n);
		ck_assert_uint_eq(request.data_at, 16 + n * item_bytes);
		ck_assert_uint_eq(request.data_bytes, 5);
	}
}
END_TEST

START_TEST(test_send_without_room_for_its_entries_is_refused)
{
	begin(sends[_i].type);
	put32(12, 3);
	ck_assert_uint_eq(parse(16 + 3 * sends[_i].item_bytes - 1, sends[_i].send_fences),
		VIRTIO_WL_RESP_ERR);
	put32(12, UINT32_MAX);
	ck_assert_uint_eq(parse(sizeof(bytes), sends[_i].send_fences), VIRTIO_WL_RESP_INVALID_CMD);
}
END_TEST

START_TEST(test_entries_of_each_layout_are_found)
{
	begin(VIRTIO_WL_CMD_VFD_SEND);
	put32(12, 2);
	put32(16, 11);
	put32(20, 12);
	ck_assert_uint_eq(parse(24, true), 0);
	ck_assert_uint_eq(request.items[1].id, 12);
	begin(VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID);
	put32(12, 2);
	put32(16, 0);
	put32(20, 11);
	put32(24, 1);
	put32(28, 12);
	ck_assert_uint_eq(parse(32, false), 0);
	ck_assert_uint_eq(request.items[0].id, 11);
	ck_assert_uint_eq(request.items[1].kind, VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU);
	ck_assert_uint_eq(request.items[1].id, 12);
}
END_TEST

START_TEST(test_only_a_fence_has_64_bits)
{
	begin(VIRTIO_WL_CMD_VFD_SEND_FOREIGN_ID);
	put32(12, 1);
	put32(16, (uint32_t)_i);
	put32(24, 5);
	put32(28, 6);
	ck_assert_uint_eq(parse(32, true),
		_i < _VIRTIO_WL_CTRL_VFD_SEND_KIND_N ? 0 : VIRTIO_WL_RESP_INVALID_ID);
	if (_i == VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU_FENCE)
		ck_assert_uint_eq(request.items[0].id, UINT64_C(0x600000005));
	else if (_i < _VIRTIO_WL_CTRL_VFD_SEND_KIND_N)
		ck_assert_uint_eq(request.items[0].id, 5);
}
END_TEST

static const struct {
	const char *name;
	bool valid;
} names[] = {
	{ "", true },
	{ "wayland-1", true },
	{ "a name of all of the 32 bytes ..", true },
	{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true },
	{ "\xff", false },
	{ "\x80", false },
	{ "\xc3", false },
	{ "\xc0\xaf", false },
	{ "\xe0\x80\xaf", false },
	{ "\xed\xa0\x80", false },
	{ "\xf4\x90\x80\x80", false },
};

START_TEST(test_name_is_utf8)
{
	begin(VIRTIO_WL_CMD_VFD_NEW_CTX_NAMED);
	memcpy(bytes + VIRTWL_NAME_OFFSET, names[_i].name, strlen(names[_i].name));
	put32(VIRTWL_NAME_OFFSET + VIRTWL_NAME_MAX, UINT32_MAX);
	ck_assert_uint_eq(parse(64, true), names[_i].valid ? 0 : VIRTIO_WL_RESP_INVALID_ID);
	if (names[_i].valid)
		ck_assert_str_eq(request.name, names[_i].name);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("wl-request");

	tcase_add_loop_test(tc, test_each_type_has_its_least_length, 0, ARRAY_SIZE(types));
	tcase_add_loop_test(tc, test_what_is_no_command_is_refused, 0, ARRAY_SIZE(no_commands));
	tcase_add_test(tc, test_command_of_less_than_a_type_is_refused);
	tcase_add_test(tc, test_sizes_and_flags_are_found);
	tcase_add_loop_test(tc, test_send_has_up_to_28_entries_then_data, 0, ARRAY_SIZE(sends));
	tcase_add_loop_test(tc, test_send_without_room_for_its_entries_is_refused, 0,
		ARRAY_SIZE(sends));
	tcase_add_test(tc, test_entries_of_each_layout_are_found);
	tcase_add_loop_test(tc, test_only_a_fence_has_64_bits, 0, 6);
	tcase_add_loop_test(tc, test_name_is_utf8, 0, ARRAY_SIZE(names));
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("wl-request", add_tests);
}
