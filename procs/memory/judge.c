/*
 * Counters that only grow survive all restarts. A counter near its end would stop the device for
 * good, so a counter may not leap. A first value of up to 2^62 leaves more steps than anybody will
 * ever make. What is read from a file again was judged when it was written there, by what was in
 * force then.
 */
#include "judge.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "record/record.h"
#include "regions.h"
#include "vault.h"

#define NUM(x) ((unsigned long long)(x))
#define FIRST_MAX (UINT64_C(1) << 62)
#define COUNTER_MAX (UINT64_C(1) << 63)
#define LEAP_MAX (UINT64_C(1) << 20)
#define TEXT_MAX 256
#define CONFIG_WRITES_MAX 64
#define MAC_BYTES 6
#define FIGURES_MAX 32
#define PAGE_BYTES 4096

/** struct verdict - where the reason of a refusal goes */
struct verdict {
	char *text;
	size_t n_text;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct verdict *verdict,
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(verdict->text, verdict->n_text, fmt, ap);
	va_end(ap);
	return 1;
}

/* --- Texts --- */

/* The length of the UTF-8 character at s; 0: it is malformed, or a control character. */
static size_t plain_character(const unsigned char *s)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = { { 0x80, 0, 0x20 }, { 0xe0, 0xc0, 0xa0 }, { 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 } };

	for (size_t n = 1; n <= ARRAY_SIZE(forms); n++) {
		uint32_t c = *s & (unsigned char)~forms[n - 1].mask;

		if ((*s & forms[n - 1].mask) != forms[n - 1].lead)
			continue;
		for (size_t i = 1; i < n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (s[i] & 0x3f);
		}
		return c < forms[n - 1].least || c == 0x7f || c > 0x10ffff ||
				(c >= 0xd800 && c < 0xe000)
			? 0
			: n;
	}
	return 0;
}

static int check_text(const char *what, const char *s, const struct verdict *verdict)
{
	size_t n = strlen(s), len;

	if (n > TEXT_MAX)
		return refuse(verdict, "%s has %zu bytes; at most %d are possible", what, n,
			TEXT_MAX);
	for (size_t i = 0; i < n; i += len) {
		len = plain_character((const unsigned char *)s + i);
		if (len == 0)
			return refuse(verdict, "%s contains characters that cannot be printed",
				what);
	}
	return 0;
}

static int check_counter(const char *what, uint64_t value, const struct verdict *verdict)
{
	if (value <= COUNTER_MAX)
		return 0;
	return refuse(verdict, "%s is %llu, which nothing can have counted up to", what,
		NUM(value));
}

static bool follows(uint64_t next, uint64_t now)
{
	if (now == 0)
		return next <= FIRST_MAX;
	return next <= COUNTER_MAX && (next < now || next - now <= LEAP_MAX);
}

static int check_step(const char *what, uint64_t next, uint64_t now, const struct verdict *verdict)
{
	if (follows(next, now))
		return 0;
	return refuse(verdict, "%s is %llu, which does not follow on %llu", what, NUM(next),
		NUM(now));
}

/* --- Desired --- */

static int check_generation(uint64_t generation, uint64_t now, const struct verdict *verdict)
{
	if (follows(generation, now))
		return 0;
	return refuse(verdict, "generation %llu does not follow on %llu", NUM(generation),
		NUM(now));
}

static int check_ring(const Bh__Ring *ring, uint64_t generation, const struct verdict *verdict)
{
	if (ring->index >= VHOST_USER_MAX_QUEUES)
		return refuse(verdict, "ring %u; the last that is possible is %d", ring->index,
			VHOST_USER_MAX_QUEUES - 1);
	if (ring->size > VIRTQUEUE_SIZE_MAX)
		return refuse(verdict, "ring %u of %u descriptors; at most %d are possible",
			ring->index, ring->size, VIRTQUEUE_SIZE_MAX);
	if (ring->in_band > 7)
		return refuse(verdict, "ring %u has unknown descriptors in band (0x%x)",
			ring->index, ring->in_band);
	if (ring->start_id > generation)
		return refuse(verdict,
			"ring %u was started at generation %llu, which is still to come",
			ring->index, NUM(ring->start_id));
	return 0;
}

