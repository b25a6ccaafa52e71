/*
 * The looker is a fork of the frontend that has nothing open but its end of a socket pair. It
 * answers one question at a time. Once it has met a foreign descriptor it answers no more: it holds
 * the descriptor until the frontend has taken the message out of the socket, so that the frontend
 * is not its last owner, and then exits. Nobody waits for that exit, which is what may block.
 *
 * From Linux 6.3 on, exit blocks neither on a file server nor on a TCP peer. Earlier kernels do
 * wait for a file server. The number of lookers that may hang in exit is limited; beyond that, a
 * VMM that hands over more such descriptors is disconnected.
 *
 * The frontend may have threads when it forks, so the looker allocates nothing and takes no lock.
 */
#include "intake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"

/* systemd takes no notice of what is left over of that kind: the parenthesis tells it */
#define NAME "(intake)"
#define IDLE_MS 30000     /* a VMM that migrates its guest is quiet for long, and then in a hurry */
#define ANSWER_S 10       /* what a looker does never blocks, but a busy host may keep it waiting */
#define CHILDREN_MAX 9    /* one that works, the others wait for strangers */
#define PIECE_FDS_MAX 253 /* what the kernel passes at most with one piece */
#define LOOK_FDS_MAX 2048
#define PIECE_BYTES 65536

enum task {
	TASK_LOOK,  /* at what comes next, and leave it there */
	TASK_DRAIN, /* take all of it, and keep it */
	TASK_PEEK,  /* at n_bytes, and tell what they are, if they begin with that header */
	TASK_TAKE,  /* take n_bytes, which were looked at */
};

struct question {
	enum task task;
	size_t at; /* TASK_LOOK: so many bytes come before */
	size_t n_bytes;
	struct header header; /* TASK_PEEK: what must come first, but for the request */
	uint32_t requests;    /* bits of those that are possible */
};

struct verdict {
	size_t n_fds;
	bool foreign;
	char text[FD_KIND_TEXT_BYTES];
	size_t n_bytes; /* looked at */
	uint8_t bytes[INTAKE_TAKE_MAX];
};

/* --- One message with at most one descriptor --- */

union control {
	char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * PIECE_FDS_MAX)];
	struct cmsghdr align;
};

