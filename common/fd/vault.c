/*
 * The asking end of the side link. A worker's call blocks: it is a local round trip, made at
 * start-up or in a handshake, never while frames flow. When memory is away the call connects again
 * and asks again, since every request may be repeated.
 *
 * The frontend serves several devices out of one loop and blocks for none of them. Its questions
 * are queued, sent one at a time, and answered from the loop. A question has no time limit: a
 * memory manager that is stopped answers when it goes on, and one that has died is asked anew when
 * its successor is there.
 */
#include "fd/fdlink.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "fd/question.h"

#define GIVE_UP_MS 5000
#define RETRY_MS 2
#define AGAIN_MS 5
#define AGAIN_RARELY_MS 500 /* from GIVE_UP_MS on: a memory of a former release may not know us */

struct vault_link {
	char *path;
	char *device; /* NULL for the frontend, which speaks for all */
	int fd;
	sd_event *event; /* NULL: nobody waits for memory to be back */
	sd_event_source *hangup;
	sd_event_source *again;
	unsigned int n_failed; /* connections from the loop, since one succeeded */
	void (*on_back)(void *data);
	void *data;
	STAILQ_HEAD(questions,
		question) questions; /* the first is the one that is being answered */
};

int vault_new(struct vault_link **ret_vault, const char *path, const char *device)
{
	struct vault_link *vault = calloc(1, sizeof(*vault));

	if (!vault)
		return -ENOMEM;
	vault->fd = -1;
	STAILQ_INIT(&vault->questions);
	vault->path = strdup(path);
	vault->device = device ? strdup(device) : NULL;
	if (!vault->path || (device && !vault->device)) {
		vault_free(vault);
		return -ENOMEM;
	}
	*ret_vault = vault;
	return 0;
}

static void drop_question(struct vault_link *vault, struct question *question)
{
	STAILQ_REMOVE(&vault->questions, question, question, link);
	free(question);
}

struct vault_link *vault_free(struct vault_link *vault)
{
	if (!vault)
		return NULL;
	sd_event_source_disable_unref(vault->hangup);
	sd_event_source_disable_unref(vault->again);
	while (!STAILQ_EMPTY(&vault->questions))
		drop_question(vault, STAILQ_FIRST(&vault->questions));
	fd_close(vault->fd);
	free(vault->path);
	free(vault->device);
	free(vault);
	return NULL;
}

/* The connection is of no use any more; if somebody waits for the next one, it is made from the
 * loop. */
static void drop_connection(struct vault_link *vault)
{
	struct question *first = STAILQ_FIRST(&vault->questions);

	vault->hangup = sd_event_source_disable_unref(vault->hangup);
	vault->fd = fd_close(vault->fd);
	if (first)
		first->sent = false;
	if (!vault->event)
		return;
	timer_after(vault->again,
		UINT64_C(1000) *
			(vault->n_failed < GIVE_UP_MS / AGAIN_MS ? AGAIN_MS : AGAIN_RARELY_MS));
}

static int call_once(struct vault_link *vault, const Bh__Link *msg, const struct fdloan *fds,
	Bh__Link **ret_reply, struct fdset *ret_fds)
{
	int r;

	if (vault->fd < 0) {
		vault->fd = fdlink_connect(vault->path);
		if (vault->fd < 0)
			return vault->fd;
	}
	r = fdlink_send(vault->fd, msg, fds ? fds->fds : NULL, fds ? fds->n_fds : 0);
	if (r == 0)
		r = fdlink_recv(vault->fd, ret_reply, ret_fds);
	if (r < 0)
		fdset_deinit(ret_fds);
	return r;
}

/* Only what a restart of memory explains is worth another try. */
static bool worth_retry(int r)
{
	return r == -ECONNRESET || r == -ECONNREFUSED || r == -ENOENT || r == -EPIPE ||
		r == -EAGAIN;
}

