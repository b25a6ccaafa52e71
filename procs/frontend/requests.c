/*
 * The request table, and what is checked of every message before its handler sees it. Messages of
 * features that no device offers stand in it too: a front-end that sends one all the same is
 * answered in form.
 */
#include "requests.h"

#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "rings.h"

/* clang-format off */
#define ROW(name)   [name] = { name, #name
#define PF(name)    VHOST_USER_PROTOCOL_F_##name
#define SIZE(n)     (n), (n)
#define NO_FDS      0, 0, 0
#define FDS(min, max, kinds) (min), (max), (kinds)
#define ALWAYS      LEGAL_ALWAYS
#define STOPPED     LEGAL_RING_STOPPED
#define ALL_STOPPED LEGAL_ALL_STOPPED
#define NEVER       LEGAL_NEVER
#define NO_REPLY    REPLY_NONE, 0
#define U64(n)      REPLY_U64, (n)
#define PAYLOAD(n)  REPLY_PAYLOAD, (n)
#define UNSERVED    NULL, NULL
#define TABLE       8, sizeof(struct memory_table)
#define CONFIG      sizeof(struct config_header), sizeof(struct config_header) + VHOST_USER_MAX_CONFIG_SIZE

/* request, payload bytes, descriptors and their kinds, needs, index, legal, reply owed (and how
 * it is refused), handler, filler of the reply, descriptor that goes with it. Spec: vhost-user,
 * "Front-end message types". */
