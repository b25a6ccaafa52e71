/*
 * A session whose dirty log is compared with what the device wrote. While rings stand still the
 * driver prepares all it will do; guest memory is copied; then the device works, and the driver
 * writes nothing until the rings stand still again. So whatever differs from the copy was written
 * by the device, and the page it is on must be marked, and none that the device had no business
 * with.
 */
#include "logged.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct net n;
int log_fd = -1;
uint8_t *bits;
uint32_t bases[2];
static uint8_t *before;
static uint32_t sent;

/* --- The log --- */

void make_log(void)
{
	/* not to be sealed: some test cuts it short */
	log_fd = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(log_fd, 0);
	ck_assert_int_eq(ftruncate(log_fd, LOG_BYTES), 0);
	bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
	ck_assert_ptr_ne(bits, MAP_FAILED);
}

void drop_log(void)
{
	munmap(bits, LOG_BYTES);
	close(log_fd);
	free(before);
	before = NULL;
}

bool is_marked(uint64_t page)
{
	return __atomic_load_n(&bits[page / 8], __ATOMIC_ACQUIRE) >> page % 8 & 1;
}

void clear_log(void)
{
	for (size_t i = 0; i < LOG_BYTES; i++)
		__atomic_exchange_n(&bits[i], 0, __ATOMIC_SEQ_CST);
}

uint64_t n_marked(void)
{
	uint64_t count = 0;

	for (size_t i = 0; i < LOG_BYTES; i++)
		count += (uint64_t)__builtin_popcount(__atomic_load_n(&bits[i], __ATOMIC_ACQUIRE));
	return count;
}

void set_log(void)
{
	struct vu_log log = { LOG_BYTES, 0 };

	rig_ok(vu_set_log_base(&n.c, &log, &log_fd, 1), n.c.why);
}

void set_log_all(bool on)
{
	uint64_t features = n.c.acked & ~LOG_ALL;

	rig_ok(vu_set_features(&n.c, on ? features | LOG_ALL : features), n.c.why);
}

void set_ring_addr(uint16_t index, bool log, uint64_t at)
{
	struct vu_addr addr;

	ring_addr(&n.rings[index], &addr);
	addr.flags = log ? VU_ADDR_LOG : 0;
	addr.log = at;
	rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
}

void set_ring_logs(bool on)
{
	for (uint16_t i = 0; i < 2; i++)
		set_ring_addr(i, on, n.rings[i].cfg.used);
}

/* --- Rings that stand still, and go on --- */

void stop_rings(void)
{
	for (uint16_t i = 0; i < 2; i++)
		rig_ok(vu_get_vring_base(&n.c, i, &bases[i]), n.c.why);
}

void start_rings(void)
{
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, i, bases[i]), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, i, n.rings[i].kick_fd), n.c.why);
		ring_kick_always(&n.rings[i]);
	}
}

void open_logged(const char *path, int kind)
{
	struct net_profile p = {
		.protocol = SHMFD | VU_BIT(VU_PF_DEVICE_STATE), .ring_size = 512, .buf_bytes = 20000
	};

	p.features |= kind & LOGGED_PACKED ? VU_BIT(VU_F_PACKED) : 0;
	p.features |= kind & LOGGED_MERGEABLE ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0;
	p.features |= kind & LOGGED_EVENT_IDX ? VU_BIT(VU_F_EVENT_IDX) : 0;
	p.features |= kind & LOGGED_INDIRECT ? VU_BIT(VU_F_INDIRECT) : 0;
	p.features |=
		kind & LOGGED_SEGMENTS ? VU_BIT(VU_NET_F_CSUM) | VU_BIT(VU_NET_F_HOST_TSO4) : 0;
	p.indirect = kind & LOGGED_INDIRECT;
	p.tx_segs = p.rx_segs = kind & LOGGED_INDIRECT ? 3 : 1;
	if (kind & LOGGED_MERGEABLE) {
		p.buf_bytes = 3000; /* frames fill several, which begin anywhere in a page */
		p.tx_bytes = 20000;
	}
	make_log();
	rig_ok(net_open(&n, path, &p), n.why);
	rig_ok(net_pump(&n, 0, 200, 500), n.why);
	stop_rings();
	set_log();
	set_log_all(true);
	set_ring_logs(true);
	sent = 0;
}

void close_logged(void)
{
	rig_ok(net_check(&n), n.why);
	net_close(&n);
	drop_log();
}

/* --- A window in which the device alone writes --- */

void send_frames(unsigned int count, uint32_t n_bytes)
{
	static uint8_t frame[NET_FRAME_MAX];
	unsigned int each = (n_bytes + NET_HDR_BYTES + n.p.buf_bytes - 1) / n.p.buf_bytes;
	unsigned int room = n.n_bufs[0] / each - 1;

	for (unsigned int i = 0; i < count && i < room; i++) {
		net_frame_make(frame, n_bytes, sent++);
		rig_ok(net_send(&n, 0, frame, n_bytes), n.why);
	}
}

void receive_frames(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	while (ring_has_used(&n.rings[0]))
		rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
}

uint64_t n_pages(void)
{
	return (n.g.regions[0].next + PAGE - 1) / PAGE;
}

void note_memory(void)
{
	uint64_t n_bytes = n_pages() * PAGE;

	free(before);
	before = malloc(n_bytes);
	ck_assert_ptr_nonnull(before);
	memcpy(before, guest_at(&n.g, 0, n_bytes), n_bytes);
	clear_log();
}

bool has_changed(uint64_t page)
{
	return memcmp(before + page * PAGE, guest_at(&n.g, page * PAGE, PAGE), PAGE) != 0;
}

uint64_t all_is_marked(void)
{
	uint64_t changed = 0;

	for (uint64_t page = 0; page < n_pages(); page++) {
		if (!has_changed(page))
			continue;
		changed++;
		ck_assert_msg(is_marked(page),
			"the device wrote to page %#llx, which is not marked",
			(unsigned long long)page);
	}
	return changed;
}

/* Marks stand for the receive buffers and for the parts of rings that the device writes. */
static bool may_be_marked(uint64_t page)
{
	uint64_t start = page * PAGE, end = start + PAGE;

	for (uint16_t i = 0; i < n.n_bufs[0]; i++)
		if (n.bufs[0][i] < end && n.bufs[0][i] + n.p.buf_bytes > start)
			return true;
	for (uint16_t i = 0; i < 2; i++) {
		const struct ring_config *cfg = &n.rings[i].cfg;

		if ((cfg->used < end && cfg->used + 6 + 8u * cfg->size > start) ||
			(cfg->packed && cfg->desc < end && cfg->desc + 16u * cfg->size > start))
			return true;
	}
	return false;
}

void nothing_else_is_marked(void)
{
	for (uint64_t page = 0; page < LOG_PAGES; page++)
		if (is_marked(page) && !may_be_marked(page))
			ck_abort_msg("page %#llx is marked, and the device had nothing to write there",
				(unsigned long long)page);
}
