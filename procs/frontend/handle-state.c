/*
 * Transfers of the device's state. The VMM names a pipe, and learns by CHECK_DEVICE_STATE what came
 * of it; the state goes from the worker to the process snapshot, and never through this one. The
 * record has the transfer that is to be concluded, and the pipe that it was begun with, so that a
 * frontend that was killed knows both.
 *
 * Spec: vhost-user, "Migrating back-end state".
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "handlers.h"

#define TAKEN 0x100u /* no error, and no descriptor of ours comes with the reply */

static int check_words(struct exchange *exchange, const struct device_state *state)
{
	if (state->phase != DEVICE_STATE_STOPPED)
		return exchange_refuse(exchange, "phase %u; only 0 (stopped) is known",
			state->phase);
	if (state->direction > DEVICE_STATE_LOAD)
		return exchange_refuse(exchange, "direction %u; 0 (save) and 1 (load) are known",
			state->direction);
	return 0;
}

static int check_end(struct exchange *exchange, const struct message *msg)
{
	bool load = msg->payload.device_state.direction == DEVICE_STATE_LOAD;

	if ((fcntl(msg->fds[0], F_GETFL) & O_ACCMODE) == (load ? O_WRONLY : O_RDONLY))
		return exchange_refuse(exchange, "it is the end of the pipe that cannot be %s",
			load ? "read" : "written to");
	return 0;
}

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

enum outcome handle_set_device_state_fd(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	uint64_t stream = inode_of(msg->fds[0]), id;
	enum outcome outcome;

	if (check_words(exchange, &msg->payload.device_state) || check_end(exchange, msg))
		return OUTCOME_REFUSED;
	if (next->transfer)
		return next->transfer_stream == stream
			? OUTCOME_DONE
			: exchange_refuse(exchange,
				  "CHECK_DEVICE_STATE has not concluded the former transfer");
	outcome = exchange_transfer(exchange, &id);
	if (outcome != OUTCOME_DONE)
		return outcome;
	next->transfer = id;
	next->transfer_stream = stream;
	return OUTCOME_NOTED;
}

size_t reply_taken(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	uint64_t value = TAKEN;

	memcpy(buf, &value, sizeof(value));
	return sizeof(value);
}

enum outcome handle_check_device_state(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const Bh__Transfer *transfer = exchange->view->transfer;
	enum view_transfer how = view_transfer(exchange->view);

	if (how == VIEW_TRANSFER_NONE)
		return exchange_refuse(exchange, "no transfer is to be concluded");
	if (how == VIEW_TRANSFER_PENDING)
		return OUTCOME_PENDING;
	next->transfer = next->transfer_stream = 0;
	if (how == VIEW_TRANSFER_LOST)
		(void)exchange_refuse(exchange,
			"the transfer was cut off: the memory manager was started anew");
	else if (*transfer->error)
		(void)exchange_refuse(exchange, "the device's state was not %s: %s",
			transfer->load ? "loaded" : "saved", transfer->error);
	else
		desired_take_positions(next, transfer, exchange->view->observed->n_queues);
	return OUTCOME_NOTED;
}

size_t reply_transferred(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	memset(buf, 0, sizeof(uint64_t));
	return sizeof(uint64_t);
}
