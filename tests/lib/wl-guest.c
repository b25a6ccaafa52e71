/* Commands of virtio-wl, one at a time, as its driver sends them. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "wl-guest.h"

#define NAME_AT 28

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_answer(struct wl_link *l, int slot, struct wl_msg *ret_answer)
{
	int64_t end = now_ms() + l->timeout_ms;
	int r;

	memset(ret_answer, 0, sizeof(*ret_answer));
	while ((r = l->ops->answer(l, slot, ret_answer, sizeof(*ret_answer))) == -EAGAIN) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		l->ops->wait(l, 10);
	}
	return r;
}

int wl_request(struct wl_link *l, const void *request, size_t n_bytes, struct wl_msg *ret_answer)
{
	int r = l->ops->post(l, request, n_bytes);

	if (r >= 0)
		r = wait_answer(l, r, ret_answer);
	if (r < 0)
		return r;
	if (r < 4 || ret_answer->type < WL_OK)
		return -EPROTO;
	return ret_answer->type >= WL_ERR ? (int)ret_answer->type : 0;
}

/* A command whose answer is VFD_NEW and names the same id. */
static int request_vfd(struct wl_link *l, const struct wl_msg *msg, struct wl_msg *ret_answer)
{
	int r = wl_request(l, msg, sizeof(*msg), ret_answer);

	if (r)
		return r;
	return ret_answer->type == WL_VFD_NEW && ret_answer->id == msg->id ? 0 : -EPROTO;
}

int wl_new(struct wl_link *l, uint32_t id, uint32_t n_bytes, struct wl_msg *ret_answer)
{
	struct wl_msg msg = { .type = WL_NEW, .id = id, .size = n_bytes };
	int r = request_vfd(l, &msg, ret_answer);

	if (r)
		return r;
	return ret_answer->size >= n_bytes && wl_memory(l, ret_answer) ? 0 : -EPROTO;
}

int wl_new_ctx(struct wl_link *l, uint32_t id, const char *name)
{
	struct wl_msg answer, msg = { .type = name ? WL_NEW_CTX_NAMED : WL_NEW_CTX, .id = id };

	if (name)
		strncpy((char *)&msg + NAME_AT, name, 32);
	return request_vfd(l, &msg, &answer);
}

int wl_new_pipe(struct wl_link *l, uint32_t id, uint32_t flags)
{
	struct wl_msg answer, msg = { .type = WL_NEW_PIPE, .id = id, .flags = flags };

	return request_vfd(l, &msg, &answer);
}

int wl_close(struct wl_link *l, uint32_t id)
{
	struct wl_msg answer, msg = { .type = WL_CLOSE, .id = id };

	return wl_request(l, &msg, sizeof(msg), &answer);
}

size_t wl_put_send(void *buf, uint32_t id, const uint32_t *ids, uint32_t n_ids, const void *data,
	size_t n_bytes)
{
	struct wl_data *send = buf;
	size_t n_head = sizeof(*send) + n_ids * sizeof(*ids);

	*send = (struct wl_data){ .type = WL_SEND, .id = id, .n_vfds = n_ids };
	if (n_ids)
		memcpy(send->ids, ids, n_ids * sizeof(*ids));
	if (n_bytes)
		memcpy((uint8_t *)buf + n_head, data, n_bytes);
	return n_head + n_bytes;
}

int wl_send(struct wl_link *l, uint32_t id, const uint32_t *ids, uint32_t n_ids, const void *data,
	size_t n_bytes)
{
	static _Alignas(8) uint8_t buf[WL_SLOT_BYTES];
	struct wl_msg answer;

	if (n_ids > WL_MAX_VFDS || n_bytes > WL_SEND_BYTES)
		return -E2BIG;
	return wl_request(l, buf, wl_put_send(buf, id, ids, n_ids, data, n_bytes), &answer);
}

void *wl_memory(const struct wl_link *l, const struct wl_msg *vfd_new)
{
	uint64_t at = vfd_new->pfn << 12;

	if (!l->window || at >= l->window_bytes || vfd_new->size > l->window_bytes - at)
		return NULL;
	return l->window + at;
}

const void *wl_recv_data(const struct wl_data *recv, size_t n_bytes, size_t *ret_n)
{
	size_t n_head;

	if (n_bytes < sizeof(*recv) || recv->n_vfds > WL_MAX_VFDS)
		return NULL;
	n_head = sizeof(*recv) + recv->n_vfds * sizeof(recv->ids[0]);
	if (n_bytes < n_head || n_bytes - n_head > WL_RECV_BYTES)
		return NULL;
	*ret_n = n_bytes - n_head;
	return (const uint8_t *)recv + n_head;
}

int wl_wait_event(struct wl_link *l, void *ret_event, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	int r;

	while ((r = l->ops->event(l, ret_event)) == -EAGAIN) {
		if (now_ms() > end)
			return -ETIMEDOUT;
		l->ops->wait(l, 10);
	}
	return r;
}
