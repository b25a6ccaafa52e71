/*
 * The socket's file goes, or something else is put in its place: it is made again, and who is
 * connected is not touched.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rig.h"

#define PATIENCE_MS 20000

static struct net n;

static void move_away(const char *path)
{
	char other[160];

	(void)snprintf(other, sizeof(other), "%s.old", path);
	ck_assert_int_eq(rename(path, other), 0);
	unlink(other);
}

static void put_file_there(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	poll(NULL, 0, 300);
	unlink(path);
}

/* Somebody else's, who does not serve it any more. */
static void put_socket_there(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s.new", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(rename(addr.sun_path, path), 0);
	close(fd);
}

static void remove_file(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
}

static void (*const ways[])(const char *path) = { remove_file, move_away, put_file_there,
	put_socket_there };

/* vu_connect() tries until somebody listens. */
static void connect_again(void)
{
	struct net_profile p = { 0 };
	struct stat st;

	rig_ok(net_init(&n, &p), n.why);
	n.c.timeout_ms = PATIENCE_MS;
	rig_ok(vu_connect(&n.c, rig_socket()), n.c.why);
	ck_assert_int_eq(stat(rig_socket(), &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0660);
	vu_close(&n.c);
	net_close(&n);
	rig_check_net0();
}

START_TEST(test_file_that_goes_is_made_again)
{
	for (int i = 0; i < 3; i++) {
		ways[_i](rig_socket());
		connect_again();
	}
}
END_TEST

START_TEST(test_vmm_that_is_connected_does_not_notice)
{
	struct net_profile p = { 0 };

	rig_open(&n, &p);
	ways[_i](rig_socket());
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	rig_ok(net_stop_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
	connect_again();
}
END_TEST

START_TEST(test_file_that_goes_while_nobody_looks_is_made_again)
{
	rig_ok(suite_kill_for_good(&rig, "frontend", NULL), rig.why);
	ways[_i](rig_socket());
	suite_go_on(&rig);
	connect_again();
}
END_TEST

/* As a VMM's user may have it. */
static void open_directory(mode_t mode)
{
	ck_assert_int_eq(chmod(rig.dir, mode), 0);
}

static void set_up(void)
{
	open_directory(0777);
}

static void tear_down(void)
{
	open_directory(0711);
}

/* Where only whoever started us may make files, the frontend starts anew. */
START_TEST(test_file_in_a_directory_of_roots_is_made_again)
{
	struct net_profile p = { 0 };

	open_directory(0711);
	rig_open(&n, &p);
	ways[_i](rig_socket());
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
	connect_again();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "socket file"), *deaths = tcase_create("deaths");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_file_that_goes_is_made_again, 0, 2);
	tcase_add_loop_test(tc, test_vmm_that_is_connected_does_not_notice, 0, 2);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_file_that_goes_while_nobody_looks_is_made_again, 0, 4);
	tcase_add_loop_test(deaths, test_file_in_a_directory_of_roots_is_made_again, 0, 4);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("socket-file", &net0, add);
}
