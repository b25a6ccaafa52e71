/* The chains, for transmit and receive. */
#include "hostile.h"
#include "ring.h"

#define NEXT RING_DESC_NEXT
#define WRITE RING_DESC_WRITE
#define TABLE RING_DESC_INDIRECT

const struct hostile_row hostile_tx[] = {
	{ "unmapped", { { AT_NOTHING, 100, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "address wraps", { { AT_TOP, 100, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "4 GiB long", { { AT_GOOD, 0xffffffff, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "ends behind the region", { { AT_END, 100, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE,
		false },
	{ "second one unmapped", { { AT_GOOD, 60, NEXT, 1 }, { AT_NOTHING, 60, 0, 0 } }, 2,
		{ { 0 } }, 0, FAILS_ALONE, false },
	{ "no byte at a bad address", { { AT_GOOD, 100, NEXT, 1 }, { AT_NOTHING, 0, 0, 0 } }, 2,
		{ { 0 } }, 0, EITHER, false },
	{ "0 bytes", { { AT_GOOD, 0, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "1 byte", { { AT_GOOD, 1, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "header less one", { { AT_GOOD, 11, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "header alone", { { AT_GOOD, 12, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "header and one byte", { { AT_GOOD, 13, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "all writable", { { AT_GOOD, 100, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "readable behind writable",
		{ { AT_GOOD, 12, NEXT, 1 }, { AT_GOOD, 20, NEXT | WRITE, 2 },
			{ AT_GOOD, 60, 0, 0 } },
		3, { { 0 } }, 0, FAILS_ALONE, false },
	{ "next outside the ring", { { AT_GOOD, 100, NEXT, 0x4000 } }, 1, { { 0 } }, 0, EITHER,
		true },
	{ "next is itself", { { AT_GOOD, 100, NEXT, 0 } }, 1, { { 0 } }, 0, EITHER, true },
	{ "circle of two", { { AT_GOOD, 100, NEXT, 1 }, { AT_GOOD, 100, NEXT, 0 } }, 2, { { 0 } },
		0, EITHER, true },
	{ "table of 0 bytes", { { AT_TABLE, 0, TABLE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "table of 17 bytes", { { AT_TABLE, 17, TABLE, 0 } }, 1, { { AT_GOOD, 100, 0, 0 } }, 1,
		FAILS_ALONE, false },
	{ "table of 1 MiB", { { AT_TABLE, 1 << 20, TABLE, 0 } }, 1, { { AT_GOOD, 100, 0, 0 } }, 1,
		EITHER, false },
	{ "table unmapped", { { AT_NOTHING, 32, TABLE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "table wraps", { { AT_TOP, 32, TABLE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "table ends behind the region", { { AT_TABLE_END, 32, TABLE, 0 } }, 1, { { 0 } }, 0,
		FAILS_ALONE, false },
	{ "table at an odd address", { { AT_TABLE_ODD, 16, TABLE, 0 } }, 1,
		{ { AT_GOOD, 100, 0, 0 } }, 1, EITHER, false },
	{ "table in a table", { { AT_TABLE, 16, TABLE, 0 } }, 1, { { AT_TABLE, 16, TABLE, 0 } }, 1,
		FAILS_ALONE, false },
	{ "table and next", { { AT_TABLE, 16, TABLE | NEXT, 1 }, { AT_GOOD, 60, 0, 0 } }, 2,
		{ { AT_GOOD, 100, 0, 0 } }, 1, FAILS_ALONE, false },
	{ "next outside the table", { { AT_TABLE, 32, TABLE, 0 } }, 1,
		{ { AT_GOOD, 100, NEXT, 7 }, { AT_GOOD, 100, 0, 0 } }, 2, FAILS_ALONE, true },
	{ "circle in a table", { { AT_TABLE, 32, TABLE, 0 } }, 1,
		{ { AT_GOOD, 100, NEXT, 1 }, { AT_GOOD, 100, NEXT, 0 } }, 2, FAILS_ALONE, true },
	{ "bad address in a table", { { AT_TABLE, 32, TABLE, 0 } }, 1,
		{ { AT_GOOD, 100, NEXT, 1 }, { AT_NOTHING, 100, 0, 0 } }, 2, FAILS_ALONE, false },
	{ "the ring itself", { { AT_DESC, 100, 0, 0 } }, 1, { { 0 } }, 0, SERVED, false },
};
const size_t n_hostile_tx = sizeof(hostile_tx) / sizeof(hostile_tx[0]);

const struct hostile_row hostile_rx[] = {
	{ "unmapped", { { AT_NOTHING, 2000, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "address wraps", { { AT_TOP, 2000, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "ends behind the region", { { AT_END, 2000, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE,
		false },
	{ "all readable", { { AT_GOOD, 2000, 0, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "0 bytes", { { AT_GOOD, 0, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE, false },
	{ "less than a header", { { AT_GOOD, 11, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE,
		false },
	{ "less than the frame", { { AT_GOOD, 40, WRITE, 0 } }, 1, { { 0 } }, 0, FAILS_ALONE,
		false },
	{ "readable behind writable",
		{ { AT_GOOD, 1000, WRITE | NEXT, 1 }, { AT_GOOD, 1000, 0, 0 } }, 2, { { 0 } }, 0,
		FAILS_ALONE, false },
	{ "table of writable ones unmapped", { { AT_TABLE, 16, TABLE, 0 } }, 1,
		{ { AT_NOTHING, 2000, WRITE, 0 } }, 1, FAILS_ALONE, false },
};
const size_t n_hostile_rx = sizeof(hostile_rx) / sizeof(hostile_rx[0]);