static int check_rings(const Bh__Desired *desired, const struct verdict *verdict)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };

	if (desired->n_rings > VHOST_USER_MAX_QUEUES)
		return refuse(verdict, "%zu rings; at most %d are possible", desired->n_rings,
			VHOST_USER_MAX_QUEUES);
	for (size_t i = 0; i < desired->n_rings; i++) {
		const Bh__Ring *ring = desired->rings[i];

		if (check_ring(ring, desired->generation, verdict))
			return 1;
		if (seen[ring->index])
			return refuse(verdict, "ring %u is there twice", ring->index);
		seen[ring->index] = true;
	}
	return 0;
}

static int check_inflight(const Bh__Inflight *inflight, const struct verdict *verdict)
{
	uint64_t end;

	if (!inflight)
		return 0;
	if (inflight->n_queues > VHOST_USER_MAX_QUEUES || inflight->queue_size > VIRTQUEUE_SIZE_MAX)
		return refuse(verdict, "an in-flight region for %u queues of %u descriptors",
			inflight->n_queues, inflight->queue_size);
	if (add_overflows(inflight->mmap_offset, inflight->mmap_size, &end) || end > INT64_MAX)
		return refuse(verdict, "an in-flight region of %llu bytes at offset %llu",
			NUM(inflight->mmap_size), NUM(inflight->mmap_offset));
	return 0;
}

static int check_log(const Bh__Log *log, const struct verdict *verdict)
{
	uint64_t end;

	if (!log)
		return 0;
	if (!log->token || !log->mmap_size ||
		add_overflows(log->mmap_offset, log->mmap_size, &end) || end > INT64_MAX)
		return refuse(verdict, "a dirty log of %llu bytes at offset %llu",
			NUM(log->mmap_size), NUM(log->mmap_offset));
	return 0;
}

static int check_config_writes(const Bh__Desired *desired, const struct verdict *verdict)
{
	if (desired->n_config_writes > CONFIG_WRITES_MAX)
		return refuse(verdict,
			"%zu writes to the configuration space; at most %d are possible",
			desired->n_config_writes, CONFIG_WRITES_MAX);
	for (size_t i = 0; i < desired->n_config_writes; i++) {
		const Bh__ConfigWrite *write = desired->config_writes[i];

		if (write->offset_bytes > VHOST_USER_MAX_CONFIG_SIZE ||
			write->data.len > VHOST_USER_MAX_CONFIG_SIZE - write->offset_bytes)
			return refuse(verdict,
				"a write of %zu bytes at offset %u of the configuration space",
				write->data.len, write->offset_bytes);
		if (write->seq > desired->generation)
			return refuse(verdict,
				"a write to the configuration space at generation %llu, which is "
				"still "
				"to come",
				NUM(write->seq));
	}
	return 0;
}

static int check_net(const Bh__NetDesired *net, const struct verdict *verdict)
{
	if (!net)
		return 0;
	if (net->rarp_mac.len != 0 && net->rarp_mac.len != MAC_BYTES)
		return refuse(verdict, "an Ethernet address of %zu bytes", net->rarp_mac.len);
	if (net->mtu > UINT16_MAX)
		return refuse(verdict, "an MTU of %u", net->mtu);
	return check_counter("the number of announcements", net->rarp_seq, verdict);
}

static int check_shmem_answers(const Bh__Desired *desired, const struct verdict *verdict)
{
	if (desired->n_shmem_mapped > RECORD_SHMEM_MAPS_MAX ||
		desired->n_shmem_refused > RECORD_SHMEM_MAPS_MAX)
		return refuse(verdict,
			"%zu mappings that the VMM has made, and %zu that it refused; at most %u are possible",
			desired->n_shmem_mapped, desired->n_shmem_refused, RECORD_SHMEM_MAPS_MAX);
	return check_counter("the number of times at which mappings were dropped",
		desired->shmem_epoch, verdict);
}

