#ifndef TESTS_LIB_CLIENT_H
#define TESTS_LIB_CLIENT_H

/*
 * A vhost-user front-end for tests. It does not trust the back-end: a reply must have flags of
 * exactly 0x5, the request number that was sent, and the expected size.
 *
 * All calls return 0, a negative errno (-ETIMEDOUT nothing received, -ECONNRESET the back-end
 * closed the connection, -EPROTO the reply violates the protocol; `why` then says how), or
 * VU_E_REFUSED if the back-end's acknowledgement was non-zero.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vu.h"

enum {
	_VU_E_OK = 0,
	VU_E_REFUSED = 1,
};

struct vu_client {
	int fd;            /* the connection, -1 when closed; owned */
	int back_fd;       /* local end of the back-end request channel, or -1; owned */
	int timeout_ms;    /* for each reply and each back-end request */
	bool ack;          /* set need_reply on every message, and wait for the ack */
	bool ack_gets;     /* set need_reply on GET requests with a u64 reply too, as some do */
	uint64_t features; /* last GET_FEATURES */
	uint64_t acked;    /* last SET_FEATURES */
	uint64_t protocol; /* last GET_PROTOCOL_FEATURES */
	uint64_t acked_protocol; /* last SET_PROTOCOL_FEATURES */
	uint32_t n_heard;        /* messages received, and a digest of all of them */
	uint64_t heard;
	char why[160]; /* what was wrong; set with -EPROTO */
};

struct vu_msg {
	struct vu_header head;
	union {
		uint8_t bytes[4096];
		uint64_t u64;
		struct vu_state state;
	} body;
	int fds[VU_MAX_FDS]; /* received descriptors, owned by the message */
	size_t n_fds;
};

/* A change may wait 20 s for its worker. */
#define VU_CLIENT_NULL                                                                             \
	{                                                                                          \
		.fd = -1, .back_fd = -1, .timeout_ms = 30000,                                      \
		.heard = UINT64_C(0xcbf29ce484222325)                                              \
	}

/* connection; vu_connect() retries until the back-end listens or timeout_ms has passed */
int vu_connect(struct vu_client *c, const char *path);
int vu_connect_once(struct vu_client *c, const char *path);
int vu_listen(const char *path, int *ret_listen_fd);
int vu_accept(struct vu_client *c, int listen_fd);
void vu_close(struct vu_client *c);
void vu_msg_deinit(struct vu_msg *msg);

/* raw: arbitrary bytes, and descriptors (borrowed; up to 253) with the first byte */
int vu_send_raw(struct vu_client *c, const void *bytes, size_t n_bytes, const int *fds,
	size_t n_fds);
int vu_send(struct vu_client *c, const struct vu_header *head, const void *payload, const int *fds,
	size_t n_fds);
int vu_recv(struct vu_client *c, struct vu_msg *ret_msg);
int vu_recv_reply(struct vu_client *c, uint32_t request, uint32_t size, struct vu_msg *ret_msg);
int vu_recv_ack(struct vu_client *c, uint32_t request);

/* 0 if nothing arrives for quiet_ms, -EPROTO if bytes come, -ECONNRESET if it is closed */
int vu_expect_silence(struct vu_client *c, int quiet_ms);
/* 0 if the back-end closes within timeout_ms; data received before that is discarded */
int vu_expect_close(struct vu_client *c);

/* generic: send, then wait for the acknowledgement if c->ack is set */
int vu_set(struct vu_client *c, uint32_t request, const void *payload, uint32_t size, int fd);
int vu_set_u64(struct vu_client *c, uint32_t request, uint64_t value);
int vu_set_state(struct vu_client *c, uint32_t request, uint32_t index, uint32_t num);
int vu_get_u64(struct vu_client *c, uint32_t request, uint64_t *ret_value);

/* session */
int vu_get_features(struct vu_client *c);
int vu_set_features(struct vu_client *c, uint64_t features);
int vu_get_protocol_features(struct vu_client *c);
int vu_set_protocol_features(struct vu_client *c, uint64_t features);
int vu_set_backend_channel(struct vu_client *c);
int vu_get_config(struct vu_client *c, const struct vu_config_head *head, void *ret_bytes);
int vu_set_config(struct vu_client *c, const struct vu_config_head *head, const void *bytes);
/* SET_OWNER, GET_FEATURES, GET/SET_PROTOCOL_FEATURES with what both sides support of `want` */
int vu_hello(struct vu_client *c, uint64_t want_protocol);

/* memory; fds are borrowed */
int vu_set_mem_table(struct vu_client *c, const struct vu_region *regions, const int *fds,
	size_t n);
int vu_add_mem_reg(struct vu_client *c, const struct vu_region *region, int fd);
int vu_rem_mem_reg(struct vu_client *c, const struct vu_region *region, int fd);

/* rings; fd -1 sends the no-fd bit */
int vu_set_vring_addr(struct vu_client *c, const struct vu_addr *addr);
int vu_get_vring_base(struct vu_client *c, uint32_t index, uint32_t *ret_num);
int vu_set_vring_fd(struct vu_client *c, uint32_t request, uint32_t index, int fd);

/* in-flight region: *area is in and out; the caller owns the descriptor, -1 if refused */
int vu_get_inflight(struct vu_client *c, struct vu_inflight *area, int *ret_fd);
int vu_set_inflight(struct vu_client *c, const struct vu_inflight *area, int fd);

/* dirty log: waits for the reply that is owed with LOG_SHMFD, whatever c->ack is */
int vu_set_log_base(struct vu_client *c, const struct vu_log *log, const int *fds, size_t n_fds);

/* back-end request channel: one request, acknowledged with `result` if it wants a reply */
int vu_backend_request(struct vu_client *c, uint64_t result, struct vu_msg *ret_msg);
/* its halves; the answer is sent whether one is wanted or not */
int vu_backend_recv(struct vu_client *c, struct vu_msg *ret_msg);
int vu_backend_answer(struct vu_client *c, uint32_t request, uint64_t result);

#endif
