/*
 * The device's areas are found by its PCI capabilities, as section 4.1.4 of virtio 1.2 has them,
 * and mapped by the kernel's sysfs files. Everything shared with the device lies in one huge
 * page: it is contiguous, it stays where it is, and /proc/self/pagemap tells where.
 *
 * As with the real driver, the answer to a request is written over the request.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wl-pci.h"

#define SYSFS "/sys/bus/pci/devices/"
#define PCI_CAPABILITIES 0x34
#define PCI_COMMAND 4
#define PCI_COMMAND_MEMORY 2
#define PCI_COMMAND_MASTER 4
#define PCI_CAP_VENDOR 9

enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_SHMEM = 8 };

/* struct virtio_pci_common_cfg */
enum {
	DEVICE_FEATURE_SELECT = 0,
	DEVICE_FEATURE = 4,
	DRIVER_FEATURE_SELECT = 8,
	DRIVER_FEATURE = 12,
	DEVICE_STATUS = 20,
	QUEUE_SELECT = 22,
	QUEUE_SIZE = 24,
	QUEUE_ENABLE = 28,
	QUEUE_NOTIFY_OFF = 30,
	QUEUE_DESC = 32,
	QUEUE_DRIVER = 40,
	QUEUE_DEVICE = 48,
};

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

#define HUGE_BYTES (2u << 20)
#define PAGE 4096u
#define QUEUE_ENTRIES 256
#define N_EVENTS 64
#define N_SLOTS 8
#define SLOT_DESCS (WL_SLOT_BYTES / PAGE + 1)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct used {
	uint16_t flags;
	volatile uint16_t idx;
	struct {
		uint32_t id, len;
	} ring[QUEUE_ENTRIES];
};

struct avail {
	uint16_t flags;
	volatile uint16_t idx;
	uint16_t ring[QUEUE_ENTRIES];
};

struct queue {
	struct desc *desc;
	struct avail *avail;
	struct used *used;
	uint16_t taken; /* of used->idx */
	volatile uint16_t *notify;
};

struct wl_pci {
	struct wl_link link; /* first: the ops are given this */
	char dir[300];
	uint8_t config[256];
	volatile uint8_t *common, *notify;
	uint32_t notify_step;
	uint8_t *page; /* the huge one, and where it is */
	uint64_t page_at;
	uint32_t n_given;
	struct queue in, out;
	uint8_t *events, *slots;
	int answers[N_SLOTS]; /* bytes of the answer; -1 free, -2 under way */
};

static uint64_t where(const struct wl_pci *d, const void *p)
{
	return d->page_at + (uint64_t)((const uint8_t *)p - d->page);
}

/* ---- one queue ---- */

static void make_available(struct queue *q, uint16_t index, uint16_t head)
{
	q->avail->ring[q->avail->idx % QUEUE_ENTRIES] = head;
	__sync_synchronize();
	q->avail->idx++;
	__sync_synchronize();
	*q->notify = index;
}

/* the head of the next used chain and its bytes | -1 */
static int take_used(struct queue *q, uint32_t *ret_bytes)
{
	uint16_t at = q->taken % QUEUE_ENTRIES;

	if (q->used->idx == q->taken)
		return -1;
	__sync_synchronize();
	q->taken++;
	*ret_bytes = q->used->ring[at].len;
	return (int)q->used->ring[at].id;
}

/* ---- the link ---- */

static int pci_post(struct wl_link *l, const void *request, size_t n_bytes)
{
	struct wl_pci *d = (struct wl_pci *)l;
	uint16_t slot = 0, head, n = 0;
	uint8_t *at;

	while (slot < N_SLOTS && d->answers[slot] != -1)
		slot++;
	if (slot == N_SLOTS)
		return -EAGAIN;
	if (n_bytes > WL_SLOT_BYTES)
		return -E2BIG;
	at = d->slots + (size_t)slot * WL_SLOT_BYTES;
	memcpy(at, request, n_bytes);
	head = (uint16_t)(slot * SLOT_DESCS);
	for (size_t done = 0; done < n_bytes; done += PAGE, n++)
		d->out.desc[head + n] = (struct desc){ where(d, at + done),
			n_bytes - done < PAGE ? (uint32_t)(n_bytes - done) : PAGE, DESC_NEXT,
			(uint16_t)(head + n + 1) };
	d->out.desc[head + n] = (struct desc){ where(d, at), PAGE, DESC_WRITE, 0 };
	d->answers[slot] = -2;
	make_available(&d->out, 1, head);
	return slot;
}