static int check_rest(const Bh__Desired *desired, const struct verdict *verdict)
{
	if (desired->rarp_mac.len != 0 && desired->rarp_mac.len != MAC_BYTES)
		return refuse(verdict, "an Ethernet address of %zu bytes", desired->rarp_mac.len);
	if (desired->mtu > UINT16_MAX)
		return refuse(verdict, "an MTU of %u", desired->mtu);
	return check_counter("the number of sessions", desired->session, verdict) ||
		check_counter("the number of resets", desired->reset_epoch, verdict) ||
		check_counter("the number of announcements", desired->rarp_seq, verdict) ||
		check_net(desired->net, verdict) || check_shmem_answers(desired, verdict) ||
		check_text("the reason of the quarantine", desired->quarantine, verdict);
}

int judge_desired(const Bh__Desired *desired, uint64_t now, char *text, size_t n_text)
{
	const struct verdict verdict = { text, n_text };

	return check_generation(desired->generation, now, &verdict) ||
		check_rings(desired, &verdict) ||
		regions_check_table(desired->regions, desired->n_regions, text, n_text) ||
		check_inflight(desired->inflight, &verdict) || check_log(desired->log, &verdict) ||
		check_config_writes(desired, &verdict) || check_rest(desired, &verdict);
}

static uint64_t announcements_of(const Bh__Desired *desired)
{
	return desired->net ? desired->net->rarp_seq : 0;
}

int judge_desired_steps(const Bh__Desired *next, const Bh__Desired *now, char *text, size_t n_text)
{
	const struct verdict verdict = { text, n_text };

	return check_step("the number of sessions", next->session, now->session, &verdict) ||
		check_step("the number of resets", next->reset_epoch, now->reset_epoch, &verdict) ||
		check_step("the number of announcements", next->rarp_seq, now->rarp_seq,
			&verdict) ||
		check_step("the number of announcements", announcements_of(next),
			announcements_of(now), &verdict) ||
		check_step("the number of times at which mappings were dropped", next->shmem_epoch,
			now->shmem_epoch, &verdict);
}

/* --- Observed --- */

static int check_ring_states(const Bh__Observed *observed, uint64_t desired,
	const struct verdict *verdict)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };

	if (observed->n_rings > VHOST_USER_MAX_QUEUES)
		return refuse(verdict, "%zu rings; at most %d are possible", observed->n_rings,
			VHOST_USER_MAX_QUEUES);
	for (size_t i = 0; i < observed->n_rings; i++) {
		const Bh__RingState *ring = observed->rings[i];

		if (ring->index >= VHOST_USER_MAX_QUEUES || seen[ring->index])
			return refuse(verdict, "ring %u is there twice, or cannot be", ring->index);
		seen[ring->index] = true;
		if (ring->start_id > desired || ring->error_start_id > desired)
			return refuse(verdict,
				"ring %u was started at a generation that is still to come",
				ring->index);
		if (check_text("the error of a ring", ring->error, verdict))
			return 1;
	}
	return 0;
}

static int check_offer(const Bh__Observed *observed, const struct verdict *verdict)
{
	if (observed->n_queues > VHOST_USER_MAX_QUEUES ||
		observed->queue_num > VHOST_USER_MAX_QUEUES ||
		observed->queue_size_max > VIRTQUEUE_SIZE_MAX ||
		observed->max_mem_slots > VHOST_USER_MAX_RAM_SLOTS)
		return refuse(verdict,
			"%u rings (%u for the VMM) of up to %u descriptors, and %llu memory slots",
			observed->n_queues, observed->queue_num, observed->queue_size_max,
			NUM(observed->max_mem_slots));
	if (observed->config.len > VHOST_USER_MAX_CONFIG_SIZE ||
		observed->config_writable.len > VHOST_USER_MAX_CONFIG_SIZE)
		return refuse(verdict, "a configuration space of %zu bytes", observed->config.len);
	return 0;
}

