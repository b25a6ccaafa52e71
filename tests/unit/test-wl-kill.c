/*
 * A worker that is killed while its streams run: not one byte and not one descriptor is lost,
 * doubled or out of place, in either direction. The worker is a child of the test, which serves one
 * stream with procs/wl/stream.h as a device would; the guest's rings are shared memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/patience.h"
#include "lib/recorder.h"
#include "lib/run.h"
#include "lib/script.h"
#include "stream.h"

#define SLOT 3u
#define IN_RING 16u

/* What the guest gets: one RECV with what came along. */
struct delivery {
	uint32_t n_bytes, n_fds;
	uint64_t files[STREAM_MESSAGE_FDS];
	uint8_t data[STREAM_MESSAGE_BYTES];
};

/* Shared memory: the rings, which the guest has, and the worker's state, which is kept for it. */
struct world {
	/* to the host: so many were taken; the script stands there in scripts[taken % 2] */
	_Atomic uint64_t taken;
	struct script scripts[2];
	/* to the guest */
	_Atomic uint64_t in_head, in_tail;
	struct delivery in[IN_RING];
	/* what is being delivered; n_bytes 0: nothing */
	struct {
		_Atomic uint32_t n_bytes;
		uint64_t in_head;
	} note;
	char why[160];
};

static struct world *world;
static int files[SCRIPT_FILES];
static int kept[STREAMS_N_KEPT];

/* --- The worker --- */

static int file_of(void *data, uint32_t handle)
{
	return files[handle % SCRIPT_FILES];
}

static void on_sent(void *data, const uint32_t *handles, uint32_t n)
{
}

static const struct stream_source source = { .fd_of = file_of, .sent = on_sent };

static void give_up(const char *why, int r)
{
	snprintf(world->why, sizeof(world->why), "%s: %d", why, r);
	_exit(1);
}

static uint64_t number_of(int fd)
{
	uint64_t number = UINT64_MAX;

	return pread(fd, &number, sizeof(number), 0) == sizeof(number) ? number : UINT64_MAX;
}

/* Publish it to the guest. */
static void deliver(struct stream_message *message)
{
	struct delivery *delivery = &world->in[world->in_head % IN_RING];

	delivery->n_bytes = message->n_bytes;
	delivery->n_fds = message->n_fds;
	memcpy(delivery->data, message->data, message->n_bytes);
	for (uint32_t i = 0; i < message->n_fds; i++) {
		delivery->files[i] = number_of(message->fds[i]);
		close(message->fds[i]);
	}
	world->in_head++;
}

static int receive(struct streams *streams, const struct stream *stream, uint32_t max_bytes)
{
	struct stream_message message;
	int r;

	if (world->in_head - world->in_tail == IN_RING)
		return STREAM_E_FULL;
	r = stream_peek(streams, stream, max_bytes, &message);
	if (r)
		return r;
	world->note.in_head = world->in_head;
	world->note.n_bytes = message.n_bytes;
	deliver(&message);
	stream_consume(streams, stream);
	world->note.n_bytes = 0;
	return 0;
}

static bool take_chain(struct streams *streams)
{
	struct script *script = &world->scripts[world->taken % 2];
	struct script *next = &world->scripts[(world->taken + 1) % 2];
	uint32_t handles[SCRIPT_FDS_MAX];
	struct stream_record record = { script->n_bytes, script->n_fds, handles, world->taken + 1 };
	struct iovec room[2];

	if (!stream_was_appended(streams, SLOT, record.cookie)) {
		if (stream_reserve(streams, SLOT, record.n_fds, record.n_bytes, room))
			return false;
		script_fill(script, 0, room[0].iov_base, room[0].iov_len);
		script_fill(script, (uint32_t)room[0].iov_len, room[1].iov_base, room[1].iov_len);
		for (uint32_t i = 0; i < record.n_fds; i++)
			handles[i] = (uint32_t)(script->file + i);
		stream_append(streams, SLOT, &record);
	}
	*next = *script;
	script_next(next);
	world->taken++;
	return true;
}

/* The same steps as in receive() and take_chain(), from where the former worker left off. */
static void recover(struct streams *streams, const struct stream *stream)
{
	uint32_t n_bytes = world->note.n_bytes;
	int r = 0;

	if (n_bytes > 0 && world->note.in_head == world->in_head)
		r = receive(streams, stream, n_bytes);
	else if (n_bytes > 0)
		stream_consume(streams, stream);
	if (r)
		give_up("what was peeked is gone", r);
	world->note.n_bytes = 0;
	if (stream_was_appended(streams, SLOT, world->taken + 1))
		take_chain(streams);
}

static int flush(struct streams *streams, const struct stream *stream)
{
	int r = stream_flush(streams, stream, &source);

	if (r == STREAM_E_HANGUP)
		give_up("flush", errno);
	return r;
}

