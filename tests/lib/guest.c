/*
 * Memory is allocated upwards from each region's start and never freed: a test's guest lives as
 * long as the test. A red zone precedes and follows each allocation.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"

void guest_init(struct guest *g)
{
	memset(g, 0, sizeof(*g));
}

static void drop_region(struct guest_region *region)
{
	munmap(region->map - (region->at.offset & 4095), region->map_bytes);
	close(region->fd);
}

void guest_deinit(struct guest *g)
{
	for (size_t i = 0; i < g->n_regions; i++)
		drop_region(&g->regions[i]);
	free(g->reds);
	guest_init(g);
}

int guest_adopt_region(struct guest *g, const struct vu_region *at, int fd)
{
	struct guest_region *region = &g->regions[g->n_regions];
	uint64_t skew = at->offset & 4095;
	uint8_t *map;

	if (g->n_regions == GUEST_MAX_REGIONS)
		return -ENOSPC;
	map = mmap(NULL, at->size + skew, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		(off_t)(at->offset - skew));
	if (map == MAP_FAILED)
		return -errno;
	*region = (struct guest_region){
		.at = *at, .fd = fd, .map = map + skew, .map_bytes = at->size + skew
	};
	g->n_regions++;
	return 0;
}

int guest_add_region(struct guest *g, const struct vu_region *at)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int e;

	if (fd < 0)
		return -errno;
	e = ftruncate(fd, (off_t)(at->offset + at->size)) < 0 ? -errno : 0;
	if (!e)
		e = guest_adopt_region(g, at, fd);
	if (e)
		close(fd);
	return e;
}

int guest_init_plain(struct guest *g, uint64_t n_bytes)
{
	struct vu_region at = { .gpa = 0, .size = n_bytes, .uva = 0x7f7d63fff000 };

	guest_init(g);
	return guest_add_region(g, &at);
}

int guest_remove_region(struct guest *g, uint64_t gpa)
{
	size_t kept = 0;
	size_t i;

	for (i = 0; i < g->n_regions && g->regions[i].at.gpa != gpa; i++)
		;
	if (i == g->n_regions)
		return -ENOENT;
	for (size_t k = 0; k < g->n_reds; k++) {
		if (g->reds[k] - gpa >= g->regions[i].at.size)
			g->reds[kept++] = g->reds[k];
	}
	g->n_reds = kept;
	drop_region(&g->regions[i]);
	g->n_regions--;
	memmove(&g->regions[i], &g->regions[i + 1], (g->n_regions - i) * sizeof(g->regions[0]));
	return 0;
}

void guest_keep(struct guest *g, uint64_t gpa, uint64_t n_bytes)
{
	if (g->n_kept < sizeof(g->kept) / sizeof(g->kept[0]))
		g->kept[g->n_kept++] = (struct vu_region){ .gpa = gpa, .size = n_bytes };
}

static int add_red(struct guest *g, uint64_t gpa)
{
	uint64_t *bigger;

	if (!(g->n_reds & (g->n_reds - 1))) {
		bigger = realloc(g->reds, (g->n_reds ? g->n_reds * 2 : 1) * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		g->reds = bigger;
	}
	g->reds[g->n_reds++] = gpa;
	memset(guest_at(g, gpa, GUEST_RED_BYTES), GUEST_RED, GUEST_RED_BYTES);
	return 0;
}

/* offset in the region for the allocation, at or after `from` and past all kept ranges */
static uint64_t place(const struct guest *g, const struct guest_region *region, uint64_t n_bytes,
	uint64_t align)
{
	uint64_t from = region->next;
	bool moved = true;

	while (moved) {
		uint64_t start =
			(region->at.gpa + from + GUEST_RED_BYTES + align - 1) / align * align;

		moved = false;
		from = start - region->at.gpa;
		for (size_t i = 0; i < g->n_kept; i++) {
			const struct vu_region *k = &g->kept[i];

			if (start - GUEST_RED_BYTES < k->gpa + k->size &&
				start + n_bytes + GUEST_RED_BYTES > k->gpa) {
				from = k->gpa + k->size - region->at.gpa;
				moved = true;
				break;
			}
		}
	}
	return from;
}

uint64_t guest_alloc_in(struct guest *g, size_t idx, uint64_t n_bytes, uint64_t align)
{
	struct guest_region *region = &g->regions[idx];
	uint64_t at = place(g, region, n_bytes, align ? align : 1);

	if (at + n_bytes + GUEST_RED_BYTES > region->at.size)
		return 0;
	region->next = at + n_bytes + GUEST_RED_BYTES;
	if (add_red(g, region->at.gpa + at - GUEST_RED_BYTES) ||
		add_red(g, region->at.gpa + at + n_bytes))
		return 0;
	memset(region->map + at, 0, n_bytes);
	return region->at.gpa + at;
}

uint64_t guest_alloc(struct guest *g, uint64_t n_bytes, uint64_t align)
{
	for (size_t i = 0; i < g->n_regions; i++) {
		uint64_t gpa = guest_alloc_in(g, i, n_bytes, align);

		if (gpa)
			return gpa;
	}
	return 0;
}

void *guest_at(const struct guest *g, uint64_t gpa, uint64_t n_bytes)
{
	for (size_t i = 0; i < g->n_regions; i++) {
		const struct guest_region *region = &g->regions[i];
		uint64_t at = gpa - region->at.gpa;

		if (at <= region->at.size && n_bytes <= region->at.size - at)
			return region->map + at;
	}
	return NULL;
}

uint64_t guest_to_uva(const struct guest *g, uint64_t gpa)
{
	for (size_t i = 0; i < g->n_regions; i++) {
		const struct vu_region *at = &g->regions[i].at;

		if (gpa - at->gpa < at->size)
			return gpa - at->gpa + at->uva;
	}
	return UINT64_MAX;
}

uint64_t guest_from_uva(const struct guest *g, uint64_t uva)
{
	for (size_t i = 0; i < g->n_regions; i++) {
		const struct vu_region *at = &g->regions[i].at;

		if (uva - at->uva < at->size)
			return uva - at->uva + at->gpa;
	}
	return UINT64_MAX;
}

int guest_check(const struct guest *g, uint64_t *ret_gpa)
{
	for (size_t i = 0; i < g->n_reds; i++) {
		const uint8_t *p = guest_at(g, g->reds[i], GUEST_RED_BYTES);

		for (size_t k = 0; p && k < GUEST_RED_BYTES; k++) {
			if (p[k] != GUEST_RED) {
				*ret_gpa = g->reds[i] + k;
				return -EBADMSG;
			}
		}
	}
	return 0;
}

size_t guest_table(const struct guest *g, struct vu_region *ret_regions, int *ret_fds)
{
	for (size_t i = 0; i < g->n_regions; i++) {
		ret_regions[i] = g->regions[i].at;
		ret_fds[i] = g->regions[i].fd;
	}
	return g->n_regions;
}
