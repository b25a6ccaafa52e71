/*
 * Guest memory in this process.
 *
 * Regions are sorted by guest-physical address and found by binary search. The VMM's addresses are
 * looked up only when a ring starts, and need no order. A region may begin and end in the middle of
 * a page (of a huge page, on hugetlbfs); a mapping may not. So each region remembers both.
 *
 * The file behind a region belongs to the VMM, which may truncate it at any time. A thread that
 * then touches the missing part gets SIGBUS. The handler must find the mapping without taking a
 * lock, since any thread may hold one. It reads a table of its own, `mappings`, in which a sequence
 * number guards every slot: the number is odd while the slot is written. The handler replaces the
 * memory by zeros, marks the map as poisoned and lets the access happen again. What that access
 * reads or writes no longer matters, because the device stops the rings of a poisoned map.
 */
#include "guest/map.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/sanitizer.h"

#define MAPPINGS_MAX 4096 /* of all maps of the process */

struct region {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t uva;
	uint8_t *mem;  /* the first byte of the region */
	void *mapping; /* what mmap returned, and how much of it */
	size_t mapping_bytes;
	unsigned int slot; /* in mappings */
};

/* --- What the handler reads --- */

struct mapping {
	atomic_uint seq;
	_Atomic(uintptr_t) start; /* 0: free */
	_Atomic(size_t) n_bytes;
	_Atomic(atomic_bool *) poisoned; /* of the map */
	atomic_bool lost;
};

static struct mapping mappings[MAPPINGS_MAX];
static atomic_uint n_mappings_used; /* slots from this one on were never used */
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction former_action;

static void mapping_write(struct mapping *m, void *start, size_t n_bytes, atomic_bool *poisoned)
{
	atomic_fetch_add(&m->seq, 1);
	atomic_store(&m->start, (uintptr_t)start);
	atomic_store(&m->n_bytes, n_bytes);
	atomic_store(&m->poisoned, poisoned);
	atomic_store(&m->lost, false);
	atomic_fetch_add(&m->seq, 1);
}

static int mapping_register(struct region *region, atomic_bool *poisoned)
{
	int r = -ENOSPC;

	pthread_mutex_lock(&mappings_lock);
	for (unsigned int i = 0; i < MAPPINGS_MAX; i++) {
		if (atomic_load(&mappings[i].start))
			continue;
		mapping_write(&mappings[i], region->mapping, region->mapping_bytes, poisoned);
		if (i >= atomic_load(&n_mappings_used))
			atomic_store(&n_mappings_used, i + 1);
		region->slot = i;
		r = 0;
		break;
	}
	pthread_mutex_unlock(&mappings_lock);
	return r;
}

static void mapping_forget(const struct region *region)
{
	pthread_mutex_lock(&mappings_lock);
	mapping_write(&mappings[region->slot], NULL, 0, NULL);
	pthread_mutex_unlock(&mappings_lock);
}

/* Whether the mapping in this slot holds the address; if so, zeros are put in its place. */
static bool replace_if_hit(struct mapping *m, uintptr_t addr)
{
	atomic_bool *poisoned;
	uintptr_t start;
	size_t n_bytes;
	unsigned int seq;

	do {
		seq = atomic_load(&m->seq);
		start = atomic_load(&m->start);
		n_bytes = atomic_load(&m->n_bytes);
		poisoned = atomic_load(&m->poisoned);
	} while ((seq & 1) || seq != atomic_load(&m->seq));
	if (!start || addr - start >= n_bytes)
		return false;
	if (mmap((void *)start, n_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return false;
	atomic_store(&m->lost, true);
	atomic_store(poisoned, true);
	return true;
}

static bool replace_lost_memory(uintptr_t addr)
{
	unsigned int n = atomic_load(&n_mappings_used);

	for (unsigned int i = 0; i < n; i++)
		if (replace_if_hit(&mappings[i], addr))
			return true;
	return false;
}

/* Not about guest memory: whoever handled it before us does, or it ends the process. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	if (former_action.sa_flags & SA_SIGINFO) {
		former_action.sa_sigaction(sig, info, context);
		return;
	}
	if (former_action.sa_handler != SIG_DFL && former_action.sa_handler != SIG_IGN) {
		former_action.sa_handler(sig);
		return;
	}
	(void)signal(SIGBUS, SIG_DFL);
	if (info->si_code <= 0)
		(void)raise(SIGBUS); /* sent, no fault: returning would not repeat it */
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	if (info->si_code <= 0 || !replace_lost_memory((uintptr_t)info->si_addr))
		pass_on(sig, info, context);
	errno = saved;
}

int map_install_sigbus(void)
{
	struct sigaction now,
		action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, NULL, &now) < 0)
		return -errno;
	if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)
		return 0;
	former_action = now;
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

