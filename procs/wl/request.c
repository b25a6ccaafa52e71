/*
 * Commands as the driver writes them. A row for each type says how long it must be at least and
 * what reads the rest; ids and flags are copied as they are.
 */
#include "request.h"

#include <endian.h>
#include <string.h>

#include "base/bytes.h"

/** struct raw - the copy of a command's first bytes */
struct raw {
	uint8_t head[REQUEST_HEAD_MAX];
	size_t n_bytes; /* of the whole readable part */
	bool send_fences;
};

/* --- UTF-8 --- */

/* Bytes that follow a first byte, the bits that it has itself, and the least that so many bytes
 * stand for; -1 = it is no first byte. */
static int utf8_first(uint8_t byte, uint32_t *ret_bits, uint32_t *ret_least)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	int n = byte < 0x80       ? 0
		: byte >> 5 == 6  ? 1
		: byte >> 4 == 14 ? 2
		: byte >> 3 == 30 ? 3
				  : -1;

	if (n < 0)
		return -1;
	*ret_bits = n ? byte & (0x3fu >> n) : byte;
	*ret_least = least[n];
	return n;
}

static bool is_utf8(const char *text)
{
	const uint8_t *p = (const uint8_t *)text;

	while (*p) {
		uint32_t bits, least;
		int n = utf8_first(*p++, &bits, &least);

		for (int i = 0; i < n; i++, p++) {
			if (*p >> 6 != 2)
				return false;
			bits = bits << 6 | (*p & 0x3f);
		}
		if (n < 0 || bits < least || bits > 0x10ffff || bits >> 11 == 0x1b)
			return false;
	}
	return true;
}

/* --- What the types have --- */

static uint32_t read_vfd(struct request *request, const struct raw *raw)
{
	return 0;
}

static uint32_t read_new(struct request *request, const struct raw *raw)
{
	struct virtio_wl_ctrl_vfd_new new;

	memcpy(&new, raw->head, sizeof(new));
	request->flags = le32toh(new.flags);
	request->size = le32toh(new.size);
	return 0;
}

static uint32_t read_name(struct request *request, const struct raw *raw)
{
	request->type = VIRTIO_WL_CMD_VFD_NEW_CTX;
	memcpy(request->name, raw->head + VIRTWL_NAME_OFFSET, VIRTWL_NAME_MAX);
	return is_utf8(request->name) ? 0 : VIRTIO_WL_RESP_INVALID_ID;
}

static uint32_t read_dmabuf(struct request *request, const struct raw *raw)
{
	struct virtio_wl_ctrl_vfd_new_dmabuf dmabuf;

	memcpy(&dmabuf, raw->head, sizeof(dmabuf));
	request->width = le32toh(dmabuf.width);
	request->height = le32toh(dmabuf.height);
	request->format = le32toh(dmabuf.format);
	return 0;
}

static uint32_t read_sync(struct request *request, const struct raw *raw)
{
	struct virtio_wl_ctrl_vfd_dmabuf_sync sync;

	memcpy(&sync, raw->head, sizeof(sync));
	request->flags = le32toh(sync.flags);
	return 0;
}

/* Counts the entries, each of so many bytes, and finds the data behind them. */
static uint32_t read_counts(struct request *request, const struct raw *raw, size_t item_bytes)
{
	struct virtio_wl_ctrl_vfd_send send;

	memcpy(&send, raw->head, sizeof(send));
	request->n_items = le32toh(send.vfd_count);
	if (request->n_items > VIRTWL_SEND_MAX_ALLOCS)
		return VIRTIO_WL_RESP_INVALID_CMD;
	request->data_at = sizeof(send) + request->n_items * item_bytes;
	if (request->data_at > raw->n_bytes)
		return VIRTIO_WL_RESP_ERR;
	request->data_bytes = raw->n_bytes - request->data_at;
	return 0;
}

static uint32_t read_send(struct request *request, const struct raw *raw)
{
	uint32_t r = read_counts(request, raw, sizeof(uint32_t)), id;

	for (size_t i = 0; r == 0 && i < request->n_items; i++) {
		memcpy(&id, raw->head + sizeof(struct virtio_wl_ctrl_vfd_send) + i * sizeof(id),
			sizeof(id));
		request->items[i].id = le32toh(id);
	}
	return r;
}

