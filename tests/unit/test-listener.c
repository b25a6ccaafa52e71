/*
 * What a listener does with the file at its path. The owner of a folder above may turn the path
 * elsewhere between any two calls: here some of libc's do.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "lib/run.h"
#include "listener.h"

static char folder[64];
static bool turns; /* the path leads to the dead socket while the listener asks it */
static bool turns_at_group, turns_at_look; /* the path leads to others from that call on */

static const char *in_folder(const char *name)
{
	static char paths[4][128];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static void turn_to(const char *to)
{
	unlink(in_folder("way"));
	ck_assert_int_eq(symlink(in_folder(to), in_folder("way")), 0);
}

/* Instead of libc's. */
int connect(int fd, const struct sockaddr *addr, socklen_t n)
{
	long r;

	if (turns)
		turn_to("own");
	r = syscall(SYS_connect, fd, addr, n);
	if (turns)
		turn_to("others");
	return (int)r;
}

struct group *getgrnam(const char *name)
{
	if (turns_at_group)
		turn_to("others");
	return NULL;
}

int fstatat(int dir_fd, const char *path, struct stat *st, int flags)
{
	int r = (int)syscall(SYS_newfstatat, dir_fd, path, st, flags);

	if (turns_at_look)
		turn_to("others");
	return r;
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(address_fill(&addr, path), 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

static void set_up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/bh-listener-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(mkdir(in_folder("own"), 0700), 0);
	ck_assert_int_eq(mkdir(in_folder("others"), 0700), 0);
	turns = turns_at_group = turns_at_look = false;
}

static void tear_down(void)
{
	unlink(in_folder("own/s"));
	unlink(in_folder("others/s"));
	unlink(in_folder("way"));
	rmdir(in_folder("own"));
	rmdir(in_folder("others"));
	rmdir(folder);
}

/* The device has only a path, until the next call. */
static struct config_device *device_at(const char *where)
{
	static char path[128];
	static struct config_device device;

	snprintf(path, sizeof(path), "%s", where);
	device = (struct config_device){ .name = (char *)"net0", .socket = path };
	return &device;
}

static int make(const char *where)
{
	return listener_renew(device_at(where));
}

static void put_file(const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	fd_close(fd);
}

static bool is_there(const char *name)
{
	struct stat st;

	return lstat(in_folder(name), &st) == 0;
}

static void drop_others(int fd)
{
	const struct config config = { .n_devices = 0 };
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (dup2(fd, 3) != 3 || setenv("LISTEN_PID", pid, 1) || setenv("LISTEN_FDS", "1", 1) ||
		setenv("LISTEN_FDNAMES", "listen.net0", 1) || fdstore_init() < 0)
		_exit(1);
	listener_drop_others(&config);
	_exit(0);
}

/* The next process of a guest whose file does not name the device any more. */
static void drop_in_successor(int fd)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		drop_others(fd);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

START_TEST(test_dead_socket_is_replaced)
{
	fd_close(listen_at(in_folder("own/s")));
	turn_to("own");
	fd_close(make(in_folder("way/s")));
	ck_assert_int_eq(access(in_folder("own/s"), F_OK), 0);
}
END_TEST

START_TEST(test_live_socket_is_left_alone)
{
	int live = listen_at(in_folder("own/s"));

	turn_to("own");
	ck_assert_int_eq(make(in_folder("way/s")), -EADDRINUSE);
	ck_assert_int_eq(access(in_folder("own/s"), F_OK), 0);
	fd_close(live);
}
END_TEST

/* covers: P4 */
START_TEST(test_nothing_is_removed_where_nothing_was_asked)
{
	int live = listen_at(in_folder("others/s")), fd;

	fd_close(listen_at(in_folder("own/s")));
	turn_to("others");
	turns = true;
	fd = make(in_folder("way/s"));
	turns = false;
	fd_close(fd);
	fd_close(live);
	ck_assert_int_lt(fd, 0);
	ck_assert_int_eq(access(in_folder("others/s"), F_OK), 0);
}
END_TEST

START_TEST(test_file_goes_with_the_last_who_listens)
{
	int fd;

	turn_to("own");
	fd = make(in_folder("way/s"));
	ck_assert(is_there("own/s"));
	listener_leave(device_at(in_folder("way/s")), fd);
	ck_assert(!is_there("own/s"));
	fd_close(fd);
}
END_TEST

START_TEST(test_file_goes_with_its_device)
{
	int fd;

	turn_to("own");
	fd = make(in_folder("way/s"));
	drop_in_successor(fd);
	ck_assert(!is_there("own/s"));
	fd_close(fd);
}
END_TEST

START_TEST(test_file_that_cannot_get_its_group_goes)
{
	struct config_device *device;

	turn_to("own");
	device = device_at(in_folder("way/s"));
	device->socket_group = (char *)"nobody-is-in-it";
	ck_assert_int_eq(listener_renew(device), -ENOENT);
	ck_assert(!is_there("own/s"));
}
END_TEST

/* covers: P4 */
START_TEST(test_what_another_put_at_the_path_stays)
{
	struct config_device *device;
	int fd;

	put_file(in_folder("others/s"));
	turn_to("own");
	fd = make(in_folder("way/s"));
	turn_to("others");
	listener_leave(device_at(in_folder("way/s")), fd);
	ck_assert_msg(is_there("others/s"), "who listens no more removed it");
	drop_in_successor(fd);
	ck_assert_msg(is_there("others/s"), "it was removed with its device");
	fd_close(fd);

	unlink(in_folder("own/s"));
	turn_to("own");
	device = device_at(in_folder("way/s"));
	device->socket_group = (char *)"nobody-is-in-it";
	turns_at_group = true;
	ck_assert_int_eq(listener_renew(device), -ENOENT);
	ck_assert_msg(is_there("others/s"), "it was removed for its group");
}
END_TEST

/* Which of two sockets of ours is its own, only root can ask. */
START_TEST(test_another_socket_of_ours_stays)
{
	int other = listen_at(in_folder("others/s")), fd;

	if (geteuid() != 0)
		printf("# SKIP it takes root\n");
	turn_to("own");
	fd = make(in_folder("way/s"));
	turn_to("others");
	listener_leave(device_at(in_folder("way/s")), fd);
	ck_assert(is_there("others/s") || geteuid() != 0);
	fd_close(fd);
	fd_close(other);
}
END_TEST

/* covers: P4 */
START_TEST(test_path_that_turns_after_the_look)
{
	int other = listen_at(in_folder("others/s")), fd;

	turn_to("own");
	fd = make(in_folder("way/s"));
	turns_at_look = true;
	listener_leave(device_at(in_folder("way/s")), fd);
	turns_at_look = false;
	ck_assert(is_there("others/s"));
	ck_assert(!is_there("own/s"));
	fd_close(fd);
	fd_close(other);
}
END_TEST

START_TEST(test_path_that_leads_nowhere)
{
	ck_assert_int_eq(make(in_folder("nowhere/s")), -ENOENT);
	ck_assert_int_eq(mkdir(in_folder("own/s"), 0700), 0);
	ck_assert_int_eq(make(in_folder("own/s")), -EEXIST);
	ck_assert_int_eq(rmdir(in_folder("own/s")), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("listener");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_dead_socket_is_replaced);
	tcase_add_test(tc, test_live_socket_is_left_alone);
	tcase_add_test(tc, test_nothing_is_removed_where_nothing_was_asked);
	tcase_add_test(tc, test_file_goes_with_the_last_who_listens);
	tcase_add_test(tc, test_file_goes_with_its_device);
	tcase_add_test(tc, test_file_that_cannot_get_its_group_goes);
	tcase_add_test(tc, test_what_another_put_at_the_path_stays);
	tcase_add_test(tc, test_another_socket_of_ours_stays);
	tcase_add_test(tc, test_path_that_turns_after_the_look);
	tcase_add_test(tc, test_path_that_leads_nowhere);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("listener", add_tests);
}
