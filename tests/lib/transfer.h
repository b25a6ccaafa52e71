#ifndef TESTS_LIB_TRANSFER_H
#define TESTS_LIB_TRANSFER_H

/*
 * Transfers of a device's state, as a VMM makes them. Errors as in client.h: 0, a negative errno,
 * or VU_E_REFUSED when the back-end says that a transfer failed.
 */

#include "client.h"

enum {
	VU_STATE_SAVE = 0,
	VU_STATE_LOAD = 1,
};

#define VU_STATE_TAKEN 0x100u
#define VU_STATE_REFUSED 0x101u
#define VU_STATE_MAX (600u * 1024)

/* SET_DEVICE_STATE_FD with the end of a pipe (borrowed), and its reply */
int vu_set_device_state(struct vu_client *c, uint32_t direction, uint32_t phase, int fd,
	uint64_t *ret_value);
/* CHECK_DEVICE_STATE, and its reply; whoever waits for it in parts sends first */
int vu_check_device_state(struct vu_client *c, uint64_t *ret_value);
int vu_send_check(struct vu_client *c);
int vu_recv_check(struct vu_client *c, uint64_t *ret_value);

/* the whole of a save: to the pipe's end, then CHECK; buf has VU_STATE_MAX bytes */
int vu_save_state(struct vu_client *c, uint8_t *buf, size_t *ret_bytes);
/* the whole of a load */
int vu_load_state(struct vu_client *c, const uint8_t *buf, size_t n_bytes);

/* a pipe's read end to its end, or -ETIMEDOUT */
int vu_read_all(int fd, uint8_t *buf, size_t *ret_bytes, int timeout_ms);

#endif