/* clang-format off */
const struct request_row request_table[_REQUESTS_END] = {
	ROW(GET_FEATURES), SIZE(0), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, U64(0),
		NULL, reply_features },
	ROW(SET_FEATURES), SIZE(8), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_features, NULL },
	ROW(SET_OWNER), SIZE(0), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_owner, NULL },
	ROW(RESET_OWNER), SIZE(0), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_reset_owner, NULL },
	ROW(SET_MEM_TABLE), TABLE, FDS(0, FDS_MAX, FD_MEMORY), NO_FEATURE, INDEX_REGION, ALWAYS, NO_REPLY,
		handle_set_mem_table, NULL },
	ROW(SET_LOG_BASE), SIZE(16), FDS(1, 1, FD_MEMORY), PF(LOG_SHMFD), INDEX_NONE, ALWAYS, REPLY_AGREED, 1,
		handle_set_log_base, reply_log_base },
	ROW(SET_LOG_FD), SIZE(0), FDS(1, 1, FD_NOTIFIER), NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_log_fd, NULL },
	ROW(SET_VRING_NUM), SIZE(8), NO_FDS, NO_FEATURE, INDEX_VRING, STOPPED, NO_REPLY,
		handle_set_vring_num, NULL },
	ROW(SET_VRING_ADDR), SIZE(40), NO_FDS, NO_FEATURE, INDEX_VRING, ALWAYS, NO_REPLY,
		handle_set_vring_addr, NULL },
	ROW(SET_VRING_BASE), SIZE(8), NO_FDS, NO_FEATURE, INDEX_VRING, STOPPED, NO_REPLY,
		handle_set_vring_base, NULL },
	ROW(GET_VRING_BASE), SIZE(8), NO_FDS, NO_FEATURE, INDEX_VRING, ALWAYS, PAYLOAD(8),
		handle_get_vring_base, reply_vring_base },
	ROW(SET_VRING_KICK), SIZE(8), FDS(0, 1, FD_NOTIFIER), NO_FEATURE, INDEX_VRING_FD, ALWAYS, NO_REPLY,
		handle_set_vring_kick, NULL },
	ROW(SET_VRING_CALL), SIZE(8), FDS(0, 1, FD_NOTIFIER | FD_CHANNEL), NO_FEATURE, INDEX_VRING_FD, ALWAYS, NO_REPLY,
		handle_set_vring_call, NULL },
	ROW(SET_VRING_ERR), SIZE(8), FDS(0, 1, FD_NOTIFIER | FD_CHANNEL), NO_FEATURE, INDEX_VRING_FD, ALWAYS, NO_REPLY,
		handle_set_vring_err, NULL },
	ROW(GET_PROTOCOL_FEATURES), SIZE(0), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, U64(0),
		NULL, reply_protocol_features },
	ROW(SET_PROTOCOL_FEATURES), SIZE(8), NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_protocol_features, NULL },
	ROW(GET_QUEUE_NUM), SIZE(0), NO_FDS, PF(MQ), INDEX_NONE, ALWAYS, U64(0),
		NULL, reply_queue_num },
	ROW(SET_VRING_ENABLE), SIZE(8), NO_FDS, NO_FEATURE, INDEX_VRING, ALWAYS, NO_REPLY,
		handle_set_vring_enable, NULL },
	ROW(SEND_RARP), SIZE(8), NO_FDS, PF(RARP), INDEX_NONE, ALWAYS, NO_REPLY,
		handle_send_rarp, NULL },
	ROW(NET_SET_MTU), SIZE(8), NO_FDS, PF(MTU), INDEX_NONE, ALWAYS, NO_REPLY,
		handle_net_set_mtu, NULL },
	ROW(SET_BACKEND_REQ_FD), SIZE(0), FDS(1, 1, FD_CHANNEL), PF(BACKEND_REQ), INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_backend_req_fd, NULL },
	ROW(IOTLB_MSG), SIZE(32), NO_FDS, NO_FEATURE, INDEX_NONE, NEVER, U64(1), UNSERVED },
	ROW(SET_VRING_ENDIAN), SIZE(8), NO_FDS, PF(CROSS_ENDIAN), INDEX_VRING, NEVER, NO_REPLY, UNSERVED },
	/* some front-ends read and write the configuration space whether they acked CONFIG or
	 * not */
	ROW(GET_CONFIG), CONFIG, NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, PAYLOAD(0),
		NULL, reply_config },
	ROW(SET_CONFIG), CONFIG, NO_FDS, NO_FEATURE, INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_config, NULL },
	ROW(CREATE_CRYPTO_SESSION), 0, PAYLOAD_MAX, NO_FDS, PF(CRYPTO_SESSION), INDEX_NONE, NEVER,
		PAYLOAD(0), UNSERVED },
	ROW(CLOSE_CRYPTO_SESSION), SIZE(8), NO_FDS, PF(CRYPTO_SESSION), INDEX_NONE, NEVER, NO_REPLY,
		UNSERVED },
	ROW(POSTCOPY_ADVISE), SIZE(0), NO_FDS, PF(PAGEFAULT), INDEX_NONE, NEVER, PAYLOAD(0), UNSERVED },
	ROW(POSTCOPY_LISTEN), SIZE(0), NO_FDS, PF(PAGEFAULT), INDEX_NONE, NEVER, NO_REPLY, UNSERVED },
	ROW(POSTCOPY_END), SIZE(0), NO_FDS, PF(PAGEFAULT), INDEX_NONE, NEVER, U64(1), UNSERVED },
	/* refused, it is answered without a descriptor, and with no bytes to be mapped */
	ROW(GET_INFLIGHT_FD), SIZE(24), NO_FDS, PF(INFLIGHT_SHMFD), INDEX_NONE, ALL_STOPPED, PAYLOAD(24),
		handle_get_inflight_fd, reply_inflight, token_inflight },
	ROW(SET_INFLIGHT_FD), SIZE(24), FDS(1, 1, FD_MEMORY), PF(INFLIGHT_SHMFD), INDEX_NONE, ALL_STOPPED, NO_REPLY,
		handle_set_inflight_fd, NULL },
	ROW(GPU_SET_SOCKET), SIZE(0), FDS(1, 1, FD_CHANNEL), NO_FEATURE, INDEX_NONE, NEVER, NO_REPLY, UNSERVED },
	ROW(RESET_DEVICE), SIZE(0), NO_FDS, PF(RESET_DEVICE), INDEX_NONE, ALWAYS, NO_REPLY,
		handle_reset_device, NULL },
	ROW(VRING_KICK), SIZE(8), NO_FDS, PF(INBAND_NOTIFICATIONS), INDEX_VRING, ALWAYS, NO_REPLY,
		handle_vring_kick, NULL },
	ROW(GET_MAX_MEM_SLOTS), SIZE(0), NO_FDS, PF(CONFIGURE_MEM_SLOTS), INDEX_NONE, ALWAYS, U64(0),
		NULL, reply_max_mem_slots },
	ROW(ADD_MEM_REG), SIZE(40), FDS(1, 1, FD_MEMORY), PF(CONFIGURE_MEM_SLOTS), INDEX_REGION, ALWAYS, NO_REPLY,
		handle_add_mem_reg, NULL },
	/* a descriptor may come along; it is closed */
	ROW(REM_MEM_REG), SIZE(40), FDS(0, 1, FD_MEMORY), PF(CONFIGURE_MEM_SLOTS), INDEX_REGION, ALWAYS, NO_REPLY,
		handle_rem_mem_reg, NULL },
	ROW(SET_STATUS), SIZE(8), NO_FDS, PF(STATUS), INDEX_NONE, ALWAYS, NO_REPLY,
		handle_set_status, NULL },
	ROW(GET_STATUS), SIZE(0), NO_FDS, PF(STATUS), INDEX_NONE, ALWAYS, U64(0),
		NULL, reply_status },
	ROW(GET_SHARED_OBJECT), SIZE(16), NO_FDS, PF(SHARED_OBJECT), INDEX_NONE, NEVER, PAYLOAD(0), UNSERVED },
	/* error, and no descriptor comes with it */
	ROW(SET_DEVICE_STATE_FD), SIZE(8), FDS(1, 1, FD_PIPE), PF(DEVICE_STATE), INDEX_NONE, ALL_STOPPED, U64(0x101),
		handle_set_device_state_fd, reply_taken },
	ROW(CHECK_DEVICE_STATE), SIZE(0), NO_FDS, PF(DEVICE_STATE), INDEX_NONE, ALWAYS, U64(1),
		handle_check_device_state, reply_transferred },
	ROW(GET_SHMEM_CONFIG), SIZE(0), NO_FDS, PF(SHMEM), INDEX_NONE, ALWAYS, PAYLOAD(2056),
		NULL, reply_shmem_config },
	ROW(GET_VRING_BASE_SKIP_DRAIN), SIZE(8), NO_FDS, PF(GET_VRING_BASE_SKIP_DRAIN), INDEX_VRING, ALWAYS,
		PAYLOAD(8), handle_get_vring_base, reply_vring_base },
};
/* clang-format on */
/* clang-format on */

