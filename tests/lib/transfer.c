#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

int vu_set_device_state(struct vu_client *c, uint32_t direction, uint32_t phase, int fd,
	uint64_t *ret_value)
{
	struct vu_header head = { VU_SET_DEVICE_STATE_FD, VU_VERSION, 8 };
	uint32_t words[2] = { direction, phase };
	struct vu_msg msg;
	int r = vu_send(c, &head, words, &fd, fd >= 0);

	if (!r)
		r = vu_recv_reply(c, VU_SET_DEVICE_STATE_FD, 8, &msg);
	if (r)
		return r;
	*ret_value = msg.body.u64;
	r = msg.n_fds ? -EPROTO : 0;
	vu_msg_deinit(&msg);
	return r;
}

int vu_send_check(struct vu_client *c)
{
	struct vu_header head = { VU_CHECK_DEVICE_STATE, VU_VERSION, 0 };

	return vu_send(c, &head, NULL, NULL, 0);
}

int vu_recv_check(struct vu_client *c, uint64_t *ret_value)
{
	struct vu_msg msg;
	int r = vu_recv_reply(c, VU_CHECK_DEVICE_STATE, 8, &msg);

	if (r)
		return r;
	*ret_value = msg.body.u64;
	vu_msg_deinit(&msg);
	return 0;
}

int vu_check_device_state(struct vu_client *c, uint64_t *ret_value)
{
	int r = vu_send_check(c);

	return r ? r : vu_recv_check(c, ret_value);
}

static int check(struct vu_client *c)
{
	uint64_t value;
	int r = vu_check_device_state(c, &value);

	return r ? r : value ? VU_E_REFUSED : 0;
}

static int begin(struct vu_client *c, uint32_t direction, int pair[2])
{
	uint64_t value;
	int r;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	r = vu_set_device_state(c, direction, 0, pair[direction == VU_STATE_SAVE], &value);
	close(pair[direction == VU_STATE_SAVE]);
	if (!r && value != VU_STATE_TAKEN)
		r = VU_E_REFUSED;
	if (r)
		close(pair[direction != VU_STATE_SAVE]);
	return r;
}

int vu_read_all(int fd, uint8_t *buf, size_t *ret_bytes, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;
	ssize_t got;

	do {
		if (poll(&p, 1, timeout_ms) != 1)
			return -ETIMEDOUT;
		got = read(fd, buf + n, VU_STATE_MAX - n);
		if (got < 0)
			return -errno;
		n += (size_t)got;
	} while (got > 0);
	*ret_bytes = n;
	return 0;
}

int vu_save_state(struct vu_client *c, uint8_t *buf, size_t *ret_bytes)
{
	int pair[2], r = begin(c, VU_STATE_SAVE, pair), checked;

	if (r)
		return r;
	r = vu_read_all(pair[0], buf, ret_bytes, c->timeout_ms);
	close(pair[0]);
	checked = check(c);
	return r ? r : checked;
}

/* A back-end that has refused the state may have closed its end. */
static int write_all(int fd, const uint8_t *buf, size_t n_bytes)
{
	while (n_bytes) {
		ssize_t n = write(fd, buf, n_bytes);

		if (n < 0)
			return errno == EPIPE ? 0 : -errno;
		buf += n;
		n_bytes -= (size_t)n;
	}
	return 0;
}

int vu_load_state(struct vu_client *c, const uint8_t *buf, size_t n_bytes)
{
	int pair[2], r = begin(c, VU_STATE_LOAD, pair);

	if (r)
		return r;
	signal(SIGPIPE, SIG_IGN);
	r = write_all(pair[1], buf, n_bytes);
	close(pair[1]);
	return r ? r : check(c);
}
