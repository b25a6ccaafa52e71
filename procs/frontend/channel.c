/*
 * A CONFIG_CHANGE_MSG is sent, and then noted in the journal. Whoever dies between the two sends it
 * again: it may be sent twice, since it says no more than that the VMM should read the
 * configuration. SHMEM_MAP is noted before it is sent as well (journal.h). Neither can be sent as
 * replay.c does it, by splice() out of a pipe: that waits for room in the socket unless the VMM,
 * which shares it, has chosen otherwise; and it carries no descriptor.
 *
 * An answer is looked at, noted, and then taken out of the socket. The peek offset says whether it
 * was taken, and is lowered by the same step, so no answer is lost or counted twice.
 */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "fd/fdstore.h"
#include "intake.h"
#include "wire.h"

#define NAME_BYTES 64
#define ANSWERS_A_TURN 32
#define EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define REQUESTS                                                                                   \
	(1u << BACKEND_CONFIG_CHANGE_MSG | 1u << BACKEND_SHMEM_MAP | 1u << BACKEND_SHMEM_UNMAP)

static const char *store_name(const struct channel *channel, char *buf)
{
	snprintf(buf, NAME_BYTES, "breq.%s", channel->device);
	return buf;
}

struct channel_counts channel_counts(const struct channel *channel)
{
	const struct journal *journal = channel->journal;

	if (!journal)
		return (struct channel_counts){ 0 };
	return (struct channel_counts){ journal->asked, journal->counts.answered,
		journal->counts.refused };
}

/* --- Answers --- */

struct answer {
	struct header header;
	uint64_t value;
} __attribute__((packed));

/* That something to be unmapped was not there is no news: it may be asked for in doubt. */
static void tell_refusal(const struct channel *channel, const struct answer *answer)
{
	if (!answer->value || answer->header.request == BACKEND_SHMEM_UNMAP)
		return;
	log_limited(LOG_WARNING, channel->device, answer->header.request,
		"the VMM refused %s (%llu)",
		answer->header.request == BACKEND_SHMEM_MAP
			? "to map a file into a shared memory region"
			: "a notification of a configuration change",
		(unsigned long long)answer->value);
}

static int take_answer(struct channel *channel)
{
	int r = intake_take(channel->fd, sizeof(struct answer));

	if (r)
		return WIRE_E_FRAMING;
	journal_heard(channel->journal);
	return 0;
}

/* The VMM may have kept this end of the channel as well, and may put anything into it at any
 * moment: no byte of it is read by this process. 0 | WIRE_E_PARTIAL: there is no more |
 * WIRE_E_FRAMING: it is no answer. */
static int hear_answer(struct channel *channel)
{
	const struct header header = { .flags = HEADER_VERSION | HEADER_REPLY,
		.size = sizeof(uint64_t) };
	struct answer answer;
	int r;

	if (wire_bytes_there(channel->fd) < sizeof(answer))
		return WIRE_E_PARTIAL;
	r = intake_peek(channel->fd, &header, REQUESTS, &answer, sizeof(answer));
	if (r == -EAGAIN)
		return WIRE_E_PARTIAL;
	if (r)
		return WIRE_E_FRAMING;
	tell_refusal(channel, &answer);
	journal_hear(channel->journal, answer.header.request, answer.value);
	return take_answer(channel);
}

/* The socket is not closed: it may be one that the VMM uses for something else. */
static void hear(struct channel *channel)
{
	int r = 0;

	for (int i = 0; i < ANSWERS_A_TURN && r == 0; i++)
		r = hear_answer(channel);
	if (r == 0)
		(void)sd_event_source_set_io_events(channel->source,
			EVENTS); /* the edge comes again */
	if (r != WIRE_E_FRAMING)
		return;
	log_limited(LOG_WARNING, channel->device, 0,
		"malformed reply from the VMM on the back-end channel; ignoring that channel from now on");
	channel->source = sd_event_source_disable_unref(channel->source);
}

/* A former process has noted this answer, and may have taken it. */
static void finish_answer(struct channel *channel)
{
	struct journal *journal = channel->journal;

	if (!journal->heard)
		return;
	if (intake_is_peeked(channel->fd, sizeof(struct answer)))
		(void)take_answer(channel);
	else
		journal_heard(journal);
}

/* --- Requests --- */

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static void attach_fd(struct msghdr *hdr, union control *control, int fd)
{
	hdr->msg_control = control->buf;
	hdr->msg_controllen = sizeof(control->buf);
	*CMSG_FIRSTHDR(hdr) = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
	};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(hdr)), &fd, sizeof(fd));
}

/* Never waits, whatever the VMM has made of the socket: 0 | negative errno
 * @fd: -1 = none */
