#pragma once

#include "base/bytes.h"
#include "device/core.h"
#include "device/shmem.h"

/* What a device has mapped into its shared memory regions, for common/device; devices use shmem.h.
 * Loop thread only. */

/* what the VMM must support to map anything: the channel, its descriptors, and its answers */
#define SHMEM_PROTOCOL_FEATURES                                                                    \
	(BIT(VHOST_USER_PROTOCOL_F_SHMEM) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |               \
		BIT(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))

static inline bool shmem_has_regions(const struct device *device)
{
	for (size_t i = 0; i < DEVICE_SHMEM_REGIONS_MAX; i++)
		if (device->offer.shmem_bytes[i])
			return true;
	return false;
}

/** struct shmem_entry - a map, and what is known of it */
struct shmem_entry {
	struct shmem_map map;
	int fd;         /* owned; -1 = the VMM has mapped it */
	uint64_t token; /* of fd, in the vault */
	bool told;      /* the device knows that it is mapped */
};

/** struct shmem - the set */
struct shmem {
	struct shmem_entry *entries; /* RECORD_SHMEM_MAPS_MAX */
	size_t n;
	/* what the VMM had answered to a former instance; NULL = that is not asked any more */
	Bh__Desired *answered;
};

/** shmem_new() - an empty set, the caller's */
struct shmem *shmem_new(void);
/** shmem_free() - NULL is fine */
void shmem_free(struct shmem *shmem);

/** shmem_find() - the map of that number; NULL = there is none, or no set (NULL) */
struct shmem_entry *shmem_find(struct shmem *shmem, uint64_t seq);
/** shmem_insert() - another map, without a file; there is room for it */
struct shmem_entry *shmem_insert(struct shmem *shmem, const struct shmem_map *map);
/** shmem_drop() - forget a map, and close its file; shmem_empty() - all of them */
void shmem_drop(struct shmem *shmem, struct shmem_entry *entry);
void shmem_empty(struct shmem *shmem);

/** struct shmem_report - the device's regions and maps as a report has them */
struct shmem_report {
	Bh__ShmemRegion regions[DEVICE_SHMEM_REGIONS_MAX], *region_list[DEVICE_SHMEM_REGIONS_MAX];
	Bh__ShmemMap *maps, **map_list; /* owned */
	uint64_t *tokens;               /* owned */
};

/** shmem_report_init() - fill in the report's part; it borrows from ret until
 * shmem_report_deinit() */
void shmem_report_init(struct shmem_report *ret, const struct device *device,
	Bh__Observed *observed);
void shmem_report_deinit(struct shmem_report *report);

/** shmem_hear() - tell the device what the VMM has made of its maps since it was last told */
void shmem_hear(struct device *device, const Bh__Desired *desired);

/** shmem_deposit() - have the file of a map kept in the vault; as vault_deposit() */
int shmem_deposit(const struct device *device, struct shmem_entry *entry);
/** shmem_deposit_again() - the same with all files: the vault may have lost some that no report had
 * named yet. Whether any was deposited, and a report is due */
bool shmem_deposit_again(const struct device *device);
