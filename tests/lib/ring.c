/*
 * The part common to both layouts: the table of buffers in flight by id, the posting order
 * (in-order devices may return a batch by naming only its last buffer), the checks on every
 * returned buffer, and waiting. The layouts are in ring-split.c and ring-packed.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/patience.h"
#include "ring-priv.h"

#define CALL_GRACE_MS 1000

int ring_fault(struct ring *r, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!r->fault[0])
		snprintf(r->fault, sizeof(r->fault), "ring %u: %s", r->cfg.index, text);
	return -EBADMSG;
}

static int alloc_areas(struct ring *r)
{
	size_t n = r->cfg.size;
	size_t avail_bytes = r->cfg.packed ? 4 : 6 + 2 * n;
	size_t used_bytes = r->cfg.packed ? 4 : 6 + 8 * n;

	if (!r->cfg.desc && !r->cfg.avail && !r->cfg.used) {
		r->cfg.desc = guest_alloc(r->g, 16 * n, 4096);
		r->cfg.avail = guest_alloc(r->g, avail_bytes, r->cfg.packed ? 4 : 2);
		r->cfg.used = guest_alloc(r->g, used_bytes, 4);
		if (!r->cfg.desc || !r->cfg.avail || !r->cfg.used)
			return -ENOSPC;
	}
	r->desc = guest_at(r->g, r->cfg.desc, 16 * n);
	r->avail = guest_at(r->g, r->cfg.avail, avail_bytes);
	r->used = guest_at(r->g, r->cfg.used, used_bytes);
	return r->desc && r->avail && r->used ? 0 : -EFAULT;
}

static int alloc_tables(struct ring *r)
{
	size_t n = r->cfg.size;
	uint32_t dice = 12345;

	r->shadow = calloc(n, sizeof(*r->shadow));
	r->bufs = calloc(n, sizeof(*r->bufs));
	r->free_ids = calloc(n, sizeof(*r->free_ids));
	r->order = calloc(n, sizeof(*r->order));
	if (!r->shadow || !r->bufs || !r->free_ids || !r->order)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		size_t k;

		dice = dice * 1664525 + 1013904223;
		k = (dice >> 8) % (i + 1);
		r->free_ids[i] = r->free_ids[k];
		r->free_ids[k] = (uint16_t)i;
	}
	r->n_free_ids = (uint16_t)n;
	r->n_free_desc = (uint16_t)n;
	return 0;
}

static void set_base(struct ring *r)
{
	if (r->cfg.packed) {
		r->next_avail = r->next_used = r->cfg.base & 0x7fff;
		r->avail_wrap = r->used_wrap = r->cfg.base >> 15;
	} else {
		r->next_avail = r->next_used = r->cfg.base;
		r->avail[1] = r->cfg.base;
		r->used[1] = r->cfg.base;
		r->next_desc = r->cfg.in_order ? 0 : r->next_desc;
	}
}

int ring_init(struct ring *r, struct guest *g, const struct ring_config *cfg)
{
	int e;

	memset(r, 0, sizeof(*r));
	r->cfg = *cfg;
	r->g = g;
	r->call_peer_fd = -1;
	r->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e = r->kick_fd < 0 || r->call_fd < 0 || r->err_fd < 0 ? -errno : 0;
	if (!e)
		e = alloc_areas(r);
	if (!e)
		e = alloc_tables(r);
	if (e) {
		ring_deinit(r);
		return e;
	}
	set_base(r);
	ring_want_calls(r, true);
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void ring_deinit(struct ring *r)
{
	close_fd(&r->kick_fd);
	close_fd(&r->call_fd);
	close_fd(&r->err_fd);
	close_fd(&r->call_peer_fd);
	free(r->shadow);
	free(r->bufs);
	free(r->free_ids);
	free(r->order);
	r->shadow = NULL;
	r->bufs = NULL;
	r->free_ids = NULL;
	r->order = NULL;
}

static uint64_t hash_readable(const struct ring *r, const struct ring_seg *segs, size_t n)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = guest_at(r->g, segs[i].gpa, segs[i].len);

		for (uint32_t k = 0; !segs[i].write && p && k < segs[i].len; k++)
			hash = (hash ^ p[k]) * 0x100000001b3;
	}
	return hash;
}

uint64_t ring_fill_table(struct ring *r, uint16_t id, const struct ring_seg *segs, uint16_t n)
{
	struct ring_buf *b = &r->bufs[id];
	struct ring_desc *table;

	if (!b->table)
		b->table = guest_alloc(r->g, sizeof(*table) * RING_MAX_SEGS, 16);
	table = guest_at(r->g, b->table, sizeof(*table) * RING_MAX_SEGS);
	if (!b->table || !table)
		return 0;
	for (uint16_t i = 0; i < n; i++) {
		uint16_t write = segs[i].write ? RING_DESC_WRITE : 0;
		bool more = i + 1 < n;

		table[i].addr = segs[i].gpa;
		table[i].len = segs[i].len;
		table[i].a = r->cfg.packed ? 0 : write | (more ? RING_DESC_NEXT : 0);
		table[i].b = r->cfg.packed ? write : (more ? i + 1 : 0);
	}
	return b->table;
}

int ring_post(struct ring *r, const struct ring_seg *segs, size_t n, void *cookie)
{
	struct ring_buf *b;
	uint16_t id;
	int e;

	if (r->fault[0])
		return -EBADMSG;
	if (!n || n > RING_MAX_SEGS)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		void *p = segs[i].write ? guest_at(r->g, segs[i].gpa, segs[i].len) : NULL;

		if (p)
			memset(p, RING_FILL, segs[i].len);
	}
	r->order[r->n_posted % r->cfg.size] = 0;
	e = r->cfg.packed ? packed_post(r, segs, (uint16_t)n, &id)
			  : split_post(r, segs, (uint16_t)n, &id);
	if (e)
		return e;
	b = &r->bufs[id];
	b->busy = true;
	b->cookie = cookie;
	b->n_segs = (uint16_t)n;
	memcpy(b->segs, segs, n * sizeof(*segs));
	b->hash = hash_readable(r, segs, n);
	r->order[r->n_posted % r->cfg.size] = id;
	r->n_posted++;
	return 0;
}

void ring_kick_always(struct ring *r)
{
	uint64_t one = 1;

	r->added = 0;
	r->n_kicks++;
	if (write(r->kick_fd, &one, sizeof(one)) < 0)
		ring_fault(r, "kick: %s", strerror(errno));
}

int ring_kick(struct ring *r)
{
	bool needed;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	needed = r->cfg.packed ? packed_needs_kick(r) : split_needs_kick(r);
	r->added = 0;
	if (needed)
		ring_kick_always(r);
	return needed;
}

uint32_t ring_in_flight(const struct ring *r)
{
	return (uint32_t)(r->n_posted - r->n_used);
}

bool ring_has_used(const struct ring *r)
{
	if (r->batch_left)
		return true;
	return r->cfg.packed ? packed_has_used(r) : split_has_used(r);
}

static int check_writable(struct ring *r, const struct ring_buf *b, uint32_t len, bool len_known)
{
	uint32_t before = 0;

	for (uint16_t i = 0; i < b->n_segs; i++) {
		const struct ring_seg *s = &b->segs[i];
		const uint8_t *p;

		if (!s->write)
			continue;
		p = guest_at(r->g, s->gpa, s->len);
		for (uint32_t k = len > before ? len - before : 0; p && len_known && k < s->len;
			k++) {
			if (p[k] != RING_FILL)
				return ring_fault(r, "byte %u written, used length is %u",
					before + k, len);
		}
		before += s->len;
	}
	if (len_known && len > before)
		return ring_fault(r, "used length %u, only %u were writable", len, before);
	return 0;
}

/* how many buffers are returned at once, of which this is the last */
static int start_batch(struct ring *r, uint16_t id, uint32_t len)
{
	uint32_t n = ring_in_flight(r);

	r->batch_id = id;
	r->batch_len = len;
	r->batch_left = 1;
	if (!r->cfg.in_order)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		if (r->order[(r->n_used + i) % r->cfg.size] == id) {
			r->batch_left = (uint16_t)(i + 1);
			return 0;
		}
	}
	return ring_fault(r, "in order, but %u is not in flight", id);
}