static int send_request(const struct channel *channel, const struct header *header,
	const void *payload, int fd)
{
	union control control = { 0 };
	struct iovec iov[] = { { (void *)header, sizeof(*header) },
		{ (void *)payload, header->size } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	ssize_t n;

	if (fd >= 0)
		attach_fd(&hdr, &control, fd);
	do
		n = sendmsg(channel->fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)(sizeof(*header) + header->size) ? 0 : -EPIPE;
}

/* What finds no room goes out when the VMM has read, or is told by the next process; what cannot
 * be sent at all was for nobody. */
static void tell(struct channel *channel)
{
	struct journal *journal = channel->journal;
	struct header header = { .request = BACKEND_CONFIG_CHANGE_MSG, .flags = HEADER_VERSION };
	bool need_reply;
	int r;

	if (channel->fd < 0 || journal->told_config_seq == channel->config_seq)
		return;
	need_reply = channel->need_reply && channel->source;
	header.flags |= need_reply ? HEADER_NEED_REPLY : 0;
	r = send_request(channel, &header, NULL, -1);
	if (r == -EAGAIN)
		return;
	journal->told_config_seq = channel->config_seq;
	journal->asked += need_reply && r == 0;
}

void channel_tell_config(struct channel *channel, uint64_t config_seq, bool need_reply)
{
	channel->config_seq = config_seq;
	channel->need_reply = need_reply;
	channel->telling = true;
	tell(channel);
}

void channel_hold(struct channel *channel)
{
	channel->telling = false;
}

int channel_ask(struct channel *channel, uint32_t request, const struct journal_map *map,
	const struct shmem_mapping *mapping, int fd)
{
	const struct header header = { .request = request,
		.flags = HEADER_VERSION | HEADER_NEED_REPLY,
		.size = sizeof(*mapping) };
	int r;

	journal_sending(channel->journal, request, map);
	r = send_request(channel, &header, mapping, fd);
	journal_sent(channel->journal, r == 0);
	channel->hung_up |= r < 0 && r != -EAGAIN;
	return r;
}

int channel_notify(const struct channel *channel, uint32_t request, uint32_t index)
{
	const struct vring_state state = { .index = index };
	const struct header header = {
		.request = request, .flags = HEADER_VERSION, .size = sizeof(state)
	};

	return channel->fd < 0 ? -EAGAIN : send_request(channel, &header, &state, -1);
}

static int on_channel(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct channel *channel = data;

	hear(channel);
	if ((revents & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) &&
		wire_bytes_there(channel->fd) < sizeof(struct answer))
		channel->hung_up = true;
	if (channel->telling)
		tell(channel);
	if (channel->on_news)
		channel->on_news(channel->data);
	return 0;
}

/* --- Life --- */

static void drop_fd(struct channel *channel)
{
	char name[NAME_BYTES];

	channel->source = sd_event_source_disable_unref(channel->source);
	channel->hung_up = false;
	if (channel->fd < 0)
		return;
	intake_drain(channel->fd);
	(void)fdstore_remove(store_name(channel, name));
	channel->fd = fd_close(channel->fd);
}

/* Edge-triggered: neither an answer that is there in part nor an end that has come must keep us
 * awake. Of a channel that cannot be watched no answer is asked for. */
static void watch(struct channel *channel)
{
	if (sd_event_add_io(channel->event, &channel->source, channel->fd, EVENTS, on_channel,
		    channel) < 0)
		channel->source = NULL;
}

void channel_resume(struct channel *channel, sd_event *event, const char *device)
{
	char name[NAME_BYTES];

	*channel = (struct channel)CHANNEL_NULL;
	channel->event = event;
	channel->device = device;
	channel->fd = fdstore_take(store_name(channel, name));
	channel->journal = journal_resume(device);
	if (channel->fd < 0)
		return;
	if (!channel->journal)
		channel->journal = journal_begin(device, channel->begun_with);
	finish_answer(channel);
	watch(channel);
}

void channel_begin(struct channel *channel, uint64_t config_seq)
{
	channel->begun_with = config_seq;
}

static bool is_same(int a, int b)
{
	uint64_t cookies[2] = { 0 };
	socklen_t n[2] = { sizeof(cookies[0]), sizeof(cookies[1]) };

	return getsockopt(a, SOL_SOCKET, SO_COOKIE, &cookies[0], &n[0]) == 0 &&
		getsockopt(b, SOL_SOCKET, SO_COOKIE, &cookies[1], &n[1]) == 0 &&
		cookies[0] == cookies[1];
}

/* The message may be handled twice, as any other. */
void channel_take(struct channel *channel, int fd)
{
	char name[NAME_BYTES];

	if (channel->fd >= 0 && is_same(channel->fd, fd)) {
		fd_close(fd);
		return;
	}
	drop_fd(channel);
	channel->fd = fd;
	(void)fdstore_push(store_name(channel, name), fd);
	if (!channel->journal)
		channel->journal = journal_begin(channel->device, channel->begun_with);
	else
		journal_renew(channel->journal);
	watch(channel);
}

void channel_close(struct channel *channel)
{
	drop_fd(channel);
	channel->journal = journal_end(channel->journal, channel->device);
	channel->telling = false;
	channel->begun_with = 0;
}

void channel_free(struct channel *channel)
{
	channel->source = sd_event_source_disable_unref(channel->source);
	channel->fd = fd_close(channel->fd);
	channel->journal = journal_close(channel->journal);
}