/* What the test asks a worker to do. */
struct task {
	enum stream_kind kind;
	int in_fd, out_fd;
	bool finish; /* everything that is there, and exit */
	bool traced; /* one of each, under ptrace, and exit */
};

static void work(const struct task *task)
{
	struct stream in = { task->in_fd, task->kind, SLOT };
	struct stream out = { task->out_fd, task->kind, SLOT };
	struct streams streams;
	int r = streams_open(&streams, kept);

	if (r)
		give_up("open", r);
	if (task->traced)
		raise(SIGSTOP);
	recover(&streams, &in);
	for (int turn = 0; !task->traced || turn < 2; turn++) {
		struct pollfd ready[] = { { .fd = in.fd, .events = POLLIN },
			{ .fd = out.fd, .events = POLLOUT } };

		if (!task->finish)
			take_chain(&streams);
		r = flush(&streams, &out);
		if (receive(&streams, &in, 3968) == STREAM_E_AGAIN && r == 0 && task->finish)
			_exit(0);
		if (r == STREAM_E_AGAIN)
			poll(ready, 2, 1);
	}
	_exit(0);
}

static pid_t start(const struct task *task)
{
	pid_t pid = fork();

	/* The child asserts nothing: another thread may have held libcheck's lock. */
	if (pid == 0) {
		if (task->traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			give_up("ptrace", errno);
		work(task);
		_exit(0);
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

/* --- The guest and the compositor --- */

struct rig {
	struct task task;
	struct recorder *recorder;
	struct recorder_peer *peer; /* what comes from the worker */
	int to_worker;
	struct script_setting out, in;
	pthread_t writer, guest;
	_Atomic bool stop_writer, stop_guest;
	_Atomic uint64_t n_written; /* bytes */
	struct script read;         /* the guest's */
	_Atomic bool complains;
};

static bool write_all(struct rig *rig, const uint8_t *data, size_t n, const int *fds, size_t n_fds)
{
	if (rig->task.kind == STREAM_SOCKET)
		return recorder_send(rig->peer, data, n, fds, n_fds);
	for (ssize_t r; n > 0; data += r, n -= (size_t)r)
		if ((r = write(rig->to_worker, data, n)) <= 0)
			return false;
	return true;
}

static void *write_script(void *data)
{
	static uint8_t bytes[1 << 16];
	struct rig *rig = data;
	struct script script;

	for (script_begin(&script, &rig->in); !rig->stop_writer; script_next(&script)) {
		int fds[SCRIPT_FDS_MAX];

		script_fill(&script, 0, bytes, script.n_bytes);
		for (uint32_t i = 0; i < script.n_fds; i++)
			fds[i] = files[(script.file + i) % SCRIPT_FILES];
		if (!write_all(rig, bytes, script.n_bytes, fds, script.n_fds))
			break;
		rig->n_written += script.n_bytes;
	}
	return NULL;
}

static bool verify_delivery(struct script *script, const struct delivery *delivery)
{
	int fds[STREAM_MESSAGE_FDS];

	for (uint32_t i = 0; i < delivery->n_fds; i++)
		fds[i] = delivery->files[i] < SCRIPT_FILES ? files[delivery->files[i]] : -1;
	return script_verify(script, delivery->data, delivery->n_bytes, fds, delivery->n_fds);
}

static void *read_deliveries(void *data)
{
	struct rig *rig = data;

	while (!rig->stop_guest || world->in_tail != world->in_head) {
		if (world->in_tail == world->in_head) {
			usleep(30);
			continue;
		}
		if (!rig->complains &&
			!verify_delivery(&rig->read, &world->in[world->in_tail % IN_RING]))
			rig->complains = true;
		world->in_tail++;
	}
	return NULL;
}

static void connect_rig(struct rig *rig)
{
	int pair[2], out[2], in[2];

	if (rig->task.kind == STREAM_SOCKET) {
		struct stream stream = { .kind = STREAM_SOCKET };

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		rig->task.in_fd = rig->task.out_fd = stream.fd = pair[0];
		ck_assert_int_eq(stream_begin(&stream), 0);
		rig->peer = recorder_adopt(rig->recorder, pair[1]);
		return;
	}
	ck_assert_int_eq(pipe2(out, O_CLOEXEC) | pipe2(in, O_CLOEXEC), 0);
	rig->task.in_fd = in[0];
	rig->to_worker = in[1];
	rig->task.out_fd = out[1];
	rig->peer = recorder_adopt(rig->recorder, out[0]);
}

static void begin(struct rig *rig, enum stream_kind kind, uint32_t max_bytes)
{
	bool bytes_only = kind == STREAM_PIPE;

	*rig = (struct rig){ .task.kind = kind, .to_worker = -1 };
	rig->out = (struct script_setting){ test_seed(), max_bytes, bytes_only };
	rig->in = (struct script_setting){ test_seed() + 1, max_bytes, bytes_only, true };
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		0);
	ck_assert_ptr_ne(world, MAP_FAILED);
	script_begin(&world->scripts[0], &rig->out);
	for (unsigned int i = 0; i < SCRIPT_FILES; i++)
		files[i] = script_file(i);
	ck_assert_int_eq(streams_create(kept), 0);
	rig->recorder = recorder_new(NULL, 0);
	connect_rig(rig);
	recorder_follow(rig->peer, &rig->out);
	script_begin(&rig->read, &rig->in);
	pthread_create(&rig->writer, NULL, write_script, rig);
	pthread_create(&rig->guest, NULL, read_deliveries, rig);
}

static void check_rig(struct rig *rig)
{
	const char *complaint = recorder_complaint(rig->peer);

	ck_assert_msg(!complaint, "to the host: %s", complaint);
	ck_assert_msg(!rig->complains, "to the guest: %s", rig->read.why);
}

static void await_exit(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s (status 0x%x)", world->why,
		(unsigned int)status);
}

/* Everything under way must arrive in the end. */
static void finish(struct rig *rig)
{
	struct task task = rig->task;
	struct script *script;
	pid_t pid;

	rig->stop_writer = true;
	task.finish = true;
	pid = start(&task); /* makes room for the writer */
	pthread_join(rig->writer, NULL);
	await_exit(pid);
	await_exit(start(&task));
	rig->stop_guest = true;
	pthread_join(rig->guest, NULL);
	script = &world->scripts[world->taken % 2];
	recorder_wait(rig->peer, script->at, 10000);
	check_rig(rig);
	ck_assert_uint_eq(recorder_n_bytes(rig->peer), script->at);
	ck_assert_uint_eq(rig->read.at + rig->read.offset, rig->n_written);
	ck_assert_uint_gt(script->at, 0);
	printf("# %llu bytes and %llu descriptors to the host, %llu and %llu to the guest\n",
		(unsigned long long)script->at, (unsigned long long)script->file,
		(unsigned long long)rig->read.at, (unsigned long long)rig->read.file);
}

static void end(struct rig *rig)
{
	recorder_free(rig->recorder);
	fd_close(rig->task.in_fd);
	if (rig->task.kind == STREAM_PIPE)
		fd_close(rig->task.out_fd);
	fd_close(rig->to_worker);
	for (unsigned int i = 0; i < SCRIPT_FILES; i++)
		close(files[i]);
	for (unsigned int i = 0; i < STREAMS_N_KEPT; i++)
		close(kept[i]);
	munmap(world, sizeof(*world));
}

/* --- At random --- */

static void kill_one(struct rig *rig)
{
	pid_t pid = start(&rig->task);
	int status;

	usleep((useconds_t)random() % 2000);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s (status 0x%x)",
		world->why, (unsigned int)status);
}

