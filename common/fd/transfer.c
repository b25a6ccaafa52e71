/* How transfers are begun, and how their streams are taken: what the side link's client asks. */
#include "fd/transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fd/question.h"

static void tell_started(const struct question *question, int error, const Bh__Link *reply,
	struct fdset *fds)
{
	const Bh__StartTransferReply *started = error ? NULL : reply->start_transfer_reply;

	question->on_started(question->data, error, started ? started->id : 0,
		started ? started->refused : "");
}

static void tell_stream(const struct question *question, int error, const Bh__Link *reply,
	struct fdset *fds)
{
	question->on_answer(question->data, error, NULL, fds);
}

static void fill_start(Bh__StartTransfer *start, const struct vault_transfer *transfer)
{
	bh__start_transfer__init(start);
	start->device = (char *)transfer->device;
	start->load = transfer->load;
	start->session = transfer->session;
}

int vault_ask_start_transfer(struct vault_link *vault, const struct vault_transfer *transfer,
	vault_started_fn *on_started, void *data)
{
	struct question *question = question_new(BH__LINK__BODY_START_TRANSFER, data);

	if (!question)
		return -ENOMEM;
	fill_start(&question->body.start_transfer, transfer);
	question->msg.start_transfer = &question->body.start_transfer;
	question->fds[question->n_fds++] = transfer->stream;
	question->tell = tell_started;
	question->on_started = on_started;
	question_ask(vault, question);
	return 0;
}

int vault_ask_take_stream(struct vault_link *vault, const char *device, uint64_t id,
	vault_answer_fn *on_answer, void *data)
{
	struct question *question = question_new(BH__LINK__BODY_TAKE_STREAM, data);

	if (!question)
		return -ENOMEM;
	bh__take_stream__init(&question->body.take_stream);
	question->body.take_stream.device = (char *)device;
	question->body.take_stream.id = id;
	question->msg.take_stream = &question->body.take_stream;
	question->tell = tell_stream;
	question->on_answer = on_answer;
	question_ask(vault, question);
	return 0;
}

int vault_start_transfer(struct vault_link *vault, const struct vault_transfer *transfer,
	uint64_t *ret_id, char **ret_refused)
{
	Bh__StartTransfer start;
	Bh__Link msg = BH__LINK__INIT, *reply;
	struct fdloan out = { .fds = { transfer->stream }, .n_fds = 1 };
	_cleanup_fdset_ struct fdset in = FDSET_INIT;
	int r;

	fill_start(&start, transfer);
	msg.body_case = BH__LINK__BODY_START_TRANSFER;
	msg.start_transfer = &start;
	r = vault_call(vault, &msg, &out, BH__LINK__BODY_START_TRANSFER_REPLY, &reply, &in);
	if (r < 0)
		return r;
	*ret_id = reply->start_transfer_reply->id;
	*ret_refused = strdup(reply->start_transfer_reply->refused);
	bh__link__free_unpacked(reply, NULL);
	return *ret_refused ? 0 : -ENOMEM;
}