static int failure_of(Bh__Link *reply, Bh__Link__BodyCase expected)
{
	if (reply->body_case == expected)
		return 0;
	if (reply->body_case == BH__LINK__BODY_FAILURE && reply->failure->error > 0)
		return -reply->failure->error;
	return -EBADMSG;
}

int vault_call(struct vault_link *vault, const Bh__Link *msg, const struct fdloan *fds,
	Bh__Link__BodyCase expected, Bh__Link **ret_reply, struct fdset *ret_fds)
{
	uint64_t end = clock_ms() + GIVE_UP_MS;
	struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	int r;

	for (;;) {
		r = call_once(vault, msg, fds, ret_reply, ret_fds);
		if (r == 0)
			break;
		drop_connection(vault);
		if (!worth_retry(r))
			return r;
		if (clock_ms() > end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	r = failure_of(*ret_reply, expected);
	if (r < 0) {
		bh__link__free_unpacked(*ret_reply, NULL);
		fdset_deinit(ret_fds);
	}
	return r;
}

/* --- Questions --- */

/* With the first one only: it fills no buffer, so sending it never blocks. */
static void send_first(struct vault_link *vault)
{
	struct question *first;

	while ((first = STAILQ_FIRST(&vault->questions)) && !first->tell)
		drop_question(vault, first);
	if (!first || first->sent || !vault->hangup)
		return;
	if (fdlink_send(vault->fd, &first->msg, first->fds, first->n_fds) < 0) {
		drop_connection(vault);
		return;
	}
	first->sent = true;
}

static int judge_answer(const struct question *question, Bh__Link *reply, const struct fdset *fds)
{
	int r = failure_of(reply, question->expected);

	if (r < 0)
		return r;
	if (question->expected == BH__LINK__BODY_DEPOSIT_REPLY)
		return reply->deposit_reply->n_tokens == question->n_fds ? 0 : -EBADMSG;
	if (question->expected == BH__LINK__BODY_REDEEM_REPLY ||
		question->expected == BH__LINK__BODY_TAKE_STREAM_REPLY)
		return fds->n_fds == 1 ? 0 : -EBADMSG;
	return 0;
}

static void tell_plain(const struct question *question, int error, const Bh__Link *reply,
	struct fdset *fds)
{
	question->on_answer(question->data, error,
		reply->body_case == BH__LINK__BODY_DEPOSIT_REPLY ? reply->deposit_reply->tokens
								 : NULL,
		fds);
}

/* The question is off the list before its answer is told: whoever hears it may ask the next one. */
static void tell_answer(struct vault_link *vault, struct question *question, Bh__Link *reply,
	struct fdset *fds)
{
	STAILQ_REMOVE(&vault->questions, question, question, link);
	if (question->tell)
		question->tell(question, judge_answer(question, reply, fds), reply, fds);
	free(question);
}

/* An answer that nobody has asked for ends the connection, as everything does that is no answer. */
static int hear_answer(struct vault_link *vault)
{
	struct question *first = STAILQ_FIRST(&vault->questions);
	_cleanup_fdset_ struct fdset fds = FDSET_INIT;
	Bh__Link *reply;
	int r = first && first->sent ? fdlink_recv(vault->fd, &reply, &fds) : -ECONNRESET;

	if (r < 0)
		return r;
	tell_answer(vault, first, reply, &fds);
	bh__link__free_unpacked(reply, NULL);
	send_first(vault);
	return 0;
}

struct question *question_new(Bh__Link__BodyCase body, void *data)
{
	struct question *question = calloc(1, sizeof(*question));

	if (!question)
		return NULL;
	bh__link__init(&question->msg);
	question->msg.body_case = body;
	question->expected = body + 1;
	question->data = data;
	return question;
}

void question_ask(struct vault_link *vault, struct question *question)
{
	STAILQ_INSERT_TAIL(&vault->questions, question, link);
	send_first(vault);
}

static struct question *new_plain(Bh__Link__BodyCase body, vault_answer_fn *on_answer, void *data)
{
	struct question *question = question_new(body, data);

	if (!question)
		return NULL;
	question->tell = tell_plain;
	question->on_answer = on_answer;
	return question;
}

int vault_ask_deposit(struct vault_link *vault, const char *device, const int *fds, size_t n,
	vault_answer_fn *on_answer, void *data)
{
	struct question *question;

	if (n > FDLINK_FDS_MAX)
		return -EMSGSIZE;
	question = new_plain(BH__LINK__BODY_DEPOSIT, on_answer, data);
	if (!question)
		return -ENOMEM;
	bh__deposit__init(&question->body.deposit);
	question->body.deposit.device = (char *)device;
	question->body.deposit.n_fds = (uint32_t)n;
	question->msg.deposit = &question->body.deposit;
	memcpy(question->fds, fds, n * sizeof(*fds));
	question->n_fds = n;
	question_ask(vault, question);
	return 0;
}

int vault_ask_redeem(struct vault_link *vault, const char *device, uint64_t token,
	vault_answer_fn *on_answer, void *data)
{
	struct question *question = new_plain(BH__LINK__BODY_REDEEM, on_answer, data);

	if (!question)
		return -ENOMEM;
	question->token = token;
	bh__redeem__init(&question->body.redeem);
	question->body.redeem.device = (char *)device;
	question->body.redeem.tokens = &question->token;
	question->body.redeem.n_tokens = 1;
	question->msg.redeem = &question->body.redeem;
	question_ask(vault, question);
	return 0;
}

int vault_ask_greet(struct vault_link *vault, vault_answer_fn *on_answer, void *data)
{
	struct question *question = new_plain(BH__LINK__BODY_GREET, on_answer, data);

	if (!question)
		return -ENOMEM;
	bh__greet__init(&question->body.greet);
	question->msg.greet = &question->body.greet;
	question_ask(vault, question);
	return 0;
}

/* What is being answered stays until its answer is there: the one behind it must not be given
 * that. */
void vault_forget(struct vault_link *vault, const void *data)
{
	struct question *question, *next;

	for (question = STAILQ_FIRST(&vault->questions); question; question = next) {
		next = STAILQ_NEXT(question, link);
		if (question->data != data)
			continue;
		question->tell = NULL;
		question->n_fds = 0;
		if (!question->sent)
			drop_question(vault, question);
	}
}

/* --- A memory that is started again --- */

static int on_link(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct vault_link *vault = data;

	if (!(revents & EPOLLIN) || hear_answer(vault) < 0)
		drop_connection(vault);
	return 0;
}

static int watch_link(struct vault_link *vault)
{
	return sd_event_add_io(vault->event, &vault->hangup, vault->fd, EPOLLIN | EPOLLRDHUP,
		on_link, vault);
}

/* A call may have connected in the meantime: that is as good. */
static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	struct vault_link *vault = data;

	if (vault->fd < 0)
		vault->fd = fdlink_connect(vault->path);
	if (vault->fd < 0 || watch_link(vault) < 0) {
		vault->n_failed++;
		drop_connection(vault);
		return 0;
	}
	vault->n_failed = 0;
	send_first(vault);
	if (vault->on_back)
		vault->on_back(vault->data);
	return 0;
}

int vault_watch(struct vault_link *vault, sd_event *event, void (*on_back)(void *data), void *data)
{
	int r = sd_event_add_time(event, &vault->again, CLOCK_MONOTONIC, 0, 1000, on_again, vault);

	if (r < 0)
		return r;
	vault->event = event;
	vault->on_back = on_back;
	vault->data = data;
	if (vault->fd < 0) /* on_again() connects */
		return sd_event_source_set_enabled(vault->again, SD_EVENT_ONESHOT);
	r = sd_event_source_set_enabled(vault->again, SD_EVENT_OFF);
	return r < 0 ? r : watch_link(vault);
}

/* --- Calls --- */

int vault_deposit(struct vault_link *vault, const char *device, const int *fds, size_t n,
	uint64_t *ret_tokens)
{
	Bh__Deposit deposit = BH__DEPOSIT__INIT;
	Bh__Link msg = BH__LINK__INIT, *reply;
	struct fdloan out = { .n_fds = n };
	_cleanup_fdset_ struct fdset in = FDSET_INIT;
	int r;

	if (n > FDLINK_FDS_MAX)
		return -EMSGSIZE;
	memcpy(out.fds, fds, n * sizeof(*fds));
	deposit.device = (char *)device;
	deposit.n_fds = (uint32_t)n;
	msg.body_case = BH__LINK__BODY_DEPOSIT;
	msg.deposit = &deposit;
	r = vault_call(vault, &msg, &out, BH__LINK__BODY_DEPOSIT_REPLY, &reply, &in);
	if (r < 0)
		return r;
	if (reply->deposit_reply->n_tokens == n)
		memcpy(ret_tokens, reply->deposit_reply->tokens, n * sizeof(*ret_tokens));
	else
		r = -EBADMSG;
	bh__link__free_unpacked(reply, NULL);
	return r;
}

int vault_redeem(struct vault_link *vault, const char *device, const uint64_t *tokens, size_t n,
	struct fdset *ret_fds)
{
	Bh__Redeem redeem = BH__REDEEM__INIT;
	Bh__Link msg = BH__LINK__INIT, *reply;
	int r;

	redeem.device = (char *)device;
	redeem.tokens = (uint64_t *)tokens;
	redeem.n_tokens = n;
	msg.body_case = BH__LINK__BODY_REDEEM;
	msg.redeem = &redeem;
	r = vault_call(vault, &msg, NULL, BH__LINK__BODY_REDEEM_REPLY, &reply, ret_fds);
	if (r < 0)
		return r;
	bh__link__free_unpacked(reply, NULL);
	if (ret_fds->n_fds == n)
		return 0;
	fdset_deinit(ret_fds);
	return -EBADMSG;
}

/* A memory of the former release hands out the same file for as long as it has the record. */
static uint64_t record_id(const Bh__AttachReply *reply, int record_fd)
{
	struct stat st;

	if (reply->record_id)
		return reply->record_id;
	return fstat(record_fd, &st) < 0 ? 0 : st.st_ino;
}

static int add_kept(struct vault_attachment *to, const char *name, int fd)
{
	size_t n = to->n_kept + 1;
	char **names = reallocarray(to->kept_names, n, sizeof(*names));
	int *fds = names ? reallocarray(to->kept_fds, n, sizeof(*fds)) : NULL;

	to->kept_names = names ?: to->kept_names;
	to->kept_fds = fds ?: to->kept_fds;
	if (!fds || !(names[n - 1] = strdup(name))) {
		fd_close(fd);
		return -ENOMEM;
	}
	fds[n - 1] = fd;
	to->n_kept = n;
	return 0;
}

/* The kept ones come behind so many others. */
static int take_page(const Bh__AttachReply *reply, struct fdset *fds, size_t n_before,
	struct vault_attachment *to)
{
	int r = 0;

	if (fds->n_fds != reply->n_kept + n_before || (reply->more && reply->n_kept == 0))
		return -EBADMSG;
	for (size_t i = 0; r == 0 && i < reply->n_kept; i++)
		r = add_kept(to, reply->kept[i], fdset_steal(fds, i + n_before));
	return r;
}

/* One page; the first brings the files as well. A memory of the former release knows no others. */
static int attach_page(struct vault_link *vault, Bh__Attach *attach, struct vault_attachment *ret,
	bool *ret_more)
{
	Bh__Link msg = BH__LINK__INIT, *reply;
	_cleanup_fdset_ struct fdset fds = FDSET_INIT;
	bool first = !*attach->kept_after;
	int r;

	msg.body_case = BH__LINK__BODY_ATTACH;
	msg.attach = attach;
	r = vault_call(vault, &msg, NULL, BH__LINK__BODY_ATTACH_REPLY, &reply, &fds);
	if (r < 0)
		return r;
	r = take_page(reply->attach_reply, &fds, first ? 2 : 0, ret);
	if (r == 0 && first) {
		ret->record_fd = fdset_steal(&fds, 0);
		ret->record_id = record_id(reply->attach_reply, ret->record_fd);
		ret->ledger_fd = fdset_steal(&fds, 1);
	}
	*ret_more = reply->attach_reply->more;
	bh__link__free_unpacked(reply, NULL);
	return r;
}

int vault_attach(struct vault_link *vault, uint64_t bytes, struct vault_attachment *ret)
{
	Bh__Attach attach = BH__ATTACH__INIT;
	bool more = true;
	int r = 0;

	*ret = (struct vault_attachment){ .record_fd = -1, .ledger_fd = -1 };
	attach.device = vault->device;
	attach.ledger_bytes = bytes;
	attach.by_record_id = true;
	while (r == 0 && more) {
		if (ret->n_kept)
			attach.kept_after = ret->kept_names[ret->n_kept - 1];
		r = attach_page(vault, &attach, ret, &more);
	}
	if (r < 0)
		vault_attachment_deinit(ret);
	return r;
}

void vault_attachment_deinit(struct vault_attachment *attachment)
{
	attachment->record_fd = fd_close(attachment->record_fd);
	attachment->ledger_fd = fd_close(attachment->ledger_fd);
	for (size_t i = 0; i < attachment->n_kept; i++) {
		free(attachment->kept_names[i]);
		fd_close(attachment->kept_fds[i]);
	}
	free(attachment->kept_names);
	free(attachment->kept_fds);
	attachment->kept_names = NULL;
	attachment->kept_fds = NULL;
	attachment->n_kept = 0;
}

static int call_plain(struct vault_link *vault, const Bh__Link *msg, const struct fdloan *fds,
	Bh__Link__BodyCase expected)
{
	_cleanup_fdset_ struct fdset in = FDSET_INIT;
	Bh__Link *reply;
	int r = vault_call(vault, msg, fds, expected, &reply, &in);

	if (r == 0)
		bh__link__free_unpacked(reply, NULL);
	return r;
}

int vault_keep(struct vault_link *vault, const char *name, int fd)
{
	Bh__Keep keep = BH__KEEP__INIT;
	Bh__Link msg = BH__LINK__INIT;
	struct fdloan fds = { .fds = { fd }, .n_fds = 1 };

	keep.device = vault->device;
	keep.name = (char *)name;
	msg.body_case = BH__LINK__BODY_KEEP;
	msg.keep = &keep;
	return call_plain(vault, &msg, &fds, BH__LINK__BODY_KEEP_REPLY);
}

int vault_unkeep(struct vault_link *vault, const char *name)
{
	Bh__Unkeep unkeep = BH__UNKEEP__INIT;
	Bh__Link msg = BH__LINK__INIT;

	unkeep.device = vault->device;
	unkeep.name = (char *)name;
	msg.body_case = BH__LINK__BODY_UNKEEP;
	msg.unkeep = &unkeep;
	return call_plain(vault, &msg, NULL, BH__LINK__BODY_UNKEEP_REPLY);
}

/* A memory of an earlier release does not know the question; it dials in its own time. */
int vault_greet(struct vault_link *vault)
{
	Bh__Greet greet = BH__GREET__INIT;
	Bh__Link msg = BH__LINK__INIT;
	int r;

	msg.body_case = BH__LINK__BODY_GREET;
	msg.greet = &greet;
	r = call_plain(vault, &msg, NULL, BH__LINK__BODY_GREET_REPLY);
	return r == -EOPNOTSUPP ? 0 : r;
}
