/*
 * The well-formed requests, each a few lines over the generic vu_set() and vu_get_u64().
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

int vu_set(struct vu_client *c, uint32_t request, const void *payload, uint32_t size, int fd)
{
	bool ack = c->ack && (c->acked_protocol & VU_BIT(VU_PF_REPLY_ACK));
	struct vu_header head = { request, VU_VERSION | (ack ? VU_NEED_REPLY : 0), size };
	int r = vu_send(c, &head, payload, &fd, fd >= 0 ? 1 : 0);

	if (r || !ack)
		return r;
	return vu_recv_ack(c, request);
}

int vu_set_u64(struct vu_client *c, uint32_t request, uint64_t value)
{
	return vu_set(c, request, &value, sizeof(value), -1);
}

int vu_set_state(struct vu_client *c, uint32_t request, uint32_t index, uint32_t num)
{
	struct vu_state state = { index, num };

	return vu_set(c, request, &state, sizeof(state), -1);
}

int vu_get_u64(struct vu_client *c, uint32_t request, uint64_t *ret_value)
{
	struct vu_header head = { request, VU_VERSION | (c->ack_gets ? VU_NEED_REPLY : 0), 0 };
	struct vu_msg msg;
	int r = vu_send(c, &head, NULL, NULL, 0);

	if (r)
		return r;
	r = vu_recv_reply(c, request, sizeof(uint64_t), &msg);
	if (r)
		return r;
	vu_msg_deinit(&msg);
	*ret_value = msg.body.u64;
	return 0;
}

int vu_get_features(struct vu_client *c)
{
	return vu_get_u64(c, VU_GET_FEATURES, &c->features);
}

int vu_set_features(struct vu_client *c, uint64_t features)
{
	int r = vu_set_u64(c, VU_SET_FEATURES, features);

	if (!r)
		c->acked = features;
	return r;
}

int vu_get_protocol_features(struct vu_client *c)
{
	return vu_get_u64(c, VU_GET_PROTOCOL_FEATURES, &c->protocol);
}

int vu_set_protocol_features(struct vu_client *c, uint64_t features)
{
	int r = vu_set_u64(c, VU_SET_PROTOCOL_FEATURES, features);

	if (!r)
		c->acked_protocol = features;
	return r;
}

int vu_set_backend_channel(struct vu_client *c)
{
	int pair[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	r = vu_set(c, VU_SET_BACKEND_REQ_FD, NULL, 0, pair[1]);
	close(pair[1]);
	if (r) {
		close(pair[0]);
		return r;
	}
	if (c->back_fd >= 0)
		close(c->back_fd);
	c->back_fd = pair[0];
	return 0;
}

int vu_get_config(struct vu_client *c, const struct vu_config_head *head, void *ret_bytes)
{
	uint8_t body[sizeof(*head) + 256] = { 0 };
	uint32_t size = (uint32_t)sizeof(*head) + head->size;
	struct vu_header h = { VU_GET_CONFIG, VU_VERSION, size };
	struct vu_msg msg;
	int r;

	if (head->size > 256)
		return -EINVAL;
	memcpy(body, head, sizeof(*head));
	r = vu_send(c, &h, body, NULL, 0);
	if (!r)
		r = vu_recv(c, &msg);
	if (r)
		return r;
	vu_msg_deinit(&msg);
	if (msg.head.request != VU_GET_CONFIG || msg.head.flags != VU_REPLY_FLAGS)
		return -EPROTO;
	if (!msg.head.size)
		return VU_E_REFUSED;
	if (msg.head.size != size || memcmp(msg.body.bytes, head, 8) != 0)
		return -EPROTO;
	memcpy(ret_bytes, msg.body.bytes + sizeof(*head), head->size);
	return 0;
}

int vu_set_config(struct vu_client *c, const struct vu_config_head *head, const void *bytes)
{
	uint8_t body[sizeof(*head) + 256];

	if (head->size > 256)
		return -EINVAL;
	memcpy(body, head, sizeof(*head));
	memcpy(body + sizeof(*head), bytes, head->size);
	return vu_set(c, VU_SET_CONFIG, body, (uint32_t)sizeof(*head) + head->size, -1);
}

int vu_hello(struct vu_client *c, uint64_t want_protocol)
{
	int r = vu_set(c, VU_SET_OWNER, NULL, 0, -1);

	if (!r)
		r = vu_get_features(c);
	if (r || !(c->features & VU_BIT(VU_F_PROTOCOL_FEATURES)))
		return r;
	r = vu_get_protocol_features(c);
	if (!r)
		r = vu_set_protocol_features(c, c->protocol & want_protocol);
	return r;
}

int vu_set_mem_table(struct vu_client *c, const struct vu_region *regions, const int *fds, size_t n)
{
	bool ack = c->ack && (c->acked_protocol & VU_BIT(VU_PF_REPLY_ACK));
	struct {
		uint32_t n_regions;
		uint32_t pad;
		struct vu_region regions[VU_MAX_FDS];
	} body = { .n_regions = (uint32_t)n };
	struct vu_header head = { VU_SET_MEM_TABLE, VU_VERSION | (ack ? VU_NEED_REPLY : 0),
		(uint32_t)(8 + n * sizeof(*regions)) };
	int r;

	if (n > VU_MAX_FDS)
		return -EINVAL;
	if (n)
		memcpy(body.regions, regions, n * sizeof(*regions));
	r = vu_send(c, &head, &body, fds, n);
	if (r || !ack)
		return r;
	return vu_recv_ack(c, VU_SET_MEM_TABLE);
}

static int one_region(struct vu_client *c, uint32_t request, const struct vu_region *region, int fd)
{
	struct {
		uint64_t pad;
		struct vu_region region;
	} body = { .region = *region };

	return vu_set(c, request, &body, sizeof(body), fd);
}

int vu_add_mem_reg(struct vu_client *c, const struct vu_region *region, int fd)
{
	return one_region(c, VU_ADD_MEM_REG, region, fd);
}

int vu_rem_mem_reg(struct vu_client *c, const struct vu_region *region, int fd)
{
	return one_region(c, VU_REM_MEM_REG, region, fd);
}

int vu_set_vring_addr(struct vu_client *c, const struct vu_addr *addr)
{
	return vu_set(c, VU_SET_VRING_ADDR, addr, sizeof(*addr), -1);
}

int vu_get_vring_base(struct vu_client *c, uint32_t index, uint32_t *ret_num)
{
	struct vu_state state = { index, 0 };
	struct vu_header head = { VU_GET_VRING_BASE, VU_VERSION, sizeof(state) };
	struct vu_msg msg;
	int r = vu_send(c, &head, &state, NULL, 0);

	if (r)
		return r;
	r = vu_recv_reply(c, VU_GET_VRING_BASE, sizeof(state), &msg);
	if (r)
		return r;
	vu_msg_deinit(&msg);
	if (msg.body.state.index != index)
		return -EPROTO;
	*ret_num = msg.body.state.num;
	return 0;
}

int vu_set_vring_fd(struct vu_client *c, uint32_t request, uint32_t index, int fd)
{
	uint64_t value = index | (fd < 0 ? VU_VRING_NOFD : 0);

	return vu_set(c, request, &value, sizeof(value), fd);
}

int vu_get_inflight(struct vu_client *c, struct vu_inflight *area, int *ret_fd)
{
	struct vu_header head = { VU_GET_INFLIGHT_FD, VU_VERSION, sizeof(*area) };
	struct vu_msg msg;
	int r = vu_send(c, &head, area, NULL, 0);

	*ret_fd = -1;
	if (!r)
		r = vu_recv_reply(c, VU_GET_INFLIGHT_FD, sizeof(*area), &msg);
	if (r)
		return r;
	memcpy(area, msg.body.bytes, sizeof(*area));
	if (msg.n_fds == 1) {
		*ret_fd = msg.fds[0];
		msg.n_fds = 0;
	}
	vu_msg_deinit(&msg);
	return *ret_fd >= 0 ? 0 : VU_E_REFUSED;
}

int vu_set_inflight(struct vu_client *c, const struct vu_inflight *area, int fd)
{
	return vu_set(c, VU_SET_INFLIGHT_FD, area, sizeof(*area), fd);
}

/* It is answered with what was sent, or with a number that is not 0. */
int vu_set_log_base(struct vu_client *c, const struct vu_log *log, const int *fds, size_t n_fds)
{
	struct vu_header head = { VU_SET_LOG_BASE, VU_VERSION, sizeof(*log) };
	struct vu_msg msg;
	int r;

	if (c->ack)
		head.flags |= VU_NEED_REPLY;
	r = vu_send(c, &head, log, fds, n_fds);
	if (!r)
		r = vu_recv(c, &msg);
	if (r)
		return r;
	vu_msg_deinit(&msg);
	if (msg.head.flags != VU_REPLY_FLAGS || msg.head.request != VU_SET_LOG_BASE)
		return -EPROTO;
	if (msg.head.size == sizeof(uint64_t) && msg.body.u64)
		return VU_E_REFUSED;
	return msg.head.size == sizeof(*log) && !memcmp(msg.body.bytes, log, sizeof(*log))
		? 0
		: -EPROTO;
}
