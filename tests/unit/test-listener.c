/*
 * What a listener does with the file at its path. The owner of a folder above may turn the path
 * elsewhere between any two calls: here connect() does.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"
#include "lib/run.h"
#include "listener.h"

static char folder[64];
static bool turns; /* the path leads to the dead socket while the listener asks it */

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
	turns = false;
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

static int make(const char *where)
{
	char path[128];
	const struct config_device device = { .name = (char *)"net0", .socket = path };

	snprintf(path, sizeof(path), "%s", where);
	return listener_renew(&device);
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
	tcase_add_test(tc, test_path_that_leads_nowhere);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("listener", add_tests);
}
