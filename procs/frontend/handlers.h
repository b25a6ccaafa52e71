#pragma once

#include "session.h"

/* The handlers of the request table; see struct request_row. */

typedef int handle_fn(struct session *session, const struct message *msg, Bh__Desired *next);
typedef size_t reply_fn(struct session *session, const struct message *msg, uint8_t *buf);

/* handle-device.c */
reply_fn reply_features, reply_protocol_features, reply_queue_num, reply_config, reply_status;
handle_fn handle_set_features, handle_set_owner, handle_reset_owner, handle_set_protocol_features;
handle_fn handle_send_rarp, handle_net_set_mtu, handle_set_backend_req_fd, handle_set_config;
handle_fn handle_set_status;

/* handle-memory.c */
reply_fn reply_max_mem_slots;
handle_fn handle_set_mem_table, handle_add_mem_reg, handle_rem_mem_reg;

/* handle-vring.c */
reply_fn reply_vring_base;
handle_fn handle_set_vring_num, handle_set_vring_addr, handle_set_vring_base, handle_get_vring_base;
handle_fn handle_set_vring_kick, handle_set_vring_call, handle_set_vring_err;
handle_fn handle_set_vring_enable;
