/*
 * The whole conversation, with our object ids:
 *
 *   -> display(1).get_registry(2), display.sync(3)
 *   <- registry(2).global(name, interface, version) ...   <- callback(3).done
 *   -> registry.bind(4), manager(4).create_listener(5, listen_fd, close_fd),
 *      context(5).set_sandbox_engine, set_app_id, set_instance_id, commit, display.sync(6)
 *   <- callback(6).done, or display(1).error
 *
 * Messages are words in the machine's order: object id, size << 16 | opcode, arguments; a string is
 * its length with the closing 0, and padded.
 */
#include "security-context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"

#define INTERFACE "wp_security_context_manager_v1"
#define ENGINE "bulkhead"
#define BACKLOG 64
#define MESSAGE_MAX 4096u /* as in libwayland */
#define HEAD_BYTES 8u
#define READS_MAX 16 /* at a time */

enum object { DISPLAY = 1, REGISTRY, FIRST_SYNC, MANAGER, CONTEXT, SECOND_SYNC };
enum { DISPLAY_SYNC = 0, DISPLAY_GET_REGISTRY = 1 };
enum { DISPLAY_ERROR = 0 };
enum { REGISTRY_BIND = 0 };
enum { REGISTRY_GLOBAL = 0 };
enum { MANAGER_CREATE_LISTENER = 1 };
enum { CONTEXT_SET_ENGINE = 1, CONTEXT_SET_APP_ID, CONTEXT_SET_INSTANCE_ID, CONTEXT_COMMIT };

struct security_context {
	struct security_context_setting setting;
	int fd;
	int listen_fd;
	int path_fd;         /* O_PATH: the listening socket's file, which has no name any more */
	int close_fd;        /* open for as long as the compositor shall accept connections */
	enum object awaited; /* FIRST_SYNC, SECOND_SYNC; DISPLAY: no more answers are due */
	bool is_offered;
	uint32_t global; /* the manager's */
	uint8_t bytes[MESSAGE_MAX];
	size_t n_bytes;
};

/* --- Requests --- */

/** struct requests - several, to be sent at once; strings are cut so that they fit */
struct requests {
	uint8_t bytes[1024];
	size_t n_bytes;
	size_t begun; /* the last one */
};

static void put(struct requests *requests, uint32_t word)
{
	check(requests->n_bytes + sizeof(word) <= sizeof(requests->bytes));
	memcpy(requests->bytes + requests->n_bytes, &word, sizeof(word));
	requests->n_bytes += sizeof(word);
}

static void put_string(struct requests *requests, const char *text)
{
	uint32_t n = (uint32_t)strnlen(text, 200);

	put(requests, n + 1);
	for (uint32_t at = 0; at < n + 1; at += sizeof(uint32_t)) {
		uint32_t word = 0;

		memcpy(&word, text + at, MIN(n - at, (uint32_t)sizeof(word)));
		put(requests, word);
	}
}

static void begin(struct requests *requests, enum object object)
{
	requests->begun = requests->n_bytes;
	put(requests, object);
	put(requests, 0);
}

static void end(struct requests *requests, uint32_t opcode)
{
	uint32_t word = (uint32_t)(requests->n_bytes - requests->begun) << 16 | opcode;

	memcpy(requests->bytes + requests->begun + sizeof(word), &word, sizeof(word));
}

static void put_new(struct requests *requests, enum object object, uint32_t opcode, enum object id)
{
	begin(requests, object);
	put(requests, id);
	end(requests, opcode);
}

static void put_text(struct requests *requests, uint32_t opcode, const char *text)
{
	begin(requests, CONTEXT);
	put_string(requests, text);
	end(requests, opcode);
}

/* The socket is as good as empty; where it has no room, the other end does not read. */
static bool send_all(int fd, const struct requests *requests, const int *fds, size_t n_fds)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)requests->bytes, requests->n_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)requests->n_bytes;
}

static bool ask(const struct security_context *context)
{
	struct requests requests = { .n_bytes = 0 };

	put_new(&requests, DISPLAY, DISPLAY_GET_REGISTRY, REGISTRY);
	put_new(&requests, DISPLAY, DISPLAY_SYNC, FIRST_SYNC);
	return send_all(context->fd, &requests, NULL, 0);
}

/* --- The listening socket --- */

static int connect_or_bind(int fd, const char *path, bool binds)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	r = binds ? bind(fd, (struct sockaddr *)&addr, sizeof(addr))
		  : connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	return r < 0 ? -errno : 0;
}

