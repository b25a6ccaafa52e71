#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dirty.h"

#define PAGE_BYTES 4096

static int unmarked(struct net *n, const char *what, uint64_t gpa)
{
	snprintf(n->why, sizeof(n->why), "%s at %#lx was written and is not marked", what, gpa);
	return -EBADMSG;
}

static bool is_marked(const struct dirty *d, uint64_t gpa)
{
	uint64_t page = gpa / PAGE_BYTES;

	return page / 8 < d->n_bytes && d->bytes[page / 8] & 1u << page % 8;
}

static bool are_marked(const struct dirty *d, uint64_t gpa, uint64_t n_bytes)
{
	return is_marked(d, gpa) && is_marked(d, gpa + n_bytes - 1);
}

/* --- What the device will write to --- */

/* The k-th receive buffer from now on: an echo device uses them in order, and each has one
 * descriptor. */
static uint64_t next_buf(const struct ring *r, uint16_t k)
{
	uint16_t at = (uint16_t)(r->next_used + k) % r->cfg.size;

	return r->desc[r->cfg.packed ? at : r->avail[2 + at]].addr;
}

/* The k-th entry that tells of a used buffer: a descriptor, or an element of the used ring. */
static uint64_t entry(const struct dirty *d, const struct ring *r, uint32_t i, uint64_t k)
{
	uint64_t at = (d->first[i] + k) % r->cfg.size;

	return r->cfg.packed ? r->cfg.desc + 16 * at : r->cfg.used + 4 + 8 * at;
}

/* --- The log --- */

static int make_log(struct dirty *d, struct net *n)
{
	uint64_t end = n->g.regions[0].at.gpa + n->g.regions[0].at.size;
	struct vu_log log = { .mmap_size = end / PAGE_BYTES / 8 };
	int fd = memfd_create("log", MFD_CLOEXEC), e = 0;
	void *bytes = MAP_FAILED;

	d->n_bytes = log.mmap_size;
	if (fd >= 0 && ftruncate(fd, (off_t)d->n_bytes) == 0)
		bytes = mmap(NULL, d->n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		e = -errno;
	else
		d->bytes = bytes;
	if (!e)
		e = vu_set_log_base(&n->c, &log, &fd, 1);
	if (fd >= 0)
		close(fd);
	return e;
}

static int set_flags(struct net *n, uint32_t flags)
{
	int e = 0;

	for (uint16_t i = 0; !e && i < 2; i++) {
		struct vu_addr addr;

		ring_addr(&n->rings[i], &addr);
		addr.flags = flags;
		addr.log = n->rings[i].cfg.used;
		e = vu_set_vring_addr(&n->c, &addr);
	}
	return e;
}

int dirty_begin(struct dirty *d, struct net *n)
{
	int e;

	*d = (struct dirty){ 0 };
	e = make_log(d, n);
	if (!e)
		e = vu_set_features(&n->c, n->c.acked | VU_BIT(VU_F_LOG_ALL));
	if (!e)
		e = set_flags(n, VU_ADDR_LOG);
	for (uint16_t i = 0; i < 2; i++) {
		d->n_used[i] = n->rings[i].n_used;
		d->first[i] = n->rings[i].next_used % n->rings[i].cfg.size;
	}
	for (uint16_t k = 0; k < DIRTY_FRAMES_MAX; k++)
		d->next_buf[k] = next_buf(&n->rings[0], k);
	return e;
}

static int check_ring(struct dirty *d, struct net *n, uint32_t i)
{
	const struct ring *r = &n->rings[i];

	for (uint64_t k = 0; k < r->n_used - d->n_used[i]; k++)
		if (!are_marked(d, entry(d, r, i, k), r->cfg.packed ? 16 : 8))
			return unmarked(n, "a used entry", entry(d, r, i, k));
	if (!r->cfg.packed && !is_marked(d, r->cfg.used + 2))
		return unmarked(n, "a used index", r->cfg.used + 2);
	return 0;
}

int dirty_check(struct dirty *d, struct net *n, uint32_t n_bytes)
{
	uint64_t n_frames = n->rings[0].n_used - d->n_used[0];
	int e = 0;

	for (uint64_t k = 0; k < n_frames && k < DIRTY_FRAMES_MAX; k++)
		if (!are_marked(d, d->next_buf[k], NET_HDR_BYTES + n_bytes))
			return unmarked(n, "a frame", d->next_buf[k]);
	for (uint32_t i = 0; !e && i < 2; i++)
		e = check_ring(d, n, i);
	return e;
}

int dirty_end(struct dirty *d, struct net *n)
{
	int e = vu_set_features(&n->c, n->c.acked & ~VU_BIT(VU_F_LOG_ALL));

	if (!e)
		e = set_flags(n, 0);
	memset(d->bytes, 0, d->n_bytes);
	return e;
}

int dirty_is_clean(const struct dirty *d, struct net *n)
{
	for (uint64_t i = 0; i < d->n_bytes; i++)
		if (d->bytes[i]) {
			snprintf(n->why, sizeof(n->why), "page %#lx is marked, though nobody logs",
				8 * i);
			return -EBADMSG;
		}
	return 0;
}

void dirty_free(struct dirty *d)
{
	if (d->bytes)
		munmap(d->bytes, d->n_bytes);
	d->bytes = NULL;
}