const struct request_row *requests_find(uint32_t request)
{
	return request > 0 && request < _REQUESTS_END ? &request_table[request] : NULL;
}

/* --- Checks, a column each --- */

static int check_header(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	uint32_t known = HEADER_VERSION_MASK | HEADER_NEED_REPLY, size = msg->header.size;

	if (msg->header.flags & HEADER_REPLY)
		return exchange_refuse(exchange, "it is marked as a reply");
	if (msg->header.flags & ~known)
		return exchange_refuse(exchange, "its header has reserved flags set");
	if (msg->too_long || size < row->size_min || size > row->size_max)
		return exchange_refuse(exchange, "its payload has %u bytes; expected %u to %u",
			size, row->size_min, row->size_max);
	return 0;
}

bool requests_take_fds(const struct request_row *row, const struct message *msg)
{
	if (row->index == INDEX_VRING_FD)
		return !(msg->payload.u64 & VHOST_USER_VRING_NOFD_MASK);
	return row->request == SET_MEM_TABLE ? msg->payload.table.n > 0 : row->fds_max > 0;
}

static int check_kinds(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	char text[FD_KIND_TEXT_BYTES];

	for (size_t i = 0; i < msg->n_fds; i++)
		if (fd_kind_check(msg->fds[i], row->fd_kinds, text))
			return exchange_refuse(exchange, "its descriptor is %s", text);
	return 0;
}

static int check_fds(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	bool none = row->index == INDEX_VRING_FD && (msg->payload.u64 & VHOST_USER_VRING_NOFD_MASK);

	if (msg->doubtful_fds && !requests_take_fds(row, msg)) {
		wire_drop(&exchange->msg);
		return 0;
	}
	if (*msg->foreign)
		return exchange_refuse(exchange, "its descriptor is %s", msg->foreign);
	if (msg->too_many_fds || msg->n_fds < row->fds_min || msg->n_fds > row->fds_max)
		return exchange_refuse(exchange,
			"%zu%s descriptors came with it; expected %u to %u", msg->n_fds,
			msg->too_many_fds ? " and more" : "", row->fds_min, row->fds_max);
	if (row->index == INDEX_VRING_FD && none != (msg->n_fds == 0))
		return exchange_refuse(exchange, "%s",
			none ? "it has a descriptor, although its no-descriptor flag is set"
			     : "it has neither a descriptor nor the no-descriptor flag");
	return check_kinds(exchange, row, msg);
}