static int ask(int link, const struct question *question, int fd)
{
	union control control = { 0 };
	struct iovec iov = { (void *)question, sizeof(*question) };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(sizeof(int)) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);

	*cmsg = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
	};
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(link, &hdr, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Bytes and descriptors of one look; the number of bytes, 0 or less at the end. */
static ssize_t receive(int fd, void *buf, size_t n, int flags, int *fds, size_t *ret_n_fds,
	bool *ret_lost)
{
	union control control;
	struct iovec iov = { buf, n };
	struct msghdr hdr = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t got;

	*ret_n_fds = 0;
	do
		got = recvmsg(fd, &hdr, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	for (struct cmsghdr *cmsg = got > 0 ? CMSG_FIRSTHDR(&hdr) : NULL; cmsg;
		cmsg = CMSG_NXTHDR(&hdr, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		*ret_n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), *ret_n_fds * sizeof(int));
	}
	*ret_lost = got > 0 && (hdr.msg_flags & MSG_CTRUNC);
	return got;
}

/* --- The looker --- */

static int looked_at[LOOK_FDS_MAX + PIECE_FDS_MAX];
static char piece[PIECE_BYTES];

static void judge(const int *fds, size_t n, bool lost, struct verdict *verdict)
{
	static const char too_many[] = "one of more than there is room for";

	for (size_t i = 0; i < n && !verdict->foreign; i++)
		verdict->foreign = fd_kind_check(fds[i], FD_HARMLESS, verdict->text);
	verdict->n_fds += n;
	if (verdict->foreign || (!lost && verdict->n_fds <= LOOK_FDS_MAX))
		return;
	verdict->foreign = true;
	memcpy(verdict->text, too_many, sizeof(too_many));
}

/* As the reader of the message looks at it afterwards (wire.c). */
static void look_at(int conn, size_t at, size_t n_bytes, struct verdict *verdict)
{
	const int offset = (int)at;
	size_t have = 0, n;
	bool lost;

	if (setsockopt(conn, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0)
		return;
	while (have < n_bytes && !verdict->foreign) {
		ssize_t got = receive(conn, piece, sizeof(piece), MSG_PEEK | MSG_DONTWAIT,
			looked_at + verdict->n_fds, &n, &lost);

		if (got <= 0)
			return;
		judge(looked_at + verdict->n_fds, n, lost, verdict);
		have += (size_t)got;
	}
}

static void drain(int conn)
{
	size_t n;
	bool lost;

	while (receive(conn, piece, sizeof(piece), MSG_DONTWAIT, looked_at, &n, &lost) > 0)
		;
}

static bool is_due(const struct question *question)
{
	struct header header, due = question->header;

	memcpy(&header, piece, sizeof(header));
	if (header.request >= 32 || !(question->requests & 1u << header.request))
		return false;
	due.request = header.request;
	return memcmp(&header, &due, sizeof(due)) == 0;
}

/* Whatever comes along is kept until the end, which is what may take long. */
static void peek(int fd, const struct question *question, struct verdict *verdict)
{
	const int zero = 0;
	size_t n;
	bool lost;
	ssize_t got;

	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0)
		return;
	got = receive(fd, piece, question->n_bytes, MSG_PEEK | MSG_DONTWAIT, looked_at, &n, &lost);
	verdict->foreign = n || lost;
	if (verdict->foreign || got < (ssize_t)question->n_bytes)
		return;
	verdict->foreign = !is_due(question);
	verdict->n_bytes = question->n_bytes;
	memcpy(verdict->bytes, piece, question->n_bytes);
}

static void take(int fd, const struct question *question, struct verdict *verdict)
{
	size_t n;
	bool lost;

	(void)receive(fd, piece, question->n_bytes, MSG_DONTWAIT, looked_at, &n, &lost);
	verdict->foreign = n || lost;
}

static void end(int link)
{
	char byte;

	while (read(link, &byte, 1) > 0)
		;
	_exit(0);
}

static void serve(int link)
{
	struct question question;
	struct verdict verdict = { 0 };
	size_t n;
	bool lost;
	int conn;

	if (receive(link, &question, sizeof(question), 0, &conn, &n, &lost) != sizeof(question) ||
		n != 1)
		_exit(0);
	if (question.task == TASK_LOOK)
		look_at(conn, question.at, question.n_bytes, &verdict);
	else if (question.task == TASK_PEEK)
		peek(conn, &question, &verdict);
	else if (question.task == TASK_TAKE)
		take(conn, &question, &verdict);
	else
		drain(conn);
	close(conn); /* its owner still has it */
	if (!verdict.foreign && question.task == TASK_LOOK)
		for (size_t i = 0; i < verdict.n_fds; i++)
			close(looked_at[i]);
	if (send(link, &verdict, sizeof(verdict), MSG_NOSIGNAL) < 0 || verdict.foreign ||
		question.task == TASK_DRAIN)
		end(link);
}

__attribute__((noreturn)) static void looker(int link, pid_t parent)
{
	struct pollfd p = { .fd = dup2(link, 0), .events = POLLIN };

	/* what a handler of the parent's would do is not this process's to do */
	for (int i = 1; i < SIGRTMIN; i++)
		(void)signal(i, SIG_DFL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, NAME);
	(void)syscall(SYS_close_range, 1, ~0U, 0);
	while (getppid() == parent && poll(&p, 1, IDLE_MS) > 0)
		serve(p.fd);
	_exit(0);
}

/* --- This process --- */

/** struct child - a looker, from its fork to its end */
struct child {
	int pid_fd;
	sd_event_source *ended;
};

static struct {
	sd_event *event;
	int link_fd; /* to the last of the children; -1 = it has been let go */
	bool holds;  /* it has met something foreign */
	struct child children[CHILDREN_MAX];
	size_t n_children;
} intake = { .link_fd = -1 };

static void reap(void)
{
	siginfo_t info;

	for (size_t i = intake.n_children; i-- > 0;) {
		struct child *child = &intake.children[i];

		info.si_pid = 0;
		if (waitid(P_PIDFD, (id_t)child->pid_fd, &info, WEXITED | WNOHANG) == 0 &&
			info.si_pid == 0)
			continue;
		if (i == intake.n_children - 1)
			intake.link_fd = fd_close(intake.link_fd);
		sd_event_source_disable_unref(child->ended);
		fd_close(child->pid_fd);
		memmove(child, child + 1, (--intake.n_children - i) * sizeof(*child));
	}
}

static void let_go(void)
{
	intake.link_fd = fd_close(intake.link_fd);
	intake.holds = false;
	reap();
}

static int on_ended(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	reap();
	return 0;
}

static int note_child(pid_t pid, int link_fd)
{
	struct child *child = &intake.children[intake.n_children];
	const struct timeval patience = { .tv_sec = ANSWER_S };

	child->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (child->pid_fd < 0)
		return -errno;
	intake.n_children++;
	intake.link_fd = link_fd;
	(void)setsockopt(link_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return sd_event_add_io(intake.event, &child->ended, child->pid_fd, EPOLLIN, on_ended, NULL);
}

static int have_looker(void)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	pid_t self = getpid(), pid;
	int pair[2];

	reap();
	if (intake.link_fd >= 0)
		return 0;
	if (intake.n_children == CHILDREN_MAX)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid == 0)
		looker(theirs, self);
	return pid < 0 ? -errno : note_child(pid, fd_steal(&ours));
}