static int pci_answer(struct wl_link *l, int slot, void *ret_answer, size_t n_bytes)
{
	struct wl_pci *d = (struct wl_pci *)l;
	uint32_t n;
	int head, r;

	while ((head = take_used(&d->out, &n)) >= 0)
		d->answers[(uint32_t)head / SLOT_DESCS] = (int)n;
	r = d->answers[slot];
	if (r < 0)
		return -EAGAIN;
	memcpy(ret_answer, d->slots + (size_t)slot * WL_SLOT_BYTES,
		(size_t)r < n_bytes ? (size_t)r : n_bytes);
	d->answers[slot] = -1;
	return r;
}

static int pci_event(struct wl_link *l, void *ret_event)
{
	struct wl_pci *d = (struct wl_pci *)l;
	uint32_t n;
	int head = take_used(&d->in, &n);

	if (head < 0)
		return -EAGAIN;
	memcpy(ret_event, d->events + (size_t)head * PAGE, WL_EVENT_BYTES);
	make_available(&d->in, 0, (uint16_t)head);
	return (int)n;
}

static void pci_wait(struct wl_link *l, int timeout_ms)
{
	usleep(timeout_ms ? 200 : 0);
}

static const struct wl_link_ops ops = { pci_post, pci_answer, pci_event, pci_wait };

/* ---- start ---- */

static uint32_t config32(const struct wl_pci *d, uint8_t at)
{
	uint32_t v;

	memcpy(&v, d->config + at, 4);
	return v;
}

static int open_file(const struct wl_pci *d, const char *name, int flags)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	return open(path, flags | O_CLOEXEC);
}

static void write_file(const struct wl_pci *d, const char *name, const char *text)
{
	int fd = open_file(d, name, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "wl-pci: %s: %s\n", name, strerror(errno));
	close(fd);
}

static bool is_device(struct wl_pci *d, const char *name, unsigned int device_id)
{
	int fd;

	snprintf(d->dir, sizeof(d->dir), SYSFS "%.255s", name);
	fd = open_file(d, "config", O_RDONLY);
	if (fd < 0 || read(fd, d->config, sizeof(d->config)) < 64) {
		close(fd);
		return false;
	}
	close(fd);
	return config32(d, 0) == (0x1af4 | (0x1040 + device_id) << 16);
}

static bool find_device(struct wl_pci *d, unsigned int device_id)
{
	DIR *dir = opendir(SYSFS);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.' && is_device(d, entry->d_name, device_id);
	if (dir)
		closedir(dir);
	return found;
}

/* The kernel's virtio-pci holds every device of its kind, whether it has a driver or not. */
static void enable(struct wl_pci *d)
{
	uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	int fd;

	fd = open_file(d, "driver/unbind", O_WRONLY);
	if (fd >= 0 && write(fd, strrchr(d->dir, '/') + 1, strlen(strrchr(d->dir, '/') + 1)) < 0)
		fprintf(stderr, "wl-pci: unbind: %s\n", strerror(errno));
	close(fd);
	write_file(d, "enable", "1");
	fd = open_file(d, "config", O_RDWR);
	if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
		fprintf(stderr, "wl-pci: config: %s\n", strerror(errno));
	close(fd);
}

static void *map_bar(const struct wl_pci *d, uint8_t bar, uint64_t offset, uint64_t n_bytes)
{
	char name[16];
	uint64_t in_page = offset % PAGE;
	uint8_t *map;
	int fd;

	snprintf(name, sizeof(name), "resource%u", bar);
	fd = open_file(d, name, O_RDWR | O_SYNC);
	map = mmap(NULL, n_bytes + in_page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		(off_t)(offset - in_page));
	close(fd);
	return map == MAP_FAILED ? NULL : map + in_page;
}

static void map_window(struct wl_pci *d, uint8_t at, bool no_map)
{
	uint64_t offset = config32(d, at + 8) | (uint64_t)config32(d, at + 16) << 32;
	uint64_t n_bytes = config32(d, at + 12) | (uint64_t)config32(d, at + 20) << 32;

	d->link.window_bytes = n_bytes;
	if (no_map)
		d->link.window = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	else
		d->link.window = map_bar(d, d->config[at + 4], offset, n_bytes);
}

static bool map_areas(struct wl_pci *d, bool no_map)
{
	for (uint8_t at = d->config[PCI_CAPABILITIES]; at >= 64; at = d->config[at + 1]) {
		const uint8_t *cap = d->config + at;
		uint8_t type = cap[3], bar = cap[4];

		if (cap[0] != PCI_CAP_VENDOR)
			continue;
		if (type == CFG_COMMON)
			d->common = map_bar(d, bar, config32(d, at + 8), config32(d, at + 12));
		if (type == CFG_NOTIFY) {
			d->notify = map_bar(d, bar, config32(d, at + 8), config32(d, at + 12));
			d->notify_step = config32(d, at + 16);
		}
		if (type == CFG_SHMEM && cap[5] == 0)
			map_window(d, at, no_map);
	}
	return d->common && d->notify && d->link.window;
}