static const enum stream_kind kinds[] = { STREAM_SOCKET, STREAM_PIPE };

START_TEST(test_no_kill_loses_or_doubles_a_byte)
{
	int n = getenv("BULKHEAD_FULL") ? 20000 : 300;
	struct rig rig;

	srandom(test_seed());
	begin(&rig, kinds[_i], 0);
	for (int i = 0; i < n; i++) {
		kill_one(&rig);
		check_rig(&rig);
	}
	finish(&rig);
	end(&rig);
}
END_TEST

/* --- At each instruction --- */

/* Returns after how many instructions it ended: n, when it was killed, or fewer, when its work was
 * done. */
static unsigned int kill_after(struct rig *rig, unsigned int n)
{
	struct task task = rig->task;
	unsigned int done;
	int status;
	pid_t pid;

	task.traced = true;
	pid = start(&task);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSTOPPED(status), "%s", world->why);
	for (done = 0; done < n && WIFSTOPPED(status); done++) {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	}
	if (WIFSTOPPED(status)) {
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	} else {
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", world->why);
	}
	return done;
}

START_TEST(test_no_instruction_is_a_bad_moment)
{
	unsigned int n_kills = getenv("BULKHEAD_FULL") ? 4000 : 15, total;
	struct rig rig;

	srandom(test_seed());
	begin(&rig, kinds[_i], 40);
	total = kill_after(&rig, 1000000);
	for (unsigned int i = 0; i < n_kills; i++) {
		kill_after(&rig, (unsigned int)random() % total);
		check_rig(&rig);
	}
	printf("# %u kills within %u instructions\n", n_kills, total);
	finish(&rig);
	end(&rig);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("kill");

	tcase_set_timeout(tcase, 3000);
	tcase_add_loop_test(tcase, test_no_kill_loses_or_doubles_a_byte, 0, ARRAY_SIZE(kinds));
	tcase_add_loop_test(tcase, test_no_instruction_is_a_bad_moment, 0, ARRAY_SIZE(kinds));
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_main("wl-kill", add);
}