static int check_shmem_regions(const Bh__Observed *observed, const struct verdict *verdict)
{
	bool seen[VHOST_USER_SHMEM_REGIONS] = { false };

	for (size_t i = 0; i < observed->n_shmem_regions; i++) {
		const Bh__ShmemRegion *region = observed->shmem_regions[i];

		if (region->id >= VHOST_USER_SHMEM_REGIONS || seen[region->id])
			return refuse(verdict,
				"shared memory region %u is there twice, or cannot be", region->id);
		seen[region->id] = true;
		if (region->size_bytes < PAGE_BYTES || !is_power_of_2(region->size_bytes))
			return refuse(verdict, "shared memory region %u of %llu bytes", region->id,
				NUM(region->size_bytes));
	}
	return 0;
}

static uint64_t region_bytes(const Bh__Observed *observed, uint32_t id)
{
	for (size_t i = 0; i < observed->n_shmem_regions; i++)
		if (observed->shmem_regions[i]->id == id)
			return observed->shmem_regions[i]->size_bytes;
	return 0;
}

static int check_shmem_map(const Bh__Observed *observed, const Bh__ShmemMap *map,
	const struct verdict *verdict)
{
	uint64_t bytes = region_bytes(observed, map->region), end;

	if (!map->size_bytes || add_overflows(map->offset_bytes, map->size_bytes, &end) ||
		end > bytes)
		return refuse(verdict,
			"a mapping of %llu bytes at offset %llu of shared memory region %u, which has %llu",
			NUM(map->size_bytes), NUM(map->offset_bytes), map->region, NUM(bytes));
	if ((map->offset_bytes | map->size_bytes | map->fd_offset_bytes) % PAGE_BYTES ||
		add_overflows(map->fd_offset_bytes, map->size_bytes, &end) || end > INT64_MAX)
		return refuse(verdict,
			"a mapping of %llu bytes at offset %llu of a file, at offset %llu",
			NUM(map->size_bytes), NUM(map->fd_offset_bytes), NUM(map->offset_bytes));
	return check_counter("the number of a mapping", map->seq, verdict);
}

static int order_maps(const void *a, const void *b)
{
	const Bh__ShmemMap *x = *(Bh__ShmemMap *const *)a, *y = *(Bh__ShmemMap *const *)b;

	if (x->region != y->region)
		return x->region < y->region ? -1 : 1;
	return x->offset_bytes < y->offset_bytes ? -1 : x->offset_bytes > y->offset_bytes;
}

/* Each is judged already. */
static int check_shmem_places(const Bh__Observed *observed, const struct verdict *verdict)
{
	const Bh__ShmemMap *maps[RECORD_SHMEM_MAPS_MAX] = { NULL };

	for (size_t i = 0; i < observed->n_shmem_maps; i++)
		maps[i] = observed->shmem_maps[i];
	qsort(maps, observed->n_shmem_maps, sizeof(maps[0]), order_maps);
	for (size_t i = 1; i < observed->n_shmem_maps; i++)
		if (maps[i]->region == maps[i - 1]->region &&
			maps[i]->offset_bytes - maps[i - 1]->offset_bytes < maps[i - 1]->size_bytes)
			return refuse(verdict, "mappings %llu and %llu overlap",
				NUM(maps[i - 1]->seq), NUM(maps[i]->seq));
	return 0;
}

static int check_shmem(const Bh__Observed *observed, const struct verdict *verdict)
{
	uint64_t last = 0;

	if (observed->n_shmem_maps > RECORD_SHMEM_MAPS_MAX)
		return refuse(verdict, "%zu mappings; at most %u are possible",
			observed->n_shmem_maps, RECORD_SHMEM_MAPS_MAX);
	if (check_shmem_regions(observed, verdict))
		return 1;
	for (size_t i = 0; i < observed->n_shmem_maps; i++) {
		const Bh__ShmemMap *map = observed->shmem_maps[i];

		if (map->seq <= last)
			return refuse(verdict, "mapping %llu comes behind mapping %llu",
				NUM(map->seq), NUM(last));
		if (check_shmem_map(observed, map, verdict))
			return 1;
		last = map->seq;
	}
	return check_shmem_places(observed, verdict) ||
		check_counter("the number of times at which mappings were dropped",
			observed->shmem_epoch, verdict);
}