/* --- The table --- */

int map_new(struct map **ret_map)
{
	struct map *map = calloc(1, sizeof(*map));

	if (map)
		map->regions = calloc(MAP_REGIONS_MAX, sizeof(*map->regions));
	if (!map || !map->regions) {
		free(map);
		return -ENOMEM;
	}
	*ret_map = map;
	return 0;
}

static void region_unmap(struct region *region)
{
	mapping_forget(region);
	check(munmap(region->mapping, region->mapping_bytes) == 0);
}

struct map *map_free(struct map *map)
{
	if (!map)
		return NULL;
	for (size_t i = 0; i < map->n_regions; i++)
		region_unmap(&map->regions[i]);
	free(map->regions);
	free(map);
	return NULL;
}

/* The unit in which a file can be mapped: the page, or the huge page of its file system. */
static int mapping_unit(int fd, uint64_t *ret_bytes)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	*ret_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if ((unsigned long)fs.f_type == HUGETLBFS_MAGIC && is_power_of_2((uint64_t)fs.f_bsize))
		*ret_bytes = MAX(*ret_bytes, (uint64_t)fs.f_bsize);
	return 0;
}

/* Whether the region's numbers make sense by themselves, and with the length of the file. */
static int check_shape(const struct map_region *region, int fd)
{
	uint64_t end;
	struct stat st;

	if (region->size_bytes == 0 || add_overflows(region->gpa.val, region->size_bytes, &end) ||
		add_overflows(region->uva.val, region->size_bytes, &end) ||
		add_overflows(region->offset_bytes, region->size_bytes, &end) || end > INT64_MAX)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_size < 0 || (uint64_t)st.st_size < end ? -EFBIG : 0;
}

static int region_map(struct region *region, uint64_t offset_bytes, int fd)
{
	uint64_t unit = 0, before;
	void *mem;
	int r = mapping_unit(fd, &unit);

	if (r < 0)
		return r;
	before = offset_bytes & (unit - 1);
	region->mapping_bytes = align_up(before + region->size_bytes, unit);
	mem = mmap(NULL, region->mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		(off_t)(offset_bytes - before));
	if (mem == MAP_FAILED)
		return -errno;
	(void)madvise(mem, region->mapping_bytes,
		MADV_DONTDUMP); /* a core of ours shows no guest */
	/* a buffer goes from one ring to another inside the guest */
	ordered_elsewhere(mem, region->mapping_bytes);
	region->mapping = mem;
	region->mem = (uint8_t *)mem + before;
	return 0;
}

