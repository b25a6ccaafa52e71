/*
 * Memory's bus: a list of messages, each from one of its peers, goes through unpacking, the table
 * and the handlers, while the ledger holds arbitrary bytes and peers come and go. At any time the
 * record in force passes the judge. Halves of records are also judged on their own.
 */
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "input.h"
#include "memory-rig.h"

static void judge_one_desired(const uint8_t *bytes, size_t n, uint64_t now)
{
	Bh__Desired *desired = bh__desired__unpack(NULL, n, bytes);
	char text[256] = "";

	if (!desired)
		return;
	check(judge_desired(desired, now, text, sizeof(text)) == 0 || *text);
	bh__desired__free_unpacked(desired, NULL);
}

static void judge_one_observed(const uint8_t *bytes, size_t n, uint64_t now)
{
	Bh__Observed *observed = bh__observed__unpack(NULL, n, bytes);
	char text[256] = "";

	if (!observed)
		return;
	check(judge_observed(observed, now, text, sizeof(text)) == 0 || *text);
	bh__observed__free_unpacked(observed, NULL);
}

/* A worker that was taken over writes what it likes into the ledger that memory reads. */
static void write_ledger(const uint8_t *bytes, size_t n)
{
	int fd = rig_memory.devices[0].ledger_fd;

	if (fd >= 0 && n > 1) /* it is sealed: what would lie behind its end is left out */
		(void)!pwrite(fd, bytes + 1, n - 1, bytes[0] * 256);
}

/* The side link is fuzz-link's: here a transfer just begins, or its stream is taken. */
static void move(uint8_t how)
{
	size_t device = how % RIG_DEVICES;
	Bh__TakeStream take = BH__TAKE_STREAM__INIT;

	rig_memory.peers[RIG_SNAPSHOT].connects = 1;
	if (how & 8) {
		take.device = rig_memory.devices[device].config->name;
		take.id = rig_memory.devices[device].transfer.id;
		fd_close(transfers_take(&rig_memory, &take));
	} else {
		(void)rig_start(how & 4 ? RIG_CTL : RIG_FRONTEND, device, how & 2);
	}
}

static void step(struct input *in)
{
	uint8_t what = input_u8(in) % (_RIG_ASKERS + 5);
	size_t n = input_u16(in);
	const uint8_t *bytes = input_view(in, n, &n);

	switch (what) {
	case _RIG_ASKERS:
		judge_one_desired(bytes, n, n % 3 ? 0 : n);
		return;
	case _RIG_ASKERS + 1:
		judge_one_observed(bytes, n, n);
		return;
	case _RIG_ASKERS + 2:
		write_ledger(bytes, n);
		return;
	case _RIG_ASKERS + 3:
		rig_leave(n % _RIG_PEERS);
		return;
	case _RIG_ASKERS + 4:
		move(n ? bytes[0] : 0);
		return;
	default:
		rig_ask(what, bytes, n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };

	rig_open(NULL);
	rig_deposit();
	if (input_u8(&in) & 1) /* a ledger is there, and workers are attached */
		check(ledgers_get(&rig_memory.devices[0], 65536) >= 0);
	while (in.n)
		step(&in);
	rig_close();
	return 0;
}