static bool make_page(struct wl_pci *d)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || write(fd, "8", 1) != 1)
		fprintf(stderr, "wl-pci: nr_hugepages: %s\n", strerror(errno));
	close(fd);
	d->page = mmap(NULL, HUGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (d->page == MAP_FAILED)
		return false;
	memset(d->page, 0, HUGE_BYTES);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pread(fd, &entry, 8, (off_t)((uintptr_t)d->page / PAGE * 8)) != 8)
		entry = 0;
	close(fd);
	d->page_at = (entry & ((UINT64_C(1) << 55) - 1)) * PAGE;
	return d->page_at;
}

static void *give(struct wl_pci *d, size_t n_bytes)
{
	uint8_t *p = d->page + d->n_given;

	d->n_given += (uint32_t)((n_bytes + PAGE - 1) / PAGE * PAGE);
	return p;
}

static void put64(const struct wl_pci *d, int at, uint64_t value)
{
	*(volatile uint32_t *)(d->common + at) = (uint32_t)value;
	*(volatile uint32_t *)(d->common + at + 4) = (uint32_t)(value >> 32);
}

static volatile uint16_t *common16(const struct wl_pci *d, int at)
{
	return (volatile uint16_t *)(d->common + at);
}

static void start_queue(struct wl_pci *d, struct queue *q, uint16_t index)
{
	q->desc = give(d, QUEUE_ENTRIES * sizeof(*q->desc));
	q->avail = give(d, sizeof(*q->avail) + 2);
	q->used = give(d, sizeof(*q->used) + 2);
	*common16(d, QUEUE_SELECT) = index;
	*common16(d, QUEUE_SIZE) = QUEUE_ENTRIES;
	put64(d, QUEUE_DESC, where(d, q->desc));
	put64(d, QUEUE_DRIVER, where(d, q->avail));
	put64(d, QUEUE_DEVICE, where(d, q->used));
	q->notify =
		(volatile uint16_t *)(d->notify + *common16(d, QUEUE_NOTIFY_OFF) * d->notify_step);
	*common16(d, QUEUE_ENABLE) = 1;
}

static bool negotiate(struct wl_pci *d)
{
	static const uint32_t want[] = {
		1u << WL_F_TRANS_FLAGS | 1u << WL_F_SEND_FENCES | 1u << WL_F_USE_SHMEM, 1u
	};
	volatile uint8_t *status = d->common + DEVICE_STATUS;

	*status = 0;
	while (*status)
		;
	*status = ACKNOWLEDGE | DRIVER;
	for (uint32_t i = 0; i < 2; i++) {
		*(volatile uint32_t *)(d->common + DEVICE_FEATURE_SELECT) = i;
		*(volatile uint32_t *)(d->common + DRIVER_FEATURE_SELECT) = i;
		if (~*(volatile uint32_t *)(d->common + DEVICE_FEATURE) & want[i])
			return false;
		*(volatile uint32_t *)(d->common + DRIVER_FEATURE) = want[i];
	}
	*status = ACKNOWLEDGE | DRIVER | FEATURES_OK;
	return *status & FEATURES_OK;
}

static void start(struct wl_pci *d)
{
	start_queue(d, &d->in, 0);
	start_queue(d, &d->out, 1);
	d->events = give(d, N_EVENTS * PAGE);
	d->slots = give(d, N_SLOTS * WL_SLOT_BYTES);
	for (int i = 0; i < N_SLOTS; i++)
		d->answers[i] = -1;
	*(d->common + DEVICE_STATUS) = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
	for (uint16_t i = 0; i < N_EVENTS; i++) {
		d->in.desc[i] =
			(struct desc){ where(d, d->events + i * PAGE), PAGE, DESC_WRITE, 0 };
		make_available(&d->in, 0, i);
	}
}

struct wl_link *wl_pci_open(unsigned int device_id, bool no_map)
{
	struct wl_pci *d = calloc(1, sizeof(*d));
	const char *what = NULL;

	if (!d || !find_device(d, device_id)) {
		what = "there is no such device";
	} else {
		enable(d);
		if (!map_areas(d, no_map))
			what = "its areas cannot be mapped";
		else if (!make_page(d))
			what = "there is no huge page";
		else if (!negotiate(d))
			what = "it does not offer the features";
	}
	if (what) {
		fprintf(stderr, "wl-pci: %s\n", what);
		free(d);
		return NULL;
	}
	start(d);
	d->link.ops = &ops;
	d->link.poll_ms = 1;
	d->link.timeout_ms = 60000;
	for (int i = 0; i < 3; i++)
		d->link.fds[i] = -1;
	return &d->link;
}

void wl_pci_reset(struct wl_link *l)
{
	const struct wl_pci *d = (struct wl_pci *)l;

	*(d->common + DEVICE_STATUS) = 0;
	while (*(d->common + DEVICE_STATUS))
		;
}
