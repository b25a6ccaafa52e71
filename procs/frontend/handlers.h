#pragma once

#include "base/bytes.h"
#include "exchange.h"

/*
 * The handlers, in the order of the specification. A handler is called by the step that judges a
 * message (steps.c), which is right in form by then, and judges only its meaning: it changes
 * `next`, a copy of the record, and returns what is to be done with that (enum outcome). It may be
 * called twice for one message, and whatever it did to a `next` that is not committed is forgotten.
 * A reply_...() fills buf, of REPLY_BYTES_MAX, when the message is done, and returns how many bytes
 * the reply has. A token_...() says which descriptor goes out with it (row.h). None of them waits.
 */
typedef enum outcome handle_fn(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next);
typedef size_t reply_fn(struct exchange *exchange, const struct message *msg, uint8_t *buf);
typedef uint64_t token_fn(const Bh__Desired *desired, const void *reply, size_t n);

/* handle-features.c */
reply_fn reply_features, reply_protocol_features, reply_queue_num, reply_status;
handle_fn handle_set_features, handle_set_owner, handle_reset_owner, handle_set_protocol_features;
handle_fn handle_set_status, handle_reset_device;

/* handle-memory.c */
reply_fn reply_max_mem_slots;
handle_fn handle_set_mem_table, handle_add_mem_reg, handle_rem_mem_reg;

/* handle-vring.c */
reply_fn reply_vring_base;
handle_fn handle_set_vring_num, handle_set_vring_addr, handle_set_vring_base, handle_get_vring_base;
handle_fn handle_set_vring_kick, handle_set_vring_call, handle_set_vring_err;
handle_fn handle_set_vring_enable, handle_vring_kick;

/* handle-inflight.c */
reply_fn reply_inflight;
handle_fn handle_get_inflight_fd, handle_set_inflight_fd;
token_fn token_inflight;

/* handle-log.c */
reply_fn reply_log_base;
handle_fn handle_set_log_base, handle_set_log_fd;
/** log_refuses() - whether the next record wants memory or a ring logged that its log does not
 * cover; then the message in work is refused. Rings that stand still need no log. */
bool log_refuses(struct exchange *exchange, const Bh__Desired *next);
/** log_refuses_ring() - the same of the place in the log that stands for a ring's used part */
bool log_refuses_ring(struct exchange *exchange, const Bh__Desired *next, const Bh__Ring *ring);
/** log_outcome() - of a change that switches logging: a VMM that hears no answer to it, but to the
 * next message, relies on it as well, so the worker is waited for while a ring runs */
enum outcome log_outcome(const struct exchange *exchange);

/* handle-state.c */
reply_fn reply_taken, reply_transferred;
handle_fn handle_set_device_state_fd, handle_check_device_state;

/* handle-device.c */
reply_fn reply_config, reply_shmem_config;
handle_fn handle_send_rarp, handle_net_set_mtu, handle_set_backend_req_fd, handle_set_config;
