#include "driver.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *driver_fault;

#define LOAD(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

static void full_fence(void)
{
#ifdef __SANITIZE_THREAD__
	static atomic_int dummy;

	atomic_fetch_add(&dummy, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

void memory_init(struct memory *m, size_t n_bytes)
{
	struct map_region half = { .uva = UVA_OF(0), .size_bytes = n_bytes / 2 };

	m->n_bytes = n_bytes;
	m->fd = memfd_create("guest", MFD_CLOEXEC);
	ck_assert_int_ge(m->fd, 0);
	ck_assert_int_eq(ftruncate(m->fd, (off_t)n_bytes), 0);
	m->mem = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	ck_assert_ptr_ne(m->mem, MAP_FAILED);
	ck_assert_int_eq(map_new(&m->map), 0);
	ck_assert_int_eq(map_add(m->map, &half, m->fd), 0);
	half.gpa.val = half.offset_bytes = n_bytes / 2;
	half.uva = UVA_OF(n_bytes); /* not adjoining in the VMM */
	ck_assert_int_eq(map_add(m->map, &half, m->fd), 0);
}

void memory_deinit(struct memory *m)
{
	m->map = map_free(m->map);
	munmap(m->mem, m->n_bytes);
	close(m->fd);
}

static uint64_t up(uint64_t n)
{
	return (n + 63) & ~UINT64_C(63);
}

uint64_t ring_bytes(uint32_t size)
{
	return up(16 * (uint64_t)size) + up(6 + 2 * (uint64_t)size) + up(6 + 8 * (uint64_t)size);
}

void driver_init(struct driver *d, struct memory *m, uint64_t at, uint32_t size, bool packed)
{
	*d = (struct driver){ .m = m, .size = size, .packed = packed, .n_free = (uint16_t)size };
	d->desc = at;
	d->avail = at + up(16 * (uint64_t)size);
	d->used = d->avail + up(6 + 2 * (uint64_t)size);
	memset(m->mem + at, 0, ring_bytes(size));
	d->next = calloc(size, sizeof(*d->next));
	d->slots = calloc(size, sizeof(*d->slots));
	d->cookies = calloc(size, sizeof(*d->cookies));
	for (uint32_t i = 0; i < size; i++)
		d->next[i] = (uint16_t)(i + 1);
	d->avail_wrap = d->used_wrap = true;
}

void driver_begin_at(struct driver *d, uint16_t index)
{
	if (d->packed)
		return;
	d->avail_idx = d->used_idx = d->kicked_at = index;
	*((uint16_t *)(void *)(d->m->mem + d->avail) + 1) = index;
	*((uint16_t *)(void *)(d->m->mem + d->used) + 1) = index;
}

void driver_in_order(struct driver *d)
{
	d->in_order = true;
	d->next[d->size - 1] = 0;
}

void driver_deinit(struct driver *d)
{
	free(d->next);
	free(d->slots);
	free(d->cookies);
}

static void *copy_of(const void *from, size_t n)
{
	void *to = malloc(n);

	memcpy(to, from, n);
	return to;
}

void driver_copy(struct driver *to, const struct driver *from, struct memory *m)
{
	*to = *from;
	to->m = m;
	to->next = copy_of(from->next, from->size * sizeof(*from->next));
	to->slots = copy_of(from->slots, from->size * sizeof(*from->slots));
	to->cookies = copy_of(from->cookies, from->size * sizeof(*from->cookies));
}

static uint16_t *u16_at(struct driver *d, uint64_t gpa, uint64_t i)
{
	return (uint16_t *)(void *)(d->m->mem + gpa) + i;
}

struct raw_desc *driver_desc(struct driver *d, uint32_t i)
{
	return (struct raw_desc *)(void *)(d->m->mem + d->desc) + i;
}

static void step(struct driver *d, uint16_t *idx, bool *wrap, uint16_t n)
{
	uint32_t next = *idx + (uint32_t)n;

	if (next >= d->size) {
		next -= d->size;
		*wrap = !*wrap;
	}
	*idx = (uint16_t)next;
}

static uint16_t avail_bits(bool wrap)
{
	return wrap ? F_AVAIL : F_USED;
}

static void fill_table(struct driver *d, const struct seg *segs, unsigned int n, uint64_t table)
{
	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags =
			(uint16_t)((segs[i].write ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0));
		struct raw_desc desc = { segs[i].gpa, segs[i].len, flags, (uint16_t)(i + 1) };

		if (d->packed) {
			desc.a = 0;
			desc.b = flags & F_WRITE;
		}
		memcpy(d->m->mem + table + i * sizeof(desc), &desc, sizeof(desc));
	}
}

static void post_split(struct driver *d, const struct seg *segs, unsigned int n, uint16_t flags0)
{
	uint16_t head = d->free_head, i = head;

	for (unsigned int k = 0; k < n; k++) {
		struct raw_desc *desc = driver_desc(d, i);

		desc->addr = segs[k].gpa;
		desc->len = segs[k].len;
		desc->a = (uint16_t)(flags0 | (segs[k].write ? F_WRITE : 0) |
			(k + 1 < n ? F_NEXT : 0));
		desc->b = d->next[i];
		i = d->next[i];
	}
	d->free_head = i;
	driver_publish_raw(d, head, 1);
}

/* In order, a packed chain has the number of its first slot as its id. */
static uint16_t next_head(const struct driver *d)
{
	return d->packed && d->in_order ? d->avail_idx : d->free_head;
}

static void post_packed(struct driver *d, const struct seg *segs, unsigned int n, uint16_t flags0)
{
	uint16_t id = next_head(d), i = d->avail_idx;
	bool wrap = d->avail_wrap;

	if (!d->in_order)
		d->free_head = d->next[id];
	for (unsigned int k = 0; k < n; k++) {
		struct raw_desc *desc = driver_desc(d, i);
		uint16_t keep = desc->b & (F_AVAIL | F_USED); /* not yet available */

		desc->addr = segs[k].gpa;
		desc->len = segs[k].len;
		STORE(&desc->a, id);
		STORE(&desc->b,
			(uint16_t)(keep | flags0 | (segs[k].write ? F_WRITE : 0) |
				(k + 1 < n ? F_NEXT : 0)));
		step(d, &i, &wrap, 1);
	}
	driver_publish_raw(d, 0, (uint16_t)n);
}

void driver_publish_raw(struct driver *d, uint16_t head, uint16_t n)
{
	uint16_t first = d->avail_idx, i = first;
	bool first_wrap = d->avail_wrap, wrap = first_wrap;

	if (!d->packed) {
		STORE(u16_at(d, d->avail, 2 + (d->avail_idx & (d->size - 1))), head);
		d->avail_idx++;
		STORE(u16_at(d, d->avail, 1), d->avail_idx);
		return;
	}
	step(d, &i, &wrap, 1);
	for (uint16_t k = 1; k < n; k++) {
		uint16_t *flags = &driver_desc(d, i)->b;

		STORE(flags, (uint16_t)((*flags & ~(F_AVAIL | F_USED)) | avail_bits(wrap)));
		step(d, &i, &wrap, 1);
	}
	uint16_t *flags = &driver_desc(d, first)->b;

	STORE(flags, (uint16_t)((*flags & ~(F_AVAIL | F_USED)) | avail_bits(first_wrap)));
	step(d, &d->avail_idx, &d->avail_wrap, n);
	d->n_posted_slots += n;
}

bool driver_post(struct driver *d, const struct seg *segs, unsigned int n, uint64_t table,
	uint32_t cookie)
{
	struct seg whole = { table, n * 16, false };
	uint16_t slots = (uint16_t)(table ? 1 : n), head = next_head(d);

	if (d->n_free < slots)
		return false;
	if (table)
		fill_table(d, segs, n, table);
	d->slots[head] = slots;
	d->cookies[head] = cookie;
	d->n_free = (uint16_t)(d->n_free - slots);
	if (d->packed)
		post_packed(d, table ? &whole : segs, slots, table ? F_INDIRECT : 0);
	else
		post_split(d, table ? &whole : segs, slots, table ? F_INDIRECT : 0);
	return true;
}

bool driver_has_used(struct driver *d)
{
	uint16_t flags;

	if (d->n_batch)
		return true;
	if (!d->packed)
		return LOAD(u16_at(d, d->used, 1)) != d->used_idx;
	flags = LOAD(&driver_desc(d, d->used_idx)->b);
	return !!(flags & F_AVAIL) == d->used_wrap && !!(flags & F_USED) == d->used_wrap;
}

static int fault(const char *what)
{
	driver_fault = what;
	return -1;
}

/* The used entry where the driver looks next. */
static uint32_t used_entry(struct driver *d, uint32_t *ret_len)
{
	uint32_t id;

	if (d->packed) {
		struct raw_desc *desc = driver_desc(d, d->used_idx);

		id = LOAD(&desc->a);
		*ret_len = LOAD(&desc->len);
	} else {
		uint16_t *elem =
			u16_at(d, d->used, 2 + 4 * (uint64_t)(d->used_idx & (d->size - 1)));

		memcpy(&id, elem, 4);
		memcpy(ret_len, elem + 2, 4);
	}
	return id;
}

static uint16_t after(const struct driver *d, uint16_t head)
{
	return (uint16_t)((head + d->slots[head]) % d->size);
}

/* 0 | -1: as many chains as the entry stands for are not in use, or not published */
static int begin_batch(struct driver *d)
{
	uint16_t at = d->oldest, n_used;
	uint32_t last = used_entry(d, &d->batch_len);

	for (d->n_batch = 1; at != last && d->n_batch <= d->size; d->n_batch++) {
		if (!d->slots[at])
			return fault("a batch ends with what is not in use");
		at = after(d, at);
	}
	n_used = (uint16_t)(LOAD(u16_at(d, d->used, 1)) - d->used_idx);
	if (d->n_batch > d->size || (!d->packed && d->n_batch > n_used))
		return fault("a batch is longer than what was published");
	return 0;
}

/* The oldest chain in use, which came back with a batch. */
static int next_of_batch(struct driver *d, uint32_t *ret_id, uint32_t *ret_len)
{
	if (d->n_batch == 0 && begin_batch(d) < 0)
		return -1;
	d->n_batch--;
	*ret_id = d->oldest;
	*ret_len = d->n_batch ? 0 : d->batch_len;
	if (d->slots[d->oldest])
		d->oldest = after(d, d->oldest);
	return 0;
}

static void free_split(struct driver *d, uint16_t head)
{
	uint16_t last = head;

	for (uint16_t k = 1; k < d->slots[head]; k++)
		last = d->next[last];
	d->next[last] = d->free_head;
}

int driver_reap(struct driver *d, uint32_t *ret_cookie, uint32_t *ret_len)
{
	uint32_t id;

	if (!driver_has_used(d))
		return 0;
	if (!d->in_order)
		id = used_entry(d, ret_len);
	else if (next_of_batch(d, &id, ret_len) < 0)
		return -1;
	if (id >= d->size)
		return fault("a used id is outside the ring");
	if (!d->slots[id])
		return fault("what is not in use came back");
	*ret_cookie = d->cookies[id];
	if (d->packed)
		step(d, &d->used_idx, &d->used_wrap, d->slots[id]);
	else
		d->used_idx++;
	d->n_free = (uint16_t)(d->n_free + d->slots[id]);
	if (!d->in_order) {
		if (d->packed)
			d->next[id] = d->free_head;
		else
			free_split(d, (uint16_t)id);
		d->free_head = (uint16_t)id;
	}
	d->slots[id] = 0;
	return 1;
}

/* --- Notifications --- */

void driver_calls_on(struct driver *d)
{
	uint32_t *event = (uint32_t *)(void *)(d->m->mem + d->avail);

	if (d->packed)
		STORE(event,
			d->event_idx ? d->used_idx | (uint32_t)d->used_wrap << 15 | 2u << 16 : 0);
	else if (d->event_idx)
		STORE(u16_at(d, d->avail, 2 + d->size), d->used_idx);
	else
		STORE(u16_at(d, d->avail, 0), (uint16_t)0);
	full_fence();
}

void driver_calls_off(struct driver *d)
{
	uint32_t *event = (uint32_t *)(void *)(d->m->mem + d->avail);

	if (d->packed)
		STORE(event, 1u << 16);
	else if (!d->event_idx)
		STORE(u16_at(d, d->avail, 0), (uint16_t)1);
}

bool driver_must_kick(struct driver *d)
{
	uint32_t event, n;
	uint16_t off, old = d->kicked_at;

	full_fence();
	if (!d->packed) {
		d->kicked_at = d->avail_idx;
		if (!d->event_idx)
			return !(LOAD(u16_at(d, d->used, 0)) & 1);
		off = LOAD(u16_at(d, d->used, 2 + 4 * (uint64_t)d->size));
		return (uint16_t)(d->avail_idx - off - 1) < (uint16_t)(d->avail_idx - old);
	}
	n = d->n_posted_slots;
	d->n_posted_slots = 0;
	event = LOAD((uint32_t *)(void *)(d->m->mem + d->used));
	if (event >> 16 != 2)
		return event >> 16 != 1;
	off = event & 0x7fff;
	if ((event >> 15 & 1) != d->avail_wrap)
		off = (uint16_t)(off - d->size);
	return (uint16_t)(d->avail_idx - off - 1) < n;
}

struct virtq_setup driver_setup(const struct driver *d, uint64_t start_id)
{
	return (struct virtq_setup){ .size = d->size,
		.packed = d->packed,
		.event_idx = d->event_idx,
		.indirect = true,
		.in_order = d->in_order,
		.desc = UVA_OF(d->desc),
		.avail = UVA_OF(d->avail),
		.used = UVA_OF(d->used),
		.log = true,
		.log_gpa = { d->used },
		.base = d->packed ? 0x80008000 : 0,
		.start_id = start_id };
}

/* --- The rig --- */

void rig_init(struct rig *rig, uint32_t size, bool packed)
{
	memset(rig, 0, sizeof(*rig));
	memory_init(&rig->m, RIG_BYTES);
	driver_init(&rig->d, &rig->m, 0, size, packed);
	/* exactly as long as promised, so that sanitizers see a byte too many */
	rig->inflight = aligned_alloc(64, ledger_inflight_bytes(size));
	memset(rig->inflight, 0x5a, ledger_inflight_bytes(size));
}

void rig_start(struct rig *rig)
{
	struct virtq_setup setup = driver_setup(&rig->d, 1);

	ck_assert_int_eq(virtq_start(&rig->vq, &setup, rig->m.map, &rig->ledger, rig->inflight), 0);
}

void rig_deinit(struct rig *rig)
{
	virtq_stop(rig->vq);
	driver_deinit(&rig->d);
	memory_deinit(&rig->m);
	free(rig->inflight);
}

unsigned int rig_serve(struct rig *rig, unsigned int n)
{
	int got = virtq_fill(rig->vq, n);

	must(got >= 0);
	for (int i = 0; i < got; i++) {
		struct virtq_chain *chain = virtq_window(rig->vq, 0);

		virtq_take(rig->vq, 1);
		virtq_complete(rig->vq, chain, chain->in_bytes);
	}
	virtq_publish(rig->vq);
	return (unsigned int)got;
}

unsigned int rig_reap_all(struct rig *rig, uint32_t cookie)
{
	uint32_t got, len;
	unsigned int n = 0;
	int r;

	while ((r = driver_reap(&rig->d, &got, &len)) == 1) {
		must(got == cookie + n);
		n++;
	}
	if (r != 0)
		ck_abort_msg("%s", driver_fault);
	return n;
}
