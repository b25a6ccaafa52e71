/*
 * Two scrapes, one interval apart, make a table of rates. A terminal is redrawn; into a pipe goes a
 * line for each device and interval, each with the time, so that it can be filtered and read later.
 *
 * A counter that is less than it was belongs to another life of the device, and has no rate.
 */
#include "top.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "scrape.h"

#define DEFAULT_INTERVAL_S 2
#define US_PER_S 1000000

/* From the left upper corner on; what is left of a line, and of the screen, is cleared. */
#define HOME "\033[H"
#define CLEAR_LINE "\033[K\n"
#define CLEAR_REST "\033[J"

/** struct totals - of a device, so far */
struct totals {
	uint64_t frames[2], bytes[2]; /* 0: to the guest, 1: from it */
	uint64_t drops;
	uint64_t cpu_ms;
	uint64_t restarts;
};

/** struct view - a look at all guests */
struct view {
	struct look look;
	struct scrape scrape;
};

/* --- A device --- */

/* An even queue leads to the guest, whatever type the device has. */
static void add_queues(const Bh__DeviceStatus *device, struct totals *totals)
{
	for (size_t i = 0; i < device->n_counters; i++) {
		const Bh__QueueCounters *c = device->counters[i];
		const char *direction = scrape_direction(device, c->index);
		unsigned int way = c->index % 2;

		totals->drops += c->dropped;
		if (*direction == 'c')
			continue;
		totals->frames[way] += *direction ? c->items : c->chains;
		totals->bytes[way] += c->bytes;
	}
}

static bool is_worker_of(const Bh__PeerStatus *peer, const Bh__DeviceStatus *device)
{
	size_t n = strcspn(peer->name, "+");

	return strlen(device->name) == n && strncmp(peer->name, device->name, n) == 0;
}

static struct totals totals_of(const struct scraped *guest, const Bh__DeviceStatus *device)
{
	struct totals totals = { 0 };

	add_queues(device, &totals);
	for (size_t i = 0; i < guest->status->n_peers; i++) {
		const Bh__PeerStatus *peer = guest->status->peers[i];

		if (!is_worker_of(peer, device))
			continue;
		totals.cpu_ms += guest->usage[i].cpu_ms;
		totals.restarts += scrape_restarts(guest, peer);
	}
	return totals;
}

/* What it was before; NULL = it was not there. */
static const Bh__DeviceStatus *find(const struct scrape *scrape, const struct scraped *guest,
	const Bh__DeviceStatus *device, const struct scraped **ret_guest)
{
	for (size_t i = 0; i < scrape->n; i++) {
		const struct scraped *former = &scrape->guests[i];

		if (!former->status || strcmp(former->guest, guest->guest) != 0)
			continue;
		*ret_guest = former;
		for (size_t j = 0; j < former->status->n_devices; j++)
			if (strcmp(former->status->devices[j]->name, device->name) == 0)
				return former->status->devices[j];
	}
	return NULL;
}

static const char *state_of(const Bh__DeviceStatus *device)
{
	if (*device->quarantine)
		return "quarantine";
	if (!device->vmm_connected)
		return "no VMM";
	for (size_t i = 0; i < device->observed->n_rings; i++)
		if (device->observed->rings[i]->running)
			return "running";
	return "stopped";
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

static void print_device(const struct scraped *guest, const Bh__DeviceStatus *device,
	const struct scrape *before, const char *end)
{
	const struct scraped *then = NULL;
	const Bh__DeviceStatus *former = find(before, guest, device, &then);
	struct totals now = totals_of(guest, device);
	struct totals was = former ? totals_of(then, former) : now;
	double s = then ? (double)(guest->taken_us - then->taken_us) / US_PER_S : 0;
	char name[160];

	snprintf(name, sizeof(name), "%s:%s", guest->guest, device->name);
	printf("%-24s %-10s %10.0f %10.2f %10.0f %10.2f %8.0f %8" PRIu64 " %6.1f%s", name,
		state_of(device), rate(now.frames[0], was.frames[0], s),
		rate(now.bytes[0], was.bytes[0], s) * 8 / 1e6,
		rate(now.frames[1], was.frames[1], s),
		rate(now.bytes[1], was.bytes[1], s) * 8 / 1e6, rate(now.drops, was.drops, s),
		now.restarts, rate(now.cpu_ms, was.cpu_ms, s) / 10, end);
}

/* --- A table --- */

static void print_time(void)
{
	time_t now = time(NULL);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	printf("%s ", text);
}

static void print_head(bool redraw, const char *end)
{
	if (!redraw)
		printf("%-20s ", "TIME");
	printf("%-24s %-10s %10s %10s %10s %10s %8s %8s %6s%s", "DEVICE", "STATE", "RX/S",
		"RX-MBIT/S", "TX/S", "TX-MBIT/S", "DROPS/S", "RESTARTS", "CPU%", end);
}

static void print_guest(const struct scraped *guest, const struct scrape *before, bool redraw,
	const char *end)
{
	if (!guest->status && !redraw)
		print_time();
	if (!guest->status)
		printf("%-24s %-10s%s", guest->guest, "no answer", end);
	for (size_t i = 0; guest->status && i < guest->status->n_devices; i++) {
		if (!redraw)
			print_time();
		print_device(guest, guest->status->devices[i], before, end);
	}
}

static void print_table(const struct scrape *now, const struct scrape *before, bool redraw,
	bool first)
{
	const char *end = redraw ? CLEAR_LINE : "\n";

	if (redraw)
		fputs(HOME, stdout);
	if (redraw || first)
		print_head(redraw, end);
	for (size_t i = 0; i < now->n; i++)
		print_guest(&now->guests[i], before, redraw, end);
	if (redraw)
		fputs(CLEAR_REST, stdout);
}

/* --- Again and again --- */

static void look(struct view *view, const struct arguments *args, char *names[], size_t n)
{
	look_open(&view->look, args->runtime_dir, args->config_dir);
	scrape_take(&view->scrape, &view->look, names, n, false);
}

static void forget(struct view *view)
{
	scrape_free(&view->scrape);
	look_close(&view->look);
}

int top_run(const struct arguments *args, char *names[], size_t n)
{
	static struct view views[2];
	bool redraw = isatty(STDOUT_FILENO);
	uint64_t interval = args->interval_s ?: DEFAULT_INTERVAL_S;
	int r;

	look(&views[0], args, names, n);
	r = n ? scrape_known(&views[0].scrape, &views[0].look) : 0;
	for (uint64_t i = 0; r == 0 && (!args->count || i < args->count); i++) {
		const struct view *before = &views[i % 2];
		struct view *now = &views[(i + 1) % 2];

		sleep((unsigned int)interval);
		forget(now);
		look(now, args, names, n);
		print_table(&now->scrape, &before->scrape, redraw, i == 0);
		if (fflush(stdout) != 0)
			break;
	}
	forget(&views[0]);
	forget(&views[1]);
	return r;
}