/* Its file is only needed until it is open: nobody else shall find it. */
static int bind_unseen(int fd, const char *folder)
{
	_cleanup_close_ int folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *name = "security-context.sock";
	char path[64];
	int path_fd, r;

	if (folder_fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", folder_fd, name);
	(void)unlinkat(folder_fd, name, 0); /* of a process that was killed here */
	r = connect_or_bind(fd, path, true);
	if (r < 0)
		return r;
	path_fd = openat(folder_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	r = path_fd < 0 ? -errno : path_fd;
	(void)unlinkat(folder_fd, name, 0);
	return r;
}

static int listen_for_guest(struct security_context *context, int *ret_close_end)
{
	int ends[2];

	context->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (context->listen_fd < 0)
		return -errno;
	context->path_fd = bind_unseen(context->listen_fd, context->setting.folder);
	if (context->path_fd < 0)
		return context->path_fd;
	if (listen(context->listen_fd, BACKLOG) < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ret_close_end = ends[0];
	context->close_fd = ends[1];
	return 0;
}

static bool propose(struct security_context *context)
{
	const struct security_context_setting *setting = &context->setting;
	struct requests requests = { .n_bytes = 0 };
	_cleanup_close_ int close_end = -1;
	char instance[256];

	if (listen_for_guest(context, &close_end) < 0)
		return false;
	snprintf(instance, sizeof(instance), "%s/%s", setting->guest, setting->device);
	begin(&requests, REGISTRY);
	put(&requests, context->global);
	put_string(&requests, INTERFACE);
	put(&requests, 1);
	put(&requests, MANAGER);
	end(&requests, REGISTRY_BIND);
	put_new(&requests, MANAGER, MANAGER_CREATE_LISTENER, CONTEXT);
	put_text(&requests, CONTEXT_SET_ENGINE, ENGINE);
	put_text(&requests, CONTEXT_SET_APP_ID, setting->guest);
	put_text(&requests, CONTEXT_SET_INSTANCE_ID, instance);
	begin(&requests, CONTEXT);
	end(&requests, CONTEXT_COMMIT);
	put_new(&requests, DISPLAY, DISPLAY_SYNC, SECOND_SYNC);
	if (!send_all(context->fd, &requests, (int[]){ context->listen_fd, close_end }, 2))
		return false;
	/* From now on it listens for as long as the compositor lives. */
	context->listen_fd = fd_close(context->listen_fd);
	return true;
}

/* --- Events --- */

/** struct event - one that is whole */
struct event {
	uint32_t object, opcode;
	const uint8_t *arguments;
	size_t n_bytes;
};

static uint32_t word_at(const uint8_t *bytes)
{
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

/* global(name, string interface, version) */
static void note_global(struct security_context *context, const struct event *event)
{
	const size_t n_text = sizeof(INTERFACE);

	if (event->n_bytes < 8 + n_text || word_at(event->arguments + 4) != n_text ||
		memcmp(event->arguments + 8, INTERFACE, n_text) != 0)
		return;
	context->global = word_at(event->arguments);
	context->is_offered = true;
}

/* The compositor has carried out what was asked of it before that number. */
static int handle_done(struct security_context *context, uint32_t callback)
{
	if (callback != context->awaited)
		return SECURITY_CONTEXT_E_FAILED;
	context->awaited = DISPLAY;
	if (callback == SECOND_SYNC)
		return SECURITY_CONTEXT_E_AGREED;
	if (!context->is_offered)
		return SECURITY_CONTEXT_E_NOT_OFFERED;
	context->awaited = SECOND_SYNC;
	return propose(context) ? 0 : SECURITY_CONTEXT_E_FAILED;
}

static int handle(struct security_context *context, const struct event *event)
{
	if (event->object == DISPLAY && event->opcode == DISPLAY_ERROR)
		return SECURITY_CONTEXT_E_FAILED;
	if (event->object == REGISTRY && event->opcode == REGISTRY_GLOBAL)
		note_global(context, event);
	if (event->object == FIRST_SYNC || event->object == SECOND_SYNC)
		return handle_done(context, event->object);
	return 0;
}

/* Handle the events that are whole; the first one that says something ends it. */
static int handle_all(struct security_context *context)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && context->n_bytes - at >= HEAD_BYTES) {
		const uint8_t *head = context->bytes + at;
		uint32_t size = word_at(head + 4) >> 16;
		struct event event = { word_at(head), word_at(head + 4) & 0xffff, head + HEAD_BYTES,
			size - HEAD_BYTES };

		if (size < HEAD_BYTES || size > MESSAGE_MAX || size % 4)
			return SECURITY_CONTEXT_E_FAILED;
		if (size > context->n_bytes - at)
			break;
		r = handle(context, &event);
		at += size;
	}
	context->n_bytes -= at;
	memmove(context->bytes, context->bytes + at, context->n_bytes);
	return r;
}

int security_context_read(struct security_context *context)
{
	for (int i = 0; i < READS_MAX; i++) {
		int r = handle_all(context);
		ssize_t n;

		if (r)
			return r;
		/* Descriptors are not due here, and the kernel drops them. */
		n = recv(context->fd, context->bytes + context->n_bytes,
			sizeof(context->bytes) - context->n_bytes, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
			return SECURITY_CONTEXT_E_FAILED;
		context->n_bytes += (size_t)n;
	}
	return 0;
}

/* --- Life --- */

struct security_context *security_context_new(const struct security_context_setting *setting,
	int fd)
{
	struct security_context *context = calloc(1, sizeof(*context));

	if (!context) {
		fd_close(fd);
		return NULL;
	}
	context->setting = *setting;
	context->fd = fd;
	context->listen_fd = context->path_fd = context->close_fd = -1;
	context->awaited = FIRST_SYNC;
	return ask(context) ? context : security_context_free(context);
}

struct security_context *security_context_free(struct security_context *context)
{
	if (!context)
		return NULL;
	fd_close(context->fd);
	fd_close(context->listen_fd);
	fd_close(context->path_fd);
	fd_close(context->close_fd);
	free(context);
	return NULL;
}

int security_context_fd(const struct security_context *context)
{
	return context->fd;
}

int security_context_connect(const struct security_context *context)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char path[64];
	int r;

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", context->path_fd);
	r = connect_or_bind(fd, path, false);
	return r < 0 ? r : fd_steal(&fd);
}