/* The first region that ends behind the address; n_regions when there is none. */
static size_t find(const struct map *map, uint64_t gpa)
{
	size_t low = 0, high = map->n_regions;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct region *region = &map->regions[mid];

		if (region->gpa + region->size_bytes > gpa)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

int map_add(struct map *map, const struct map_region *wanted, int fd)
{
	struct region region = {
		.gpa = wanted->gpa.val, .size_bytes = wanted->size_bytes, .uva = wanted->uva.val
	};
	size_t at;
	int r = check_shape(wanted, fd);

	if (r < 0)
		return r;
	at = find(map, region.gpa);
	if (at < map->n_regions && map->regions[at].gpa < region.gpa + region.size_bytes)
		return -EEXIST;
	if (map->n_regions == MAP_REGIONS_MAX)
		return -ENOSPC;
	r = region_map(&region, wanted->offset_bytes, fd);
	if (r < 0)
		return r;
	r = mapping_register(&region, &map->poisoned);
	if (r < 0) {
		(void)munmap(region.mapping, region.mapping_bytes);
		return r;
	}
	memmove(&map->regions[at + 1], &map->regions[at], (map->n_regions - at) * sizeof(region));
	map->regions[at] = region;
	map->n_regions++;
	return 0;
}

static bool any_lost(const struct map *map)
{
	for (size_t i = 0; i < map->n_regions; i++)
		if (atomic_load(&mappings[map->regions[i].slot].lost))
			return true;
	return false;
}

int map_remove(struct map *map, const struct map_region *wanted)
{
	size_t at = find(map, wanted->gpa.val);
	struct region *region = &map->regions[at];

	if (at == map->n_regions || region->gpa != wanted->gpa.val ||
		region->uva != wanted->uva.val || region->size_bytes != wanted->size_bytes)
		return -ENOENT;
	region_unmap(region);
	map->n_regions--;
	memmove(region, region + 1, (map->n_regions - at) * sizeof(*region));
	atomic_store(&map->poisoned, any_lost(map));
	return 0;
}

void map_set_resolver(struct map *map, struct map_resolver *resolver)
{
	map->resolver = resolver;
}

void map_set_log(struct map *map, struct map_log *log)
{
	map->log = log;
}

/* --- Looking up --- */

static int miss(const struct map *map, uint64_t start, uint64_t n_bytes, enum map_access access)
{
	struct map_resolver *resolver = map->resolver;

	if (!resolver || n_bytes == 0)
		return MAP_E_OUTSIDE;
	return resolver->miss(resolver, (struct iova){ start }, n_bytes, access);
}

static struct map_span span_of(const struct region *region, uint64_t offset, uint64_t n_bytes)
{
	return (struct map_span){ region->mem + offset, { region->gpa + offset },
		MIN(n_bytes, region->size_bytes - offset) };
}

/* The region that holds the address; NULL: none does. */
static const struct region *region_at(const struct map *map, uint64_t gpa)
{
	size_t at = find(map, gpa);

	return at < map->n_regions && map->regions[at].gpa <= gpa ? &map->regions[at] : NULL;
}

bool map_region_at(const struct map *map, struct gpa addr, struct map_span *ret_region)
{
	const struct region *region = region_at(map, addr.val);

	if (region)
		*ret_region = span_of(region, 0, region->size_bytes);
	return region != NULL;
}

int map_find(const struct map *map, struct gpa start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span)
{
	const struct region *region = n_bytes ? region_at(map, start.val) : NULL;

	if (!region)
		return miss(map, start.val, n_bytes, access);
	*ret_span = span_of(region, start.val - region->gpa, n_bytes);
	return 0;
}

void *map_gpa(const struct map *map, struct gpa start, uint64_t n_bytes)
{
	const struct region *region = n_bytes ? region_at(map, start.val) : NULL;

	if (!region || n_bytes > region->size_bytes - (start.val - region->gpa))
		return NULL;
	return region->mem + (start.val - region->gpa);
}

int map_find_uva(const struct map *map, struct uva start, uint64_t n_bytes, enum map_access access,
	struct map_span *ret_span)
{
	for (size_t i = 0; n_bytes && i < map->n_regions; i++) {
		const struct region *region = &map->regions[i];
		uint64_t offset = start.val - region->uva;

		if (offset >= region->size_bytes || n_bytes > region->size_bytes - offset)
			continue;
		*ret_span = span_of(region, offset, n_bytes);
		return 0;
	}
	return miss(map, start.val, n_bytes, access);
}