static int check_worker_tokens(const Bh__Observed *observed, const struct verdict *verdict)
{
	if (observed->n_tokens > VAULT_WORKER_FILES_MAX)
		return refuse(verdict,
			"%zu descriptors of the worker's own; at most %d are possible",
			observed->n_tokens, VAULT_WORKER_FILES_MAX);
	return 0;
}

static int check_figures(const Bh__Observed *observed, const struct verdict *verdict)
{
	if (observed->n_figures > FIGURES_MAX)
		return refuse(verdict, "%zu figures; at most %d are possible", observed->n_figures,
			FIGURES_MAX);
	for (size_t i = 0; i < observed->n_figures; i++) {
		const Bh__Figure *figure = observed->figures[i];

		if (check_text("the name of a figure", figure->name, verdict) ||
			check_text("the unit of a figure", figure->unit, verdict))
			return 1;
		for (size_t j = 0; j < i; j++)
			if (strcmp(observed->figures[j]->name, figure->name) == 0)
				return refuse(verdict, "figure '%s' is there twice", figure->name);
	}
	return 0;
}

int judge_observed(const Bh__Observed *observed, uint64_t desired, char *text, size_t n_text)
{
	const struct verdict verdict = { text, n_text };

	if (observed->applied > desired)
		return refuse(&verdict,
			"generation %llu is claimed to be in force, and the last one is %llu",
			NUM(observed->applied), NUM(desired));
	return check_counter("the number of changes of the configuration", observed->config_seq,
		       &verdict) ||
		check_offer(observed, &verdict) || check_shmem(observed, &verdict) ||
		check_worker_tokens(observed, &verdict) ||
		check_ring_states(observed, desired, &verdict) ||
		check_figures(observed, &verdict) ||
		check_text("what is said of the rest", observed->backend, &verdict) ||
		check_text("the error", observed->apply_error, &verdict) ||
		check_text("what is wrong", observed->trouble, &verdict) ||
		check_text("the reason of the quarantine", observed->quarantine, &verdict);
}

int judge_observed_steps(const Bh__Observed *next, const Bh__Observed *now, char *text,
	size_t n_text)
{
	const struct verdict verdict = { text, n_text };

	return check_step("the number of changes of the configuration", next->config_seq,
		       now->config_seq, &verdict) ||
		check_step("the number of times at which mappings were dropped", next->shmem_epoch,
			now->shmem_epoch, &verdict);
}

/* --- Transfers --- */

static int check_positions(const Bh__ReportTransfer *report, const struct verdict *verdict)
{
	bool seen[VHOST_USER_MAX_QUEUES] = { false };

	if (report->n_rings > VHOST_USER_MAX_QUEUES)
		return refuse(verdict, "%zu rings; at most %d are possible", report->n_rings,
			VHOST_USER_MAX_QUEUES);
	for (size_t i = 0; i < report->n_rings; i++) {
		uint32_t index = report->rings[i]->index;

		if (index >= VHOST_USER_MAX_QUEUES || seen[index])
			return refuse(verdict, "ring %u is there twice, or cannot be", index);
		seen[index] = true;
	}
	return 0;
}

int judge_transfer(const Bh__ReportTransfer *report, bool with_state, char *text, size_t n_text)
{
	const struct verdict verdict = { text, n_text };

	if (with_state && (report->state.len == 0 || report->state.len > RECORD_STATE_BYTES_MAX))
		return refuse(&verdict, "a state of %zu bytes; 1 to %u are possible",
			report->state.len, RECORD_STATE_BYTES_MAX);
	return check_positions(report, &verdict);
}