static struct request_item item_v1(const uint8_t *at)
{
	struct virtio_wl_ctrl_vfd_send_vfd item;

	memcpy(&item, at, sizeof(item));
	return (struct request_item){ le32toh(item.kind), le32toh(item.id) };
}

/* Only a fence has a number of 64 bits. */
static struct request_item item_v2(const uint8_t *at)
{
	struct virtio_wl_ctrl_vfd_send_vfd_v2 item;
	uint64_t seqno;

	memcpy(&item, at, sizeof(item));
	seqno = le64toh(item.seqno);
	item.kind = le32toh(item.kind);
	if (item.kind != VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU_FENCE)
		seqno &= UINT32_MAX;
	return (struct request_item){ item.kind, seqno };
}

static uint32_t read_foreign(struct request *request, const struct raw *raw)
{
	size_t item_bytes = raw->send_fences ? sizeof(struct virtio_wl_ctrl_vfd_send_vfd_v2)
					     : sizeof(struct virtio_wl_ctrl_vfd_send_vfd);
	uint32_t r = read_counts(request, raw, item_bytes);

	request->type = VIRTIO_WL_CMD_VFD_SEND;
	for (size_t i = 0; r == 0 && i < request->n_items; i++) {
		const uint8_t *at =
			raw->head + sizeof(struct virtio_wl_ctrl_vfd_send) + i * item_bytes;

		request->items[i] = raw->send_fences ? item_v2(at) : item_v1(at);
		if (request->items[i].kind >= _VIRTIO_WL_CTRL_VFD_SEND_KIND_N)
			return VIRTIO_WL_RESP_INVALID_ID;
	}
	return r;
}

/* --- The table --- */

#define INDEX(command) (VIRTIO_WL_CMD_##command & 0xff)

static const struct {
	size_t n_bytes; /* at least */
	uint32_t (*read)(struct request *request, const struct raw *raw);
} types[] = {
	[INDEX(VFD_NEW)] = { sizeof(struct virtio_wl_ctrl_vfd_new), read_new },
	[INDEX(VFD_CLOSE)] = { sizeof(struct virtio_wl_ctrl_vfd), read_vfd },
	[INDEX(VFD_SEND)] = { sizeof(struct virtio_wl_ctrl_vfd_send), read_send },
	[INDEX(VFD_NEW_CTX)] = { sizeof(struct virtio_wl_ctrl_vfd), read_vfd },
	[INDEX(VFD_NEW_PIPE)] = { sizeof(struct virtio_wl_ctrl_vfd_new), read_new },
	[INDEX(VFD_NEW_DMABUF)] = { sizeof(struct virtio_wl_ctrl_vfd_new_dmabuf), read_dmabuf },
	[INDEX(VFD_DMABUF_SYNC)] = { sizeof(struct virtio_wl_ctrl_vfd_dmabuf_sync), read_sync },
	[INDEX(VFD_SEND_FOREIGN_ID)] = { sizeof(struct virtio_wl_ctrl_vfd_send), read_foreign },
	[INDEX(VFD_NEW_CTX_NAMED)] = { VIRTWL_NAME_OFFSET + VIRTWL_NAME_MAX, read_name },
};

uint32_t request_parse(struct request *ret, const void *head, size_t n_head, size_t n_bytes,
	bool send_fences)
{
	struct raw raw = { .n_bytes = n_bytes, .send_fences = send_fences };
	struct request request = { 0 };
	struct virtio_wl_ctrl_vfd vfd = { 0 };
	uint32_t type, r;

	memcpy(raw.head, head, MIN(n_head, sizeof(raw.head)));
	memcpy(&vfd, raw.head, sizeof(vfd));
	request.type = le32toh(vfd.hdr.type);
	type = request.type - VIRTIO_WL_CMD_VFD_NEW;
	if (n_bytes < sizeof(vfd.hdr.type) || type >= ARRAY_SIZE(types) || !types[type].read)
		return VIRTIO_WL_RESP_INVALID_CMD;
	if (n_bytes < types[type].n_bytes)
		return VIRTIO_WL_RESP_ERR;
	request.vfd_id = le32toh(vfd.vfd_id);
	r = types[type].read(&request, &raw);
	if (r == 0)
		*ret = request;
	return r;
}