static void kill_looker(void)
{
	if (intake.link_fd >= 0)
		(void)syscall(SYS_pidfd_send_signal, intake.children[intake.n_children - 1].pid_fd,
			SIGKILL, NULL, 0);
	let_go();
}

/* One that goes by itself, being idle, may go with the question: it is replaced. Whose answer does
 * not come in time is not asked again. */
static int have_answer(const struct question *question, int fd, struct verdict *ret)
{
	int r = 0;

	for (int i = 0; i < 3 && r != -EAGAIN; i++) {
		ssize_t n = 0;

		r = have_looker();
		if (r < 0)
			return r;
		r = ask(intake.link_fd, question, fd);
		if (r == 0)
			n = recv(intake.link_fd, ret, sizeof(*ret), 0);
		if (n == sizeof(*ret))
			return 0;
		r = n < 0 ? -errno : -EPIPE;
		kill_looker();
	}
	return -ETIMEDOUT;
}

int intake_look(int conn_fd, size_t at, size_t n_bytes, size_t *ret_n,
	char ret_text[FD_KIND_TEXT_BYTES])
{
	const struct question question = { .task = TASK_LOOK, .at = at, .n_bytes = n_bytes };
	struct verdict verdict;
	int r = have_answer(&question, conn_fd, &verdict);

	if (r < 0)
		return r;
	intake.holds = verdict.foreign;
	*ret_n = verdict.n_fds;
	memcpy(ret_text, verdict.text, sizeof(verdict.text));
	return verdict.foreign ? INTAKE_E_FOREIGN : 0;
}

void intake_forget(void)
{
	if (intake.holds)
		let_go();
}

void intake_drain(int fd)
{
	const struct question question = { .task = TASK_DRAIN };
	struct verdict verdict;
	int there = 0;

	(void)shutdown(fd, SHUT_RDWR);
	if (ioctl(fd, FIONREAD, &there) < 0 || there == 0)
		return;
	(void)have_answer(&question, fd, &verdict);
	let_go();
}

/* One that has met something foreign is of no more use. */
static int have_verdict(const struct question *question, int fd, struct verdict *ret)
{
	int r = have_answer(question, fd, ret);

	if (r < 0 || !ret->foreign)
		return r;
	let_go();
	return INTAKE_E_FOREIGN;
}

int intake_peek(int fd, const struct header *header, uint32_t requests, void *buf, size_t n)
{
	const struct question question = {
		.task = TASK_PEEK, .n_bytes = n, .header = *header, .requests = requests
	};
	struct verdict verdict;
	int r;

	check(n >= sizeof(*header) && n <= INTAKE_TAKE_MAX);
	r = have_verdict(&question, fd, &verdict);
	if (r)
		return r;
	if (verdict.n_bytes < n)
		return -EAGAIN;
	memcpy(buf, verdict.bytes, n);
	return 0;
}

int intake_take(int fd, size_t n)
{
	const struct question question = { .task = TASK_TAKE, .n_bytes = n };
	struct verdict verdict;

	return have_verdict(&question, fd, &verdict);
}

bool intake_is_peeked(int fd, size_t n)
{
	int offset = 0;
	socklen_t len = sizeof(offset);

	return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &len) == 0 && offset >= (int)n;
}

void intake_empty(const struct message *msg)
{
	char text[FD_KIND_TEXT_BYTES];

	for (size_t i = 0; i < msg->n_fds; i++)
		if (fd_kind_of(msg->fds[i], text) == FD_CHANNEL)
			intake_drain(msg->fds[i]);
}

void intake_open(sd_event *event)
{
	intake.event = event;
}

void intake_close(void)
{
	let_go();
	for (; intake.n_children; intake.n_children--) {
		struct child *child = &intake.children[intake.n_children - 1];

		sd_event_source_disable_unref(child->ended);
		fd_close(child->pid_fd);
	}
}
