/* The set of maps, sorted by their numbers. */
#include "device/shmem-set.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"

/* --- Maps --- */

/* Where the map of that number is, or would be inserted. */
static size_t place_of(const struct shmem *shmem, uint64_t seq)
{
	size_t low = 0, high = shmem->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (shmem->entries[middle].map.seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct shmem_entry *shmem_find(struct shmem *shmem, uint64_t seq)
{
	size_t i = shmem ? place_of(shmem, seq) : 0;

	return shmem && i < shmem->n && shmem->entries[i].map.seq == seq ? &shmem->entries[i]
									 : NULL;
}

struct shmem_entry *shmem_insert(struct shmem *shmem, const struct shmem_map *map)
{
	size_t i = place_of(shmem, map->seq);

	memmove(&shmem->entries[i + 1], &shmem->entries[i],
		(shmem->n++ - i) * sizeof(*shmem->entries));
	shmem->entries[i] = (struct shmem_entry){ .map = *map, .fd = -1 };
	return &shmem->entries[i];
}

void shmem_drop(struct shmem *shmem, struct shmem_entry *entry)
{
	size_t behind = (size_t)(shmem->entries + --shmem->n - entry);

	fd_close(entry->fd);
	memmove(entry, entry + 1, behind * sizeof(*entry));
}

struct shmem *shmem_new(void)
{
	struct shmem *shmem = calloc(1, sizeof(*shmem));

	check(shmem);
	shmem->entries = calloc(RECORD_SHMEM_MAPS_MAX, sizeof(*shmem->entries));
	check(shmem->entries);
	return shmem;
}

void shmem_empty(struct shmem *shmem)
{
	while (shmem->n)
		shmem_drop(shmem, &shmem->entries[shmem->n - 1]);
}

void shmem_free(struct shmem *shmem)
{
	if (!shmem)
		return;
	if (shmem->answered)
		bh__desired__free_unpacked(shmem->answered, NULL);
	shmem_empty(shmem);
	free(shmem->entries);
	free(shmem);
}

/* --- Files --- */

int shmem_deposit(const struct device *device, struct shmem_entry *entry)
{
	return vault_deposit(device->core->vault, device->config->name, &entry->fd, 1,
		&entry->token);
}

bool shmem_deposit_again(const struct device *device)
{
	struct shmem *shmem = device->core->shmem;
	bool done = false;

	for (size_t i = 0; shmem && i < shmem->n; i++)
		if (shmem->entries[i].fd >= 0)
			done |= shmem_deposit(device, &shmem->entries[i]) == 0;
	return done;
}

/* --- The report --- */

static size_t fill_regions(struct shmem_report *ret, const struct device *device)
{
	size_t n = 0;

	for (uint32_t i = 0; i < DEVICE_SHMEM_REGIONS_MAX; i++) {
		if (!device->offer.shmem_bytes[i])
			continue;
		bh__shmem_region__init(&ret->regions[n]);
		ret->regions[n].id = i;
		ret->regions[n].size_bytes = device->offer.shmem_bytes[i];
		ret->region_list[n] = &ret->regions[n];
		n++;
	}
	return n;
}

static void fill_map(Bh__ShmemMap *ret, const struct shmem_entry *entry)
{
	bh__shmem_map__init(ret);
	ret->seq = entry->map.seq;
	ret->region = entry->map.region;
	ret->offset_bytes = entry->map.offset_bytes;
	ret->size_bytes = entry->map.size_bytes;
	ret->fd_offset_bytes = entry->map.fd_offset_bytes;
	ret->writable = entry->map.writable;
	ret->token = entry->fd < 0 ? 0 : entry->token;
}

static void fill_maps(struct shmem_report *ret, const struct shmem *shmem, Bh__Observed *observed)
{
	ret->maps = calloc(shmem->n, sizeof(*ret->maps));
	ret->map_list = calloc(shmem->n, sizeof(*ret->map_list));
	ret->tokens = calloc(shmem->n, sizeof(*ret->tokens));
	check(ret->maps && ret->map_list && ret->tokens);
	for (size_t i = 0; i < shmem->n; i++) {
		fill_map(&ret->maps[i], &shmem->entries[i]);
		ret->map_list[i] = &ret->maps[i];
		if (ret->maps[i].token)
			ret->tokens[observed->n_tokens++] = shmem->entries[i].token;
	}
	observed->shmem_maps = ret->map_list;
	observed->n_shmem_maps = shmem->n;
	observed->tokens = ret->tokens;
}

void shmem_report_init(struct shmem_report *ret, const struct device *device,
	Bh__Observed *observed)
{
	const struct shmem *shmem = device->core->shmem;

	*ret = (struct shmem_report){ .maps = NULL };
	observed->n_shmem_regions = fill_regions(ret, device);
	observed->shmem_regions = ret->region_list;
	if (device->ledger.header)
		observed->shmem_epoch = device->ledger.header->shmem_epoch;
	if (shmem && shmem->n)
		fill_maps(ret, shmem, observed);
}

void shmem_report_deinit(struct shmem_report *report)
{
	free(report->maps);
	free(report->map_list);
	free(report->tokens);
}
