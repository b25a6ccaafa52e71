/*
 * The table is sorted by guest-physical address and looked up by halving; a second order for the VMM's
 * addresses is not kept, since those are only looked up when a ring starts.
 *
 * A file that cannot be sealed may shrink while it is mapped; touching it then raises SIGBUS. The handler
 * puts zeros in place of the whole region and marks it, so that the access goes on, and the device
 * notices at its next look. The handler reads a table of its own, written with atomic stores only.
 */
#include "guest/map.h"

#include <errno.h>
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

#define HUGETLBFS_MAGIC 0x958458f6

struct mapping {
	struct map_region region;
	uint8_t *start;       /* of the region's first byte */
	void *mapped;         /* what mmap returned, page-aligned */
	size_t mapped_bytes;
	unsigned int guard;   /* in guarded[] */
};

struct map {
	struct mapping mappings[MAP_REGIONS_MAX]; /* sorted by gpa */
	size_t n;
};

/* What the SIGBUS handler may look at: all maps of the process. */
static struct guarded {
	_Atomic uintptr_t start; /* 0 = free */
	_Atomic size_t n_bytes;
	atomic_bool poisoned;
} guarded[MAP_REGIONS_MAX];

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;

	for (unsigned int i = 0; i < MAP_REGIONS_MAX; i++) {
		uintptr_t start = atomic_load(&guarded[i].start);
		size_t n = atomic_load(&guarded[i].n_bytes);

		if (!start || at < start || at - start >= n)
			continue;
		if (mmap((void *)start, n, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED)
			break;
		atomic_store(&guarded[i].poisoned, true);
		return;
	}
	signal(SIGBUS, SIG_DFL); /* the access is repeated, and ends the process as it should */
}

int map_install_sigbus(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

static unsigned int guard(void *start, size_t n)
{
	for (unsigned int i = 0; i < MAP_REGIONS_MAX; i++) {
		if (atomic_load(&guarded[i].start))
			continue;
		atomic_store(&guarded[i].poisoned, false);
		atomic_store(&guarded[i].n_bytes, n);
		atomic_store(&guarded[i].start, (uintptr_t)start);
		return i;
	}
	check(!"more regions than a map may have");
	return 0;
}

int map_new(struct map **ret_map)
{
	struct map *map = calloc(1, sizeof(*map));

	if (!map)
		return -ENOMEM;
	*ret_map = map;
	return 0;
}

static void unmap(struct mapping *m)
{
	atomic_store(&guarded[m->guard].start, 0);
	munmap(m->mapped, m->mapped_bytes);
}

struct map *map_free(struct map *map)
{
	if (!map)
		return NULL;
	for (size_t i = 0; i < map->n; i++)
		unmap(&map->mappings[i]);
	free(map);
	return NULL;
}

size_t map_count(const struct map *map)
{
	return map->n;
}

bool map_poisoned(const struct map *map)
{
	for (size_t i = 0; i < map->n; i++)
		if (!map->mappings[i].region.sealed &&
			atomic_load_explicit(&guarded[map->mappings[i].guard].poisoned,
				memory_order_relaxed))
			return true;
	return false;
}

/* Files on hugetlbfs are mapped in their own page size. */
static int page_bytes(int fd, uint64_t *ret)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	*ret = (uint64_t)sysconf(_SC_PAGESIZE);
	if ((unsigned long)fs.f_type == HUGETLBFS_MAGIC)
		*ret = (uint64_t)fs.f_bsize;
	return 0;
}

