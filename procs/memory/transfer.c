/* A step has one side that does it: the table below. What a step needs no more is let go at once,
 * since whoever reads the other end of a pipe waits for our end to be closed. */
#include "transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/text.h"

#define FIRST BH__TRANSFER__STEP__FIRST
#define SECOND BH__TRANSFER__STEP__SECOND
#define ENDED BH__TRANSFER__STEP__ENDED

/** struct step - who does a step, and what is said when nobody did */
struct step {
	enum transfer_side side;
	const char *late;
};

static const struct step save_steps[] = {
	[FIRST] = { SIDE_WORKER, "the device has not handed over its state within 30 s" },
	[SECOND] = { SIDE_SNAPSHOT, "the stream was not read to its end within 30 s" },
	[ENDED] = { SIDE_NOBODY, "" },
};
static const struct step load_steps[] = {
	[FIRST] = { SIDE_SNAPSHOT, "the stream has not ended within 30 s" },
	[SECOND] = { SIDE_WORKER, "the device has not taken over the state within 30 s" },
	[ENDED] = { SIDE_NOBODY, "" },
};

static const struct step *step_of(const struct transfer *transfer)
{
	return &(transfer->load ? load_steps : save_steps)[transfer->step];
}

enum transfer_side transfer_turn(const struct transfer *transfer)
{
	return transfer->id ? step_of(transfer)->side : SIDE_NOBODY;
}

/* Never that of another one, also after our restart. */
static uint64_t new_id(void)
{
	uint64_t id = 0;

	while (id == 0)
		check(getrandom(&id, sizeof(id), 0) == sizeof(id));
	return id;
}

void transfer_begin(struct transfer *transfer, const struct transfer *start, uint64_t now_usec)
{
	transfer_clear(transfer);
	*transfer = *start;
	transfer->id = new_id();
	transfer->due_usec = now_usec + TRANSFER_STEP_USEC;
}

bool transfer_is_same(const struct transfer *transfer, const struct transfer *start)
{
	return transfer->id && transfer->load == start->load && !transfer->owner == !start->owner &&
		transfer->session == start->session && transfer->dev == start->dev &&
		transfer->ino == start->ino;
}

int transfer_take(struct transfer *transfer)
{
	if (transfer->stream >= 0)
		transfer->taken = true;
	return fd_steal(&transfer->stream);
}

static void drop_state(struct transfer *transfer)
{
	free(ptr_steal(&transfer->state));
	transfer->n_state = 0;
}

static void end(struct transfer *transfer)
{
	transfer->step = ENDED;
	transfer->stream = fd_close(transfer->stream);
	drop_state(transfer);
}

/* Where the rings go on is all that is of interest. */
static int copy_rings(struct transfer *transfer, const Bh__ReportTransfer *report)
{
	Bh__RingState *rings = calloc(report->n_rings + 1, sizeof(*rings));
	Bh__RingState **list = calloc(report->n_rings + 1, sizeof(Bh__RingState *));

	if (!rings || !list) {
		free(rings);
		free(list);
		return -ENOMEM;
	}
	for (size_t i = 0; i < report->n_rings; i++) {
		bh__ring_state__init(&rings[i]);
		rings[i].index = report->rings[i]->index;
		rings[i].position = report->rings[i]->position;
		list[i] = &rings[i];
	}
	transfer->rings = rings;
	transfer->ring_list = list;
	transfer->n_rings = report->n_rings;
	return 0;
}

static int copy_state(struct transfer *transfer, const Bh__ReportTransfer *report)
{
	transfer->state = malloc(report->state.len);
	if (!transfer->state)
		return -ENOMEM;
	memcpy(transfer->state, report->state.data, report->state.len);
	transfer->n_state = report->state.len;
	return 0;
}

int transfer_done(struct transfer *transfer, const Bh__ReportTransfer *report, uint64_t now_usec)
{
	int r = 0;

	if (transfer->step == FIRST)
		r = copy_state(transfer, report);
	else if (transfer->load)
		r = copy_rings(transfer, report);
	if (r < 0)
		return r;
	if (transfer->step == FIRST) {
		transfer->step = SECOND;
		transfer->due_usec = now_usec + TRANSFER_STEP_USEC;
	} else {
		end(transfer);
	}
	return 0;
}

void transfer_fail(struct transfer *transfer, const char *text)
{
	if (transfer_turn(transfer) == SIDE_NOBODY)
		return;
	transfer->error = strndup(*text ? text : "no reason is given", TRANSFER_ERROR_BYTES);
	check(transfer->error);
	(void)text_clean(transfer->error);
	end(transfer);
}

const char *transfer_late(const struct transfer *transfer)
{
	if (transfer_turn(transfer) == SIDE_SNAPSHOT && !transfer->taken)
		return "the process 'snapshot' has not taken the stream within 30 s";
	return step_of(transfer)->late;
}

void transfer_clear(struct transfer *transfer)
{
	if (transfer->id)
		fd_close(transfer->stream);
	free(transfer->state);
	free(transfer->error);
	free(transfer->rings);
	free(transfer->ring_list);
	*transfer = (struct transfer){ .stream = -1 };
}

void transfer_show(const struct transfer *transfer, const char *device, Bh__Transfer *ret)
{
	bh__transfer__init(ret);
	ret->id = transfer->id;
	ret->device = (char *)device;
	ret->load = transfer->load;
	ret->by_operator = transfer->owner != NULL;
	ret->generation = transfer->generation;
	ret->step = transfer->step;
	ret->error = transfer->error ?: ret->error;
	ret->n_rings = transfer->n_rings;
	ret->rings = transfer->ring_list;
}