int ring_reap(struct ring *r, struct ring_used *ret_used)
{
	struct ring_buf *b;
	uint32_t len;
	uint16_t id;
	int e;

	if (r->fault[0])
		return -EBADMSG;
	if (!r->batch_left) {
		if (!ring_has_used(r))
			return 0;
		e = r->cfg.packed ? packed_next_used(r, &id, &len) : split_next_used(r, &id, &len);
		if (e)
			return e;
		if (id >= r->cfg.size || !r->bufs[id].busy)
			return ring_fault(r, "id %u returned, it is not in flight", id);
		if (start_batch(r, id, len))
			return -EBADMSG;
	}
	id = r->cfg.in_order ? r->order[r->n_used % r->cfg.size] : r->batch_id;
	b = &r->bufs[id];
	r->batch_left--;
	*ret_used =
		(struct ring_used){ b->cookie, r->batch_left ? 0 : r->batch_len, !r->batch_left };
	if (hash_readable(r, b->segs, b->n_segs) != b->hash)
		return ring_fault(r, "buffer %u: readable bytes were changed", id);
	if (check_writable(r, b, ret_used->len, ret_used->len_known))
		return -EBADMSG;
	b->busy = false;
	r->n_used++;
	if (r->cfg.packed)
		packed_release(r, id);
	else
		split_release(r, id);
	return 1;
}

