/*
 * A file lies in the vault until the VMM has answered; maps that were answered are named without
 * one. The ledger has the epoch: it is raised before the set is emptied, so that no successor
 * reports a new set as a part of the old one.
 */
#include "device/shmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "device/shmem-set.h"

/* --- For the device --- */

static struct shmem *have_set(struct device *device)
{
	if (!device->core->shmem)
		device->core->shmem = shmem_new();
	return device->core->shmem;
}

static int add(struct device *device, const struct shmem_map *map, int fd)
{
	struct shmem *shmem = have_set(device);
	struct shmem_entry *entry;
	int r = 0;

	check(map->seq && !shmem_find(shmem, map->seq));
	if (shmem->n == RECORD_SHMEM_MAPS_MAX)
		return -EDQUOT;
	entry = shmem_insert(shmem, map);
	if (fd >= 0) {
		entry->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		r = entry->fd < 0 ? -errno : shmem_deposit(device, entry);
	}
	if (r < 0)
		shmem_drop(shmem, entry);
	else
		device_report(device);
	return r;
}

int device_shmem_map(struct device *device, const struct shmem_map *map, int fd)
{
	return add(device, map, fd);
}

/* Without the record the VMM counts as not having answered: the frontend knows better. */
static const Bh__Desired *answered_before(struct device *device)
{
	struct shmem *shmem = have_set(device);

	if (!shmem->answered)
		(void)record_read_desired(device->core->record, &shmem->answered);
	return shmem->answered;
}

static bool was_mapped(struct device *device, uint64_t seq)
{
	const Bh__Desired *answered = answered_before(device);

	if (!answered || answered->shmem_epoch != device->ledger.header->shmem_epoch)
		return false;
	for (size_t i = 0; i < answered->n_shmem_mapped; i++)
		if (answered->shmem_mapped[i] == seq)
			return true;
	return false;
}

int device_shmem_restore(struct device *device, const struct shmem_map *map, int fd)
{
	return add(device, map, was_mapped(device, map->seq) ? -1 : fd);
}

void device_shmem_unmap(struct device *device, uint64_t seq)
{
	struct shmem_entry *entry = shmem_find(device->core->shmem, seq);

	if (!entry)
		return;
	shmem_drop(device->core->shmem, entry);
	device_report(device);
}

void device_shmem_forget(struct device *device)
{
	struct shmem *shmem = device->core->shmem;

	if (!shmem_has_regions(device))
		return;
	device->ledger.header->shmem_epoch++;
	if (shmem)
		shmem_empty(shmem);
	device_report(device);
}

/* --- What the VMM has made of it --- */

/* The device may change the set while it is told. */
static void hear_mapped(struct device *device, uint64_t seq)
{
	struct shmem_entry *entry = shmem_find(device->core->shmem, seq);

	if (!entry || entry->told)
		return;
	entry->told = true;
	entry->fd = fd_close(entry->fd);
	if (device->ops->shmem_mapped)
		device->ops->shmem_mapped(device, seq, false);
}

static void hear_refused(struct device *device, uint64_t seq)
{
	struct shmem_entry *entry = shmem_find(device->core->shmem, seq);

	if (!entry || entry->told)
		return;
	shmem_drop(device->core->shmem, entry);
	if (device->ops->shmem_mapped)
		device->ops->shmem_mapped(device, seq, true);
}

void shmem_hear(struct device *device, const Bh__Desired *desired)
{
	struct shmem *shmem = device->core->shmem;

	if (!shmem)
		return;
	if (shmem->answered)
		bh__desired__free_unpacked(shmem->answered, NULL);
	shmem->answered = NULL;
	if (desired->shmem_epoch != device->ledger.header->shmem_epoch)
		return;
	for (size_t i = 0; i < desired->n_shmem_mapped; i++)
		hear_mapped(device, desired->shmem_mapped[i]);
	for (size_t i = 0; i < desired->n_shmem_refused; i++)
		hear_refused(device, desired->shmem_refused[i]);
}
