/*
 * A request is sent, and then noted in the journal. Whoever dies between the two sends it again:
 * CONFIG_CHANGE_MSG may be sent twice, since it says no more than that the VMM should read the
 * configuration. It cannot be done as replay.c does it, by splice() out of a pipe: that waits for
 * room in the socket unless the VMM, which shares it, has chosen otherwise.
 *
 * An answer is taken out of the socket, and then noted. Whoever dies between the two has lost it:
 * less is counted than was answered, and never more.
 */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "fd/fdstore.h"
#include "intake.h"
#include "wire.h"

#define NAME_BYTES 64
#define ANSWERS_A_TURN 32
#define EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/** struct journal - shared by this process and the one that comes after it; all numbers count
 * from the VMM's coming on */
struct journal {
	uint64_t told_config_seq; /* up to this change of the configuration the VMM has been told */
	uint64_t asked;           /* requests that want an answer */
	uint64_t answered;        /* of those; answers come in the order of the requests */
	uint64_t refused;         /* of those that were answered */
};

static const char *store_name(const struct channel *channel, const char *what, char *buf)
{
	snprintf(buf, NAME_BYTES, "%s.%s", what, channel->device);
	return buf;
}

/* --- The journal --- */

/* fd: -1 = without a file */
static struct journal *map_journal(int fd)
{
	int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
	void *mem = mmap(NULL, sizeof(struct journal), PROT_READ | PROT_WRITE, flags, fd, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* A file of another size is another release's: its VMM may be told once too often. */
static void resume_journal(struct channel *channel)
{
	char name[NAME_BYTES];
	_cleanup_close_ int fd = fdstore_take(store_name(channel, "asked", name));
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size == sizeof(struct journal))
		channel->journal = map_journal(fd);
	if (!channel->journal)
		(void)fdstore_remove(name);
}

/* Without a file the next process tells the VMM once more. */
static void begin_journal(struct channel *channel)
{
	char name[NAME_BYTES];
	_cleanup_close_ int fd = file_sealed("bulkhead-asked", sizeof(struct journal));

	channel->journal = map_journal(fd);
	check(channel->journal);
	channel->journal->told_config_seq = channel->begun_with;
	if (fd >= 0)
		(void)fdstore_push(store_name(channel, "asked", name), fd);
}

static void end_journal(struct channel *channel)
{
	char name[NAME_BYTES];

	if (!channel->journal)
		return;
	(void)munmap(channel->journal, sizeof(*channel->journal));
	channel->journal = NULL;
	(void)fdstore_remove(store_name(channel, "asked", name));
}

struct channel_counts channel_counts(const struct channel *channel)
{
	const struct journal *journal = channel->journal;

	if (!journal)
		return (struct channel_counts){ 0 };
	return (struct channel_counts){ journal->asked, journal->answered, journal->refused };
}

/* --- Answers --- */

struct answer {
	struct header header;
	uint64_t value;
} __attribute__((packed));

static void note_answer(struct channel *channel, uint64_t value)
{
	struct journal *journal = channel->journal;

	if (journal->answered >= journal->asked)
		return;
	if (value) {
		journal->refused++;
		log_limited(LOG_WARNING, channel->device, 0,
			"the VMM refused a notification of a configuration change (%llu)",
			(unsigned long long)value);
	}
	journal->answered++;
}

/* The VMM may have kept this end of the channel as well, and may put anything into it at any
 * moment: no byte of it is read by this process. 0 | WIRE_E_PARTIAL: there is no more |
 * WIRE_E_FRAMING: it is no answer. */
static int hear_answer(struct channel *channel)
{
	const struct header header = { .request = BACKEND_CONFIG_CHANGE_MSG,
		.flags = HEADER_VERSION | HEADER_REPLY,
		.size = sizeof(uint64_t) };
	struct answer answer;
	int r;

	if (wire_bytes_there(channel->fd) < sizeof(answer))
		return WIRE_E_PARTIAL;
	r = intake_take(channel->fd, &header, &answer, sizeof(answer));
	if (r == -EAGAIN)
		return WIRE_E_PARTIAL;
	if (r)
		return WIRE_E_FRAMING;
	note_answer(channel, answer.value);
	return 0;
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

/* --- Requests --- */

/* Never waits, whatever the VMM has made of the socket: 0 | negative errno */
static int send_request(int fd, uint32_t request, bool need_reply)
{
	struct header header = { .request = request,
		.flags = HEADER_VERSION | (need_reply ? HEADER_NEED_REPLY : 0) };
	ssize_t n;

	do
		n = send(fd, &header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* What finds no room goes out when the VMM has read, or is told by the next process; what cannot
 * be sent at all was for nobody. */
static void tell(struct channel *channel)
{
	struct journal *journal = channel->journal;
	bool need_reply;
	int r;

	if (channel->fd < 0 || journal->told_config_seq == channel->config_seq)
		return;
	need_reply = channel->need_reply && channel->source;
	r = send_request(channel->fd, BACKEND_CONFIG_CHANGE_MSG, need_reply);
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

static int on_channel(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct channel *channel = data;

	hear(channel);
	if (channel->telling)
		tell(channel);
	return 0;
}

/* --- Life --- */

static void drop_fd(struct channel *channel)
{
	char name[NAME_BYTES];

	channel->source = sd_event_source_disable_unref(channel->source);
	if (channel->fd < 0)
		return;
	intake_drain(channel->fd);
	(void)fdstore_remove(store_name(channel, "breq", name));
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
	channel->fd = fdstore_take(store_name(channel, "breq", name));
	resume_journal(channel);
	if (channel->fd < 0)
		return;
	if (!channel->journal)
		begin_journal(channel);
	watch(channel);
}

void channel_begin(struct channel *channel, uint64_t config_seq)
{
	channel->begun_with = config_seq;
}

void channel_take(struct channel *channel, int fd)
{
	char name[NAME_BYTES];

	drop_fd(channel);
	channel->fd = fd;
	(void)fdstore_push(store_name(channel, "breq", name), fd);
	if (!channel->journal)
		begin_journal(channel);
	else
		channel->journal->answered = channel->journal->asked;
	watch(channel);
}

void channel_close(struct channel *channel)
{
	drop_fd(channel);
	end_journal(channel);
	channel->telling = false;
	channel->begun_with = 0;
}

void channel_free(struct channel *channel)
{
	channel->source = sd_event_source_disable_unref(channel->source);
	channel->fd = fd_close(channel->fd);
	if (channel->journal)
		(void)munmap(channel->journal, sizeof(*channel->journal));
	channel->journal = NULL;
}
