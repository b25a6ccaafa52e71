/*
 * A pause begins when the rings of a running device lose their worker, and ends when memory hears
 * from its successor that a ring runs. Memory is the one that sees both ends: the kernel closes a
 * dead worker's link at once, and the successor reports when it serves. What the report takes is
 * part of the pause.
 *
 * A worker that ends in good order notes in the ledger when it stopped serving, and its successor
 * how long that took: these figures are the better ones where they are there. They are a worker's,
 * which a guest may have taken over, so they are used only as far as they can be true.
 *
 * A standby may serve before the end of its predecessor is seen here. After a planned end the
 * ledger tells the pause; after a death it was shorter than the news took, and counts as 0.
 */
#include "pauses.h"

#include "base/clock.h"
#include "peers.h"
#include "virtq/ledger.h"

const uint64_t pause_limits_us[PAUSE_LIMITS] = { 250, 500, 1000, 2500, 5000, 10000, 25000, 50000,
	100000, 250000, 500000, 1000000, 2500000, 10000000 };

const char *pause_cause_name(enum pause_cause cause)
{
	return cause == PAUSE_PLANNED ? "planned" : "death";
}

void pauses_count(struct pauses *pauses, enum pause_cause cause, uint64_t usec)
{
	struct pause_histogram *histogram = &pauses->of[cause];
	unsigned int i = 0;

	while (i < PAUSE_LIMITS && usec > pause_limits_us[i])
		i++;
	histogram->counts[i]++;
	histogram->sum_us += usec;
}

/* --- What the ledger says --- */

/** struct told - by the worker */
struct told {
	uint64_t left_ns;  /* 0 = it has not left in good order */
	uint64_t pause_ns; /* of the last planned restart; 0 = it is not over */
};

static struct told look(const struct served *device)
{
	struct told told = { 0 };
	struct ledger ledger;

	if (device->ledger_fd < 0 || ledger_open_existing(&ledger, device->ledger_fd) < 0)
		return told;
	told.left_ns = ledger.header->left_ns;
	told.pause_ns = ledger.header->pause_ns;
	ledger_close(&ledger);
	return told;
}

static uint64_t plausible(uint64_t usec, uint64_t most)
{
	return usec && usec <= most ? usec : most;
}

/* --- Begin and end --- */

static bool any_runs(const struct served *device)
{
	for (size_t i = 0; i < device->observed->n_rings; i++)
		if (device->observed->rings[i]->running)
			return true;
	return false;
}

static bool any_is_to_run(const struct served *device)
{
	for (size_t i = 0; i < device->desired->n_rings; i++)
		if (device->desired->rings[i]->started)
			return true;
	return false;
}

/* After a restart of this process nobody has reported yet: then it is the only one that there
 * is. */
static bool serves(const struct served *device, const struct peer *peer)
{
	return device->serving ? device->serving == peer : device->n_attached == 1;
}

void pauses_left(struct served *device, const struct peer *peer)
{
	struct pauses *pauses = &device->pauses;
	uint64_t now = clock_us();
	struct told told;

	if (pauses->begun_us || !serves(device, peer) || !any_runs(device))
		return;
	told = look(device);
	pauses->cause = told.left_ns ? PAUSE_PLANNED : PAUSE_DEATH;
	pauses->begun_us = told.left_ns ? plausible(told.left_ns / 1000, now) : now;
	if (now - pauses->begun_us > 60 * 1000000ULL)
		pauses->begun_us = now;
}

/* The ledger has the pause of a planned end that was not counted yet. */
static bool tells_planned(const struct pauses *pauses, uint64_t pause_ns)
{
	return pause_ns && pause_ns != pauses->known_ns;
}

/* The successor may have looked into the ledger before the end was seen here. */
static void end(struct pauses *pauses, uint64_t pause_ns)
{
	uint64_t usec = clock_us() - pauses->begun_us;

	if (tells_planned(pauses, pause_ns))
		pauses->cause = PAUSE_PLANNED;
	if (pauses->cause == PAUSE_PLANNED)
		usec = plausible(pause_ns / 1000, usec);
	pauses_count(pauses, pauses->cause, usec);
	pauses->begun_us = 0;
}

static void taken_over(struct pauses *pauses, uint64_t pause_ns)
{
	bool planned = tells_planned(pauses, pause_ns);

	pauses_count(pauses, planned ? PAUSE_PLANNED : PAUSE_DEATH, planned ? pause_ns / 1000 : 0);
}

void pauses_reported(struct served *device, const struct peer *peer)
{
	struct pauses *pauses = &device->pauses;
	bool other = device->serving && device->serving != peer;
	struct told told;

	if (!any_is_to_run(device))
		pauses->begun_us = 0;
	/* since this process was started: what is told is of before */
	if (!pauses->begun_us && !device->serving)
		pauses->known_ns = look(device).pause_ns;
	if ((!pauses->begun_us && !other) || !any_runs(device))
		return;
	told = look(device);
	if (pauses->begun_us)
		end(pauses, told.pause_ns);
	else
		taken_over(pauses, told.pause_ns);
	pauses->known_ns = told.pause_ns;
}