static int map_file(struct mapping *m, int fd)
{
	const struct map_region *r = &m->region;
	uint64_t page = 0, end, skip;
	struct stat st;
	int e;

	if (r->size_bytes == 0 || add_overflows(r->offset_bytes, r->size_bytes, &end) ||
		end > INT64_MAX)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < end)
		return -EFBIG;
	e = page_bytes(fd, &page);
	if (e < 0)
		return e;
	skip = r->offset_bytes & (page - 1);
	m->mapped_bytes = align_up(r->size_bytes + skip, page);
	m->mapped = mmap(NULL, m->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)(r->offset_bytes - skip));
	if (m->mapped == MAP_FAILED)
		return -errno;
	m->start = (uint8_t *)m->mapped + skip;
	/* a core dump of ours holds nothing of the guest's */
	(void)madvise(m->mapped, m->mapped_bytes, MADV_DONTDUMP);
	return 0;
}

int map_add(struct map *map, const struct map_region *region, int fd)
{
	struct mapping m = { .region = *region };
	uint64_t end;
	size_t at = 0;
	int r;

	if (add_overflows(region->gpa.val, region->size_bytes, &end) ||
		add_overflows(region->uva.val, region->size_bytes, &end))
		return -EINVAL;
	if (map->n == MAP_REGIONS_MAX)
		return -ENOSPC;
	for (size_t i = 0; i < map->n; i++) {
		const struct map_region *o = &map->mappings[i].region;

		if (region->gpa.val < o->gpa.val + o->size_bytes &&
			o->gpa.val < region->gpa.val + region->size_bytes)
			return -EEXIST;
		if (o->gpa.val < region->gpa.val)
			at = i + 1;
	}
	r = map_file(&m, fd);
	if (r < 0)
		return r;
	m.guard = guard(m.mapped, m.mapped_bytes);
	memmove(&map->mappings[at + 1], &map->mappings[at], (map->n - at) * sizeof(m));
	map->mappings[at] = m;
	map->n++;
	return 0;
}

int map_remove(struct map *map, const struct map_region *region)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct map_region *o = &map->mappings[i].region;

		if (o->gpa.val != region->gpa.val || o->uva.val != region->uva.val ||
			o->size_bytes != region->size_bytes)
			continue;
		unmap(&map->mappings[i]);
		memmove(&map->mappings[i], &map->mappings[i + 1],
			(map->n - i - 1) * sizeof(map->mappings[0]));
		map->n--;
		return 0;
	}
	return -ENOENT;
}

/* The region that an address lies in, or NULL. */
static const struct mapping *find(const struct map *map, struct gpa addr)
{
	size_t low = 0, high = map->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct mapping *m = &map->mappings[mid];

		if (addr.val < m->region.gpa.val)
			high = mid;
		else if (addr.val - m->region.gpa.val >= m->region.size_bytes)
			low = mid + 1;
		else
			return m;
	}
	return NULL;
}

int map_spans(const struct map *map, struct gpa start, uint64_t n_bytes, struct iovec *ret_spans,
	unsigned int max_spans)
{
	unsigned int n = 0;
	uint64_t end;

	if (n_bytes == 0 || add_overflows(start.val, n_bytes, &end))
		return -MAP_E_OUTSIDE;
	while (n_bytes) {
		const struct mapping *m = find(map, start);
		uint64_t skip, part;

		if (!m || n == max_spans)
			return -MAP_E_OUTSIDE;
		skip = start.val - m->region.gpa.val;
		part = MIN(n_bytes, m->region.size_bytes - skip);
		ret_spans[n++] = (struct iovec){ .iov_base = m->start + skip, .iov_len = part };
		start.val += part;
		n_bytes -= part;
	}
	return (int)n;
}

void *map_gpa(const struct map *map, struct gpa start, uint64_t n_bytes)
{
	struct iovec span;

	return map_spans(map, start, n_bytes, &span, 1) == 1 ? span.iov_base : NULL;
}

void *map_uva(const struct map *map, struct uva start, uint64_t n_bytes)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct mapping *m = &map->mappings[i];
		uint64_t skip = start.val - m->region.uva.val;

		if (start.val < m->region.uva.val || skip >= m->region.size_bytes)
			continue;
		return n_bytes && n_bytes <= m->region.size_bytes - skip ? m->start + skip : NULL;
	}
	return NULL;
}