static void arm(struct ring *r)
{
	if (r->cfg.packed)
		packed_arm(r);
	else
		split_arm(r);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void ring_want_calls(struct ring *r, bool want)
{
	r->want_calls = want;
	arm(r);
}

uint64_t ring_drain_calls(struct ring *r)
{
	uint64_t n = 0;

	if (read(r->call_fd, &n, sizeof(n)) < (ssize_t)sizeof(n))
		return 0;
	r->n_calls += n;
	return n;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* the device publishes before it calls, so a buffer just published is given time for its call */
static bool call_is_missing(struct ring *r)
{
	struct pollfd p = { .fd = r->call_fd, .events = POLLIN };

	return r->want_calls && ring_has_used(r) && poll(&p, 1, test_ms(CALL_GRACE_MS)) == 0;
}

int ring_wait(struct ring *r, int timeout_ms)
{
	int64_t end = now_us() + (int64_t)test_us(timeout_ms);

	for (;;) {
		struct pollfd p = { .fd = r->call_fd, .events = POLLIN };
		int64_t left = (end - now_us()) / 1000;

		arm(r);
		if (r->fault[0])
			return -EBADMSG;
		if (ring_has_used(r))
			return 0;
		if (poll(&p, 1, left > 0 ? (int)left : 0) > 0)
			ring_drain_calls(r);
		else if (call_is_missing(r))
			return ring_fault(r, "used, but the call never came");
		else if (left <= 0 && !ring_has_used(r))
			return -ETIMEDOUT;
	}
}

int ring_poll(struct ring *r, int timeout_ms)
{
	int64_t end = now_us() + (int64_t)test_us(timeout_ms);

	while (!ring_has_used(r)) {
		if (r->fault[0])
			return -EBADMSG;
		if (now_us() >= end)
			return -ETIMEDOUT;
		usleep(50);
	}
	return 0;
}

int ring_wait_err(struct ring *r, int timeout_ms)
{
	struct pollfd p = { .fd = r->err_fd, .events = POLLIN };
	uint64_t n;

	if (poll(&p, 1, test_ms(timeout_ms)) <= 0)
		return -ETIMEDOUT;
	return read(r->err_fd, &n, sizeof(n)) == (ssize_t)sizeof(n) ? 0 : -EIO;
}

void ring_addr(const struct ring *r, struct vu_addr *ret_addr)
{
	*ret_addr = (struct vu_addr){
		.index = r->cfg.index,
		.desc = guest_to_uva(r->g, r->cfg.desc),
		.avail = guest_to_uva(r->g, r->cfg.avail),
		.used = guest_to_uva(r->g, r->cfg.used),
	};
}

uint32_t ring_base(const struct ring *r)
{
	return r->cfg.packed ? packed_base(r) : split_base(r);
}

int ring_check(struct ring *r)
{
	uint64_t gpa;

	if (r->fault[0])
		return -EBADMSG;
	if (!r->cfg.packed && memcmp(r->shadow, r->desc, sizeof(*r->desc) * r->cfg.size) != 0)
		return ring_fault(r, "the descriptor table was written to");
	if (!r->cfg.packed && r->avail[1] != r->next_avail)
		return ring_fault(r, "the avail index was written to");
	if (guest_check(r->g, &gpa))
		return ring_fault(r, "a red zone was written at %#llx", (unsigned long long)gpa);
	return 0;
}
