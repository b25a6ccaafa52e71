/* What a descriptor is: told for each kind, and without a question to anybody. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "fd/kind.h"
#include "lib/run.h"
#include "lib/stranger.h"

static int keep[2] = { -1, -1 }; /* what must stay open beside it */

static int socket_of(int domain, int type)
{
	return socket(domain, type | SOCK_CLOEXEC, 0);
}

static int end_of_pair(int type)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
	keep[0] = pair[1];
	return pair[0];
}

static int end_of_pipe(int which)
{
	int pair[2];

	ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
	keep[0] = pair[!which];
	return pair[which];
}

static int listening(int type)
{
	int fd = socket_of(AF_UNIX, type);
	struct sockaddr addr = { .sa_family = AF_UNIX };

	ck_assert_int_eq(bind(fd, &addr, sizeof(addr.sa_family)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

static int sealed(int seals)
{
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int plain(int flags)
{
	return memfd_create("plain", MFD_CLOEXEC | (unsigned int)flags);
}

static int at(int flags)
{
	char path[] = "/dev/shm/test-kind-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), again = open(path, flags | O_CLOEXEC);

	close(fd);
	unlink(path);
	return again;
}

static int fifo(int flags)
{
	char path[] = "/tmp/test-kind-XXXXXX", name[64];
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(path));
	snprintf(name, sizeof(name), "%s/fifo", path);
	ck_assert_int_eq(mkfifo(name, 0600), 0);
	fd = open(name, flags | O_CLOEXEC);
	unlink(name);
	rmdir(path);
	return fd;
}

static int lingering(int seconds)
{
	return stranger_linger(seconds, keep);
}

static int signals(int flags)
{
	sigset_t set;

	sigemptyset(&set);
	return signalfd(-1, &set, flags);
}

static int opened(int flags)
{
	return open("/tmp", flags | O_CLOEXEC);
}

static int null_device(int flags)
{
	return open("/dev/null", flags | O_CLOEXEC);
}

static int proc_file(int flags)
{
	return open("/proc/self/status", flags | O_CLOEXEC);
}

static int event(int flags)
{
	return eventfd(0, flags);
}

static int timer(int flags)
{
	return timerfd_create(CLOCK_MONOTONIC, flags);
}

static int tcp(int type)
{
	return socket_of(AF_INET, type);
}

static int netlink(int type)
{
	return socket_of(AF_NETLINK, type);
}

static int unix_alone(int type)
{
	return socket_of(AF_UNIX, type);
}

static const struct {
	int (*make)(int argument);
	int argument;
	enum fd_kind kind;
	const char *text;
} rows[] = {
	{ plain, 0, FD_MEMORY, "a memory file" },
	{ sealed, F_SEAL_SHRINK | F_SEAL_GROW, FD_MEMORY, "a memory file" },
	{ at, O_RDWR, FD_MEMORY, "a memory file" },
	{ at, O_RDONLY, FD_MEMORY, "a memory file" },
	{ at, O_PATH, FD_FOREIGN, "a path" },
	{ event, EFD_CLOEXEC, FD_EVENT, "an eventfd" },
	{ event, EFD_CLOEXEC | EFD_SEMAPHORE, FD_EVENT, "an eventfd" },
	{ end_of_pipe, 0, FD_PIPE, "a pipe" },
	{ end_of_pipe, 1, FD_PIPE, "a pipe" },
	{ fifo, O_RDWR, FD_PIPE, "a pipe" },
	{ fifo, O_PATH, FD_FOREIGN, "a path" },
	{ end_of_pair, SOCK_STREAM, FD_CHANNEL, "a connected AF_UNIX socket" },
	{ end_of_pair, SOCK_SEQPACKET, FD_FOREIGN, "no stream" },
	{ end_of_pair, SOCK_DGRAM, FD_FOREIGN, "no stream" },
	{ unix_alone, SOCK_STREAM, FD_FOREIGN, "not connected" },
	{ listening, SOCK_STREAM, FD_FOREIGN, "not connected" },
	{ tcp, SOCK_STREAM, FD_FOREIGN, "another family" },
	{ tcp, SOCK_DGRAM, FD_FOREIGN, "another family" },
	{ lingering, 1, FD_FOREIGN, "another family" },
	{ netlink, SOCK_RAW, FD_FOREIGN, "another family" },
	{ opened, O_RDONLY | O_DIRECTORY, FD_FOREIGN, "a directory" },
	{ null_device, O_RDWR, FD_DEVICE, "a character device" },
	{ proc_file, O_RDONLY, FD_FOREIGN, "a file on proc" },
	{ epoll_create1, EPOLL_CLOEXEC, FD_FOREIGN, "eventpoll" },
	{ timer, TFD_CLOEXEC, FD_FOREIGN, "timerfd" },
	{ signals, SFD_CLOEXEC, FD_FOREIGN, "signalfd" },
	{ inotify_init1, IN_CLOEXEC, FD_FOREIGN, "inotify" },
};

/* covers: M8 */
START_TEST(test_each_kind_is_told_from_the_others)
{
	char text[FD_KIND_TEXT_BYTES];
	int fd = rows[_i].make(rows[_i].argument);
	unsigned int all = FD_HARMLESS | FD_DEVICE;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_kind_of(fd, text), rows[_i].kind);
	ck_assert_msg(strstr(text, rows[_i].text) != NULL, "'%s', not '%s'", text, rows[_i].text);
	ck_assert_int_eq(fd_kind_check(fd, all, text), rows[_i].kind == FD_FOREIGN);
	ck_assert_int_eq(fd_kind_check(fd, all & ~rows[_i].kind, text), FD_KIND_E_REFUSED);
	ck_assert_ptr_nonnull(strstr(text, rows[_i].text)); /* what it is ... */
	ck_assert_ptr_nonnull(strchr(text, ';'));           /* ... and what is due */
	close(fd);
	fd_close(keep[0]);
	fd_close(keep[1]);
}
END_TEST

START_TEST(test_what_is_not_open_is_foreign)
{
	char text[FD_KIND_TEXT_BYTES];

	ck_assert_int_eq(fd_kind_of(-1, text), FD_FOREIGN);
	ck_assert_int_eq(fd_kind_of(1000, text), FD_FOREIGN);
}
END_TEST

/* Huge pages may be reserved or not: the file is told before any is touched. */
START_TEST(test_huge_pages_are_memory)
{
	char text[FD_KIND_TEXT_BYTES];
	int fd = plain(MFD_HUGETLB);

	if (fd < 0)
		return; /* not in this kernel */
	ck_assert_int_eq(fd_kind_of(fd, text), FD_MEMORY);
	close(fd);
}
END_TEST

/* Where the tests run: what is mounted there is local, or is not in the list. */
START_TEST(test_a_file_on_disk_is_told_by_its_file_system)
{
	char path[] = "test-kind-XXXXXX", text[FD_KIND_TEXT_BYTES];
	int fd = mkostemp(path, O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	(void)fd_kind_of(fd, text);
	ck_assert_msg(strncmp(text, "a file on ", 10) == 0 || strcmp(text, "a memory file") == 0,
		"%s", text);
	close(fd);
}
END_TEST

/* covers: M8 */
START_TEST(test_nobody_is_asked)
{
	struct stranger *stranger = stranger_fuse();
	char text[FD_KIND_TEXT_BYTES];
	unsigned int asked;

	if (!stranger)
		return;
	ck_assert_int_ge(stranger_fd(stranger), 0);
	stranger_hang(stranger, true);
	asked = stranger_asked(stranger);
	ck_assert_int_eq(fd_kind_of(stranger_fd(stranger), text), FD_FOREIGN);
	ck_assert_str_eq(text, "a file on fuse");
	ck_assert_uint_eq(stranger_asked(stranger), asked);
	stranger_free(stranger);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("kind");

	tcase_add_loop_test(tc, test_each_kind_is_told_from_the_others, 0, ARRAY_SIZE(rows));
	tcase_add_test(tc, test_what_is_not_open_is_foreign);
	tcase_add_test(tc, test_huge_pages_are_memory);
	tcase_add_test(tc, test_a_file_on_disk_is_told_by_its_file_system);
	tcase_add_test(tc, test_nobody_is_asked);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("kind", add_tests);
}
