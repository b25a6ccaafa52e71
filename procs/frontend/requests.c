/*
 * The request table, and what is checked of every message before its handler sees it. A handler gets a
 * message that is right in form, and judges only its meaning.
 */
#include "handlers.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define ROW(name) name, #name
#define NO_FDS 0, 0
#define SIZE(n) (n), (n)

/* request, payload bytes, descriptors, needs, index, handler, reply. Titles of the specification: the
 * message's name under "Front-end message types". */
const struct request_row request_table[] = {
	{ ROW(GET_FEATURES), SIZE(0), NO_FDS, PF_NONE, INDEX_NONE, NULL, reply_features },
	{ ROW(SET_FEATURES), SIZE(8), NO_FDS, PF_NONE, INDEX_NONE, handle_set_features },
	{ ROW(SET_OWNER), SIZE(0), NO_FDS, PF_NONE, INDEX_NONE, handle_set_owner },
	{ ROW(RESET_OWNER), SIZE(0), NO_FDS, PF_NONE, INDEX_NONE, handle_reset_owner },
	{ ROW(SET_MEM_TABLE), 8 + 32, 8 + FDS_MAX * 32, 1, FDS_MAX, PF_NONE, INDEX_NONE,
		handle_set_mem_table },
	{ ROW(SET_VRING_NUM), SIZE(8), NO_FDS, PF_NONE, INDEX_VRING, handle_set_vring_num },
	{ ROW(SET_VRING_ADDR), SIZE(40), NO_FDS, PF_NONE, INDEX_VRING, handle_set_vring_addr },
	{ ROW(SET_VRING_BASE), SIZE(8), NO_FDS, PF_NONE, INDEX_VRING, handle_set_vring_base },
	{ ROW(GET_VRING_BASE), SIZE(8), NO_FDS, PF_NONE, INDEX_VRING, handle_get_vring_base,
		reply_vring_base },
	{ ROW(SET_VRING_KICK), SIZE(8), 0, 1, PF_NONE, INDEX_VRING_FD, handle_set_vring_kick },
	{ ROW(SET_VRING_CALL), SIZE(8), 0, 1, PF_NONE, INDEX_VRING_FD, handle_set_vring_call },
	{ ROW(SET_VRING_ERR), SIZE(8), 0, 1, PF_NONE, INDEX_VRING_FD, handle_set_vring_err },
	{ ROW(GET_PROTOCOL_FEATURES), SIZE(0), NO_FDS, PF_NONE, INDEX_NONE, NULL,
		reply_protocol_features },
	{ ROW(SET_PROTOCOL_FEATURES), SIZE(8), NO_FDS, PF_NONE, INDEX_NONE,
		handle_set_protocol_features },
	{ ROW(GET_QUEUE_NUM), SIZE(0), NO_FDS, PF_NONE, INDEX_NONE, NULL, reply_queue_num },
	{ ROW(SET_VRING_ENABLE), SIZE(8), NO_FDS, PF_NONE, INDEX_VRING, handle_set_vring_enable },
	{ ROW(SEND_RARP), SIZE(8), NO_FDS, PF_RARP, INDEX_NONE, handle_send_rarp },
	{ ROW(NET_SET_MTU), SIZE(8), NO_FDS, PF_MTU, INDEX_NONE, handle_net_set_mtu },
	{ ROW(SET_BACKEND_REQ_FD), SIZE(0), 1, 1, PF_BACKEND_REQ, INDEX_NONE,
		handle_set_backend_req_fd },
	/* front-ends read the configuration space whether they acked CONFIG or not */
	{ ROW(GET_CONFIG), 12, 12 + CONFIG_SIZE_MAX, NO_FDS, PF_NONE, INDEX_NONE, NULL, reply_config },
	{ ROW(SET_CONFIG), 12, 12 + CONFIG_SIZE_MAX, NO_FDS, PF_NONE, INDEX_NONE, handle_set_config },
	{ ROW(GET_MAX_MEM_SLOTS), SIZE(0), NO_FDS, PF_CONFIGURE_MEM_SLOTS, INDEX_NONE, NULL,
		reply_max_mem_slots },
	{ ROW(ADD_MEM_REG), SIZE(40), 1, 1, PF_CONFIGURE_MEM_SLOTS, INDEX_NONE, handle_add_mem_reg },
	/* a descriptor may come along; it is closed */
	{ ROW(REM_MEM_REG), SIZE(40), 0, 1, PF_CONFIGURE_MEM_SLOTS, INDEX_NONE, handle_rem_mem_reg },
	{ ROW(SET_STATUS), SIZE(8), NO_FDS, PF_STATUS, INDEX_NONE, handle_set_status },
	{ ROW(GET_STATUS), SIZE(0), NO_FDS, PF_STATUS, INDEX_NONE, NULL, reply_status },
	{ 0 },
};

const struct request_row *requests_find(uint32_t request)
{
	for (const struct request_row *row = request_table; row->request; row++)
		if (row->request == request)
			return row;
	return NULL;
}

static int check_index(struct session *session, const struct request_row *row,
	const struct message *msg)
{
	uint32_t index = msg->payload.state.index;

	if (row->index == INDEX_NONE)
		return 0;
	if (row->index == INDEX_VRING_FD) {
		bool none = msg->payload.u64 & VRING_FD_NONE;

		if (msg->payload.u64 & ~(uint64_t)(VRING_FD_INDEX_MASK | VRING_FD_NONE))
			return session_refuse(session, "reserved bits are set");
		if (!none && msg->n_fds == 0)
			return session_refuse(session, "the descriptor is missing");
		index = (uint32_t)(msg->payload.u64 & VRING_FD_INDEX_MASK);
	}
	if (index >= session->observed->n_queues)
		return session_refuse(session, "ring %u does not exist; there are %u", index,
			session->observed->n_queues);
	return 0;
}

/* What a look brought along that is not this message's: see wire.c. */
static void drop_foreign_fds(const struct request_row *row, struct message *msg)
{
	if (row->fds_max == 0 ||
		(row->index == INDEX_VRING_FD && (msg->payload.u64 & VRING_FD_NONE))) {
		wire_drop_fds(msg);
		msg->bad_fds = false;
	}
}

int requests_check(struct session *session, const struct request_row *row, struct message *msg)
{
	uint32_t size = msg->header.size;

	drop_foreign_fds(row, msg);
	if (msg->header.flags & HEADER_REPLY)
		return session_refuse(session, "it is marked as a reply");
	if (msg->bad_fds)
		return session_refuse(session,
			"it has more descriptors than any message");
	if (size < row->size_min || size > row->size_max)
		return session_refuse(session, "a payload of %u bytes; %u are due", size, row->size_min);
	if (msg->n_fds < row->fds_min || msg->n_fds > row->fds_max)
		return session_refuse(session, "%zu descriptors; %u to %u are due", msg->n_fds,
			row->fds_min, row->fds_max);
	if (row->needs != PF_NONE && !has_bit(session->desired->protocol_features, row->needs))
		return session_refuse(session, "it needs a protocol feature that was not negotiated");
	return check_index(session, row, msg);
}
