/* A row for each layout that a request has: this table goes beside the request table, which says
 * what is legal. What has no row is shown by its length. */
#include "trace-text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "protocol.h"

/** struct page - a text that grows */
struct page {
	char *text;
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct page *page, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(page->text + page->n, TRACE_TEXT_BYTES - page->n, fmt, ap);
	va_end(ap);
	page->n += strlen(page->text + page->n);
}

/* --- Layouts: what is at data is all there, but for lists --- */

static void put_u64(struct page *page, const uint8_t *data, size_t n)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	put(page, "0x%" PRIx64, value);
}

static void put_number(struct page *page, const uint8_t *data, size_t n)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	put(page, "%" PRIu64, value);
}

static void put_state(struct page *page, const uint8_t *data, size_t n)
{
	struct vring_state state;

	memcpy(&state, data, sizeof(state));
	put(page, "ring %u: %u", state.index, state.num);
}

static void put_addr(struct page *page, const uint8_t *data, size_t n)
{
	struct vring_addr addr;

	memcpy(&addr, data, sizeof(addr));
	put(page, "ring %u: descriptors 0x%" PRIx64 ", available 0x%" PRIx64 ", used 0x%" PRIx64,
		addr.index, addr.desc, addr.avail, addr.used);
	if (addr.flags & VRING_ADDR_LOG)
		put(page, ", log 0x%" PRIx64, addr.log);
}

static void put_ring_fd(struct page *page, const uint8_t *data, size_t n)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	put(page, "ring %u%s", (unsigned int)(value & VHOST_USER_VRING_IDX_MASK),
		value & VHOST_USER_VRING_NOFD_MASK ? ", no descriptor" : "");
}

static void put_region(struct page *page, const struct memory_region *region)
{
	put(page, "guest 0x%" PRIx64 ", size 0x%" PRIx64 ", user 0x%" PRIx64 ", offset 0x%" PRIx64,
		region->gpa, region->size, region->uva, region->offset);
}

static void put_single(struct page *page, const uint8_t *data, size_t n)
{
	struct memory_single single;

	memcpy(&single, data, sizeof(single));
	put_region(page, &single.region);
}

static void put_table(struct page *page, const uint8_t *data, size_t n)
{
	uint32_t n_regions;

	memcpy(&n_regions, data, sizeof(n_regions));
	put(page, "%u regions", n_regions);
	for (size_t i = 0; i < n_regions && i < FDS_MAX; i++) {
		struct memory_region region;

		if (n < 8 + (i + 1) * sizeof(region))
			return;
		memcpy(&region, data + 8 + i * sizeof(region), sizeof(region));
		put(page, "; ");
		put_region(page, &region);
	}
}

static void put_config(struct page *page, const uint8_t *data, size_t n)
{
	struct config_header header;

	memcpy(&header, data, sizeof(header));
	put(page, "offset %u, %u bytes", header.offset, header.size);
	if (header.flags & CONFIG_MIGRATION)
		put(page, ", migration");
	for (size_t i = sizeof(header); i < n && i < sizeof(header) + 64; i++)
		put(page, "%s%02x", i == sizeof(header) ? ": " : " ", data[i]);
}

static void put_inflight(struct page *page, const uint8_t *data, size_t n)
{
	struct inflight_area area;

	memcpy(&area, data, sizeof(area));
	put(page, "size 0x%" PRIx64 ", offset 0x%" PRIx64 ", %u rings of %u", area.mmap_size,
		area.mmap_offset, area.n_queues, area.queue_size);
}

static void put_log(struct page *page, const uint8_t *data, size_t n)
{
	struct log_area area;

	memcpy(&area, data, sizeof(area));
	put(page, "size 0x%" PRIx64 ", offset 0x%" PRIx64, area.mmap_size, area.mmap_offset);
}

static void put_device_state(struct page *page, const uint8_t *data, size_t n)
{
	struct device_state state;

	memcpy(&state, data, sizeof(state));
	put(page, "%s, phase %u",
		state.direction == DEVICE_STATE_SAVE           ? "save"
			: state.direction == DEVICE_STATE_LOAD ? "load"
							       : "direction unknown",
		state.phase);
}

/* --- The table --- */

/** struct layout - how a payload of at least size_min bytes is shown */
struct layout {
	size_t size_min;
	void (*put)(struct page *page, const uint8_t *data, size_t n);
};

#define STATE                                                                                      \
	{                                                                                          \
		sizeof(struct vring_state), put_state                                              \
	}
#define RING_FD                                                                                    \
	{                                                                                          \
		sizeof(uint64_t), put_ring_fd                                                      \
	}
#define U64                                                                                        \
	{                                                                                          \
		sizeof(uint64_t), put_u64                                                          \
	}
#define NUMBER                                                                                     \
	{                                                                                          \
		sizeof(uint64_t), put_number                                                       \
	}

static const struct layout layouts[_REQUESTS_END] = {
	[GET_FEATURES] = U64,
	[SET_FEATURES] = U64,
	[SET_MEM_TABLE] = { 8, put_table },
	[SET_LOG_BASE] = { sizeof(struct log_area), put_log },
	[SET_VRING_NUM] = STATE,
	[SET_VRING_ADDR] = { sizeof(struct vring_addr), put_addr },
	[SET_VRING_BASE] = STATE,
	[GET_VRING_BASE] = STATE,
	[SET_VRING_KICK] = RING_FD,
	[SET_VRING_CALL] = RING_FD,
	[SET_VRING_ERR] = RING_FD,
	[GET_PROTOCOL_FEATURES] = U64,
	[SET_PROTOCOL_FEATURES] = U64,
	[GET_QUEUE_NUM] = NUMBER,
	[SET_VRING_ENABLE] = STATE,
	[SEND_RARP] = U64,
	[NET_SET_MTU] = NUMBER,
	[GET_CONFIG] = { sizeof(struct config_header), put_config },
	[SET_CONFIG] = { sizeof(struct config_header), put_config },
	[GET_INFLIGHT_FD] = { sizeof(struct inflight_area), put_inflight },
	[SET_INFLIGHT_FD] = { sizeof(struct inflight_area), put_inflight },
	[GET_MAX_MEM_SLOTS] = NUMBER,
	[ADD_MEM_REG] = { sizeof(struct memory_single), put_single },
	[REM_MEM_REG] = { sizeof(struct memory_single), put_single },
	[SET_STATUS] = U64,
	[GET_STATUS] = U64,
	[SET_DEVICE_STATE_FD] = { sizeof(struct device_state), put_device_state },
	[CHECK_DEVICE_STATE] = NUMBER,
};

static const struct layout *layout_of(uint32_t request, bool is_reply)
{
	static const struct layout u64 = U64;

	/* the only one whose reply has another layout */
	if (request == SET_DEVICE_STATE_FD && is_reply)
		return &u64;
	return request < _REQUESTS_END ? &layouts[request] : NULL;
}

void trace_text(uint32_t request, bool is_reply, const void *payload, size_t n_payload, char *ret)
{
	const struct layout *layout = layout_of(request, is_reply);
	struct page page = { .text = ret };

	*ret = '\0';
	if (layout && layout->put && n_payload >= layout->size_min)
		layout->put(&page, payload, n_payload);
	else if (n_payload)
		put(&page, "%zu bytes", n_payload);
}