static int check_regions(struct exchange *exchange, const struct message *msg)
{
	const struct memory_table *table = &msg->payload.table;

	if (msg->header.request != SET_MEM_TABLE)
		return 0;
	if (table->n > FDS_MAX || msg->header.size != 8 + table->n * sizeof(table->regions[0]) ||
		table->n != msg->n_fds)
		return exchange_refuse(exchange,
			"%u regions, %zu descriptors and %u bytes do not match", table->n,
			msg->n_fds, msg->header.size);
	return 0;
}

unsigned int requests_queue_pairs(const struct config_device *device)
{
	for (size_t i = 0; i < device->n_values; i++)
		if (strcmp(device->values[i].key, "queue-pairs") == 0)
			return (unsigned int)device->values[i].number;
	return 0;
}

static int refuse_index(struct exchange *exchange, uint32_t index)
{
	unsigned int pairs = requests_queue_pairs(exchange->config);

	if (pairs)
		return exchange_refuse(exchange,
			"ring %u does not exist; the device has %u, with queue-pairs = %u: "
			"raise that, or give the VMM fewer queues",
			index, exchange->view->observed->n_queues, pairs);
	return exchange_refuse(exchange, "ring %u does not exist; the device has %u", index,
		exchange->view->observed->n_queues);
}

static int check_index(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	uint64_t known = VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK;
	uint32_t index = row_ring(row, msg);

	if (row->index == INDEX_NONE)
		return 0;
	if (row->index == INDEX_REGION)
		return check_regions(exchange, msg);
	if (row->index == INDEX_VRING_FD && (msg->payload.u64 & ~known))
		return exchange_refuse(exchange, "reserved bits are set beside the ring's index");
	if (index >= exchange->view->observed->n_queues)
		return refuse_index(exchange, index);
	return 0;
}

static int check_state(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	const Bh__Desired *desired = exchange_desired(exchange);
	const Bh__Ring *ring;

	if (row->needs != NO_FEATURE && !has_bit(desired->protocol_features, row->needs))
		return exchange_refuse(exchange,
			"it needs protocol feature %d, which is not negotiated", row->needs);
	if (row->legal == LEGAL_NEVER)
		return exchange_refuse(exchange, "it belongs to a feature that is not offered");
	if (row->legal == LEGAL_ALWAYS)
		return 0;
	ring = row->legal == LEGAL_ALL_STOPPED ? ring_any_runs(desired, exchange->view->observed)
					       : desired_find_ring(desired, row_ring(row, msg));
	/* one that is disabled may be set up anew: its handler holds it */
	if (ring && ring_runs(desired, exchange->view->observed, ring) &&
		(ring->enabled || row->legal == LEGAL_ALL_STOPPED))
		return exchange_refuse(exchange, "ring %u runs; it must be %s first", ring->index,
			row->legal == LEGAL_ALL_STOPPED ? "stopped" : "stopped or disabled");
	return 0;
}

int requests_check(struct exchange *exchange, const struct request_row *row,
	const struct message *msg)
{
	if (check_header(exchange, row, msg) || check_fds(exchange, row, msg) ||
		check_state(exchange, row, msg) || check_index(exchange, row, msg))
		return OUTCOME_REFUSED;
	return 0;
}

/* --- Replies --- */

size_t requests_reply(struct exchange *exchange, uint8_t *buf)
{
	const struct request_row *row = exchange->row;
	uint64_t value = row->refusal;

	if (!*exchange->why)
		return row->reply(exchange, &exchange->msg, buf);
	if (row->owes != REPLY_PAYLOAD) {
		memcpy(buf, &value, sizeof(value));
		return sizeof(value);
	}
	/* right in form, and about the ring that was asked for, so that nobody waits for more */
	memset(buf, 0, row->refusal);
	if (row->index == INDEX_VRING && exchange->msg.header.size >= sizeof(uint32_t))
		memcpy(buf, &exchange->msg.payload.state.index, sizeof(uint32_t));
	return row->refusal;
}
