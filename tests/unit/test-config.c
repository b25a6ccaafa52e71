/* A guest's file: what it says, and what an operator is told who made a mistake in it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "config/roles.h"
#include "config/values.h"
#include "lib/run.h"

#define NAME32 "n2345678901234567890123456789012"
#define PATH107                                                                                    \
	"/567890123456789012345678901234567890123456789012345"                                     \
	"67890123456789012345678901234567890123456789012345.sock"
#define WL_DEVICE "[device a]\ntype = wl\nsocket = /a\nwayland = /w\n"
#define OK_DEVICE "[device a]\ntype = net\nsocket = /a\nbackend = echo\n"

static char dir[] = "/tmp/test-config-XXXXXX";
static char path[64];

static int load(const char *name, const char *text, struct config **ret_config, char **ret_error)
{
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
	return config_load(path, ret_config, ret_error);
}

static struct config *load_good(const char *text)
{
	struct config *config = NULL;
	_cleanup_free_ char *error = NULL;

	if (load("vm1.conf", text, &config, &error))
		ck_abort_msg("%s", error);
	ck_assert_ptr_null(error);
	return config;
}

/* --- What is right --- */

START_TEST(test_a_full_section_is_read)
{
	struct config *config = load_good(
		"; a comment\n\n[device net0]\n"
		"mac = 52:54:00:Ab:cd:ef ; behind a value\nmtu = 1500\nqueue-pairs=2\n  tap\t=  vm1-net0\n"
		"socket-group = kvm\nstandby = yes\nmode = client\nsocket = /run/vm1/net0.sock\ntype = net\n");
	const struct config_device *device = config_device(config, "net0");
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xab, 0xcd, 0xef };

	ck_assert_str_eq(config->guest, "vm1");
	ck_assert_str_eq(config->path, path);
	ck_assert_uint_eq(config->n_devices, 1);
	ck_assert_str_eq(device->type, "net");
	ck_assert_str_eq(device->socket, "/run/vm1/net0.sock");
	ck_assert_str_eq(device->socket_group, "kvm");
	ck_assert(device->client && device->standby);
	ck_assert_str_eq(config_value(device, "backend")->text, "tap");
	ck_assert_str_eq(config_value(device, "tap")->text, "vm1-net0");
	ck_assert_uint_eq(config_value(device, "mtu")->number, 1500);
	ck_assert_uint_eq(config_value(device, "queue-pairs")->number, 2);
	ck_assert_mem_eq(&config_value(device, "mac")->number, mac, 6);
	config_free(config);
}
END_TEST

START_TEST(test_access_to_a_socket_is_read)
{
	struct config *config = load_good(OK_DEVICE "socket-user = root\nsocket-mode = 0600\n");
	const struct config_device *device = config_device(config, "a");

	ck_assert_str_eq(device->socket_user, "root");
	ck_assert_uint_eq(device->socket_mode, 0600);
	config_free(config);
}
END_TEST

START_TEST(test_members_of_a_key_are_read)
{
	struct config *config = load_good(WL_DEVICE "wayland.b = /x\nwayland.a.1 = /y\n");
	const struct config_device *device = config_device(config, "a");
	const struct config_value *b = config_member(device, "wayland", NULL);
	const struct config_value *a = config_member(device, "wayland", b);

	ck_assert_str_eq(config_value(device, "wayland")->text, "/w");
	ck_assert_str_eq(b->member, "b");
	ck_assert_str_eq(b->text, "/x");
	ck_assert_str_eq(a->member, "a.1");
	ck_assert_str_eq(a->text, "/y");
	ck_assert_ptr_null(config_member(device, "wayland", a));
	ck_assert_ptr_null(config_member(device, "vfds", NULL));
	config_free(config);
	config_free(load_good("[device a]\ntype = wl\nsocket = /a\nwayland.b = /x\n"));
}
END_TEST

START_TEST(test_file_of_another_system_is_read)
{
	struct config *config = load_good(
		"\xef\xbb\xbf[device a]\r\ntype = net \r\nsocket = /a\t\r\nbackend = echo\r\n");

	ck_assert_str_eq(config_device(config, "a")->socket, "/a");
	ck_assert_str_eq(config_value(config_device(config, "a"), "backend")->text, "echo");
	config_free(config);
}
END_TEST

START_TEST(test_what_is_not_given_has_its_default)
{
	struct config *config = load_good(OK_DEVICE);
	const struct config_device *device = config_device(config, "a");

	ck_assert(!device->client && !device->standby && !device->socket_group);
	ck_assert_uint_eq(device->socket_mode, 0660);
	ck_assert_ptr_null(device->socket_user);
	ck_assert_uint_eq(config_value(device, "queue-pairs")->number, 1);
	ck_assert(!config_value(device, "queue-pairs")->given);
	ck_assert_ptr_null(config_value(device, "mtu")->text);
	ck_assert_ptr_null(config_device(config, "b"));
	config_free(config);
}
END_TEST

START_TEST(test_address_follows_from_the_names)
{
	static const char text[] =
		OK_DEVICE "[device b]\ntype = net\nsocket = /b\nbackend = null\n";
	struct config *first = load_good(text), *again = load_good(text);
	uint64_t a = config_value(config_device(first, "a"), "mac")->number;
	uint64_t b = config_value(config_device(first, "b"), "mac")->number;

	ck_assert_uint_eq(a, config_value(config_device(again, "a"), "mac")->number);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_eq(a & 3, 2);
	ck_assert_uint_eq(b & 3, 2);
	config_free(first);
	config_free(again);
}
END_TEST

START_TEST(test_the_limits_themselves_are_allowed)
{
	struct config *config = load_good(
		"[device " NAME32 "]\ntype = net\nsocket = " PATH107 "\n"
		"tap = a23456789012345\nmtu = 65535\nqueue-pairs = 64\n"
		"[device b]\ntype = net\nsocket = /b\nbackend = null\nmtu = 68\ngenerate = 60\n");

	ck_assert_uint_eq(strlen(PATH107), 107);
	ck_assert_uint_eq(config->n_devices, 2);
	config_free(config);
}
END_TEST

/* --- What is wrong: text, and what is said after the file's name --- */

static const struct {
	const char *text;
	const char *errors[4];
} wrong[] = {
	{ "", { ": no [device NAME] section; a guest needs at least one device" } },
	{ "type = net\n", { ":1: 'type' stands before any [device NAME] section" } },
	{ OK_DEVICE "no equals sign\n",
		{ ":5: not understood; a line is 'key = value' or '[device NAME]'" } },
	{ "[disk a]\nsocket = /a\n",
		{ ":1: [disk a]: unknown section; sections are called [device NAME]" } },
	{ "[device -a]\n",
		{ ":1: [device -a]: a name has 1 to 32 letters, digits, '_', '-' or '.', "
		  "beginning with a letter or digit" } },
	{ "[device a/b]\n",
		{ ":1: [device a/b]: a name has 1 to 32 letters, digits, '_', '-' or '.', "
		  "beginning with a letter or digit" } },
	{ "[device " NAME32 "3]\n",
		{ ":1: [device " NAME32 "3]: a name has 1 to 32 letters, digits, '_', "
		  "'-' or '.', beginning with a letter or digit" } },
	{ "[device a\ntype = net\nsocket = /a\nbackend = echo\n",
		{ ":1: [device a: the bracket is not closed; write [device NAME]" } },
	{ OK_DEVICE " [device b ; b]\r\ntype = net\nsocket = /b\nbackend = echo\n",
		{ ":5: [device b ; b]: the bracket is not closed; write [device NAME]" } },
	{ "[\n", { ":1: [: the bracket is not closed; write [device NAME]" } },
	{ "[device memory]\n",
		{ ":1: [device memory]: this name is taken by a process; choose another" } },
	{ "[device frontend]\n",
		{ ":1: [device frontend]: this name is taken by a process; choose another" } },
	{ OK_DEVICE "\n[device a]\n", { ":6: [device a] is given twice; rename or remove one" } },
	{ OK_DEVICE "[device b]\ntype = net\nsocket = /a\nbackend = echo\n",
		{ ":5: [device b] has the same socket as [device a]; each needs its own" } },
	{ OK_DEVICE "[device b]\ntype = net\nsocket = //no/such/.././../a\nbackend = echo\n",
		{ ":5: [device b] has the same socket as [device a]; each needs its own" } },
	{ "[device a]\ntype = net\nsocket = /a\ntap = t\n"
	  "[device b]\ntype = net\nsocket = /b\ntap = t\n",
		{ ":5: [device b] has the same tap as [device a]; each needs its own" } },
	{ "[device a]\nbackend = echo\n",
		{ ":1: [device a] has no 'socket'; add socket = /path",
			":1: [device a] has no 'type'; add type = net" } },
	{ "[device a]\ntype = nte\nsocket = /a\n",
		{ ":1: [device a]: unknown type 'nte'; did you mean 'net'?" } },
	{ OK_DEVICE "socket = a.sock\n", { ":5: socket = a.sock: must be an absolute path" } },
	{ "[device a]\ntype = net\nbackend = echo\nsocket = " PATH107 "x\n",
		{ ":4: socket = " PATH107
		  "x: a socket path may have at most 107 characters, this has 108" } },
	/* a key that must be there and is misspelt is told once */
	{ "[device a]\ntyp = net\nsocket = /a\nbackend = echo\n",
		{ ":2: unknown key 'typ' in [device a]; did you mean 'type'?" } },
	{ "[device a]\ntype = net\nsockt = /a\nbackend = echo\n",
		{ ":3: unknown key 'sockt' in [device a]; did you mean 'socket'?" } },
	{ "[device a]\ntype = net\nsocket =\nbackend = echo\n",
		{ ":3: socket = : must be an absolute path" } },
	{ OK_DEVICE "mode = both\n",
		{ ":5: mode = both: must be 'server' (we listen) or 'client' (we connect)" } },
	{ OK_DEVICE "standby = 1\n", { ":5: standby = 1: must be 'yes' or 'no'" } },
	{ OK_DEVICE "type = net\n", { ":5: type is given twice in [device a]; remove one" } },
	{ OK_DEVICE "socket = /b\n", { ":5: socket is given twice in [device a]; remove one" } },
	{ OK_DEVICE "mode = server\nmode = client\n",
		{ ":6: mode is given twice in [device a]; remove one" } },
	{ OK_DEVICE "standby = no\nstandby = yes\n",
		{ ":6: standby is given twice in [device a]; remove one" } },
	{ OK_DEVICE "socket-mode = 0777\n",
		{ ":5: socket-mode = 0777: must be 0600 (only socket-user connects), 0660 (and socket-group) or 0666 (everyone)" } },
	{ OK_DEVICE "socket-mode = 0660\nsocket-mode = 0600\n",
		{ ":6: socket-mode is given twice in [device a]; remove one" } },
	{ OK_DEVICE "mode = client\nsocket-user = root\n",
		{ ":6: [device a]: with mode = client the VMM makes the socket; remove socket-user and socket-mode" } },
	{ OK_DEVICE "socket-user = a\nsocket-user = b\n",
		{ ":6: socket-user is given twice in [device a]; remove one" } },
	{ OK_DEVICE "socket-group = a\nsocket-group = b\n",
		{ ":6: socket-group is given twice in [device a]; remove one" } },
	{ OK_DEVICE "mtu = 1500\nmtu = 1500\n",
		{ ":6: mtu is given twice in [device a]; remove one" } },
	{ OK_DEVICE "queue-pair = 2\n",
		{ ":5: unknown key 'queue-pair' in [device a]; did you mean 'queue-pairs'?" } },
	{ OK_DEVICE "queues = 2\n",
		{ ":5: unknown key 'queues' in [device a]; did you mean 'queue-pairs'?" } },
	{ OK_DEVICE "group = kvm\n",
		{ ":5: unknown key 'group' in [device a]; did you mean 'socket-group'?" } },
	{ OK_DEVICE "socket-grp = kvm\n",
		{ ":5: unknown key 'socket-grp' in [device a]; did you mean 'socket-group'?" } },
	{ "[device a]\ntype = gpu\nsocket = /a\n",
		{ ":1: [device a]: unknown type 'gpu'; it can be one of net, wl, null" } },
	{ "[device a]\ntype = net\nsocket = /a\nbackend = passthrough\n",
		{ ":4: backend = passthrough: not a backend; it can be one of tap, echo, null" } },
	{ "[device a]\ntype = net\nsocket = \"/a\"\nbackend = echo\n",
		{ ":3: socket = \"/a\": a value stands without quotes; write socket = /a" } },
	{ "[device a]\ntype = 'net'\nsocket = /a\nbackend = echo\n",
		{ ":2: type = 'net': a value stands without quotes; write type = net" } },
	{ "\xff\xfe[\n", { ":1: the file is in UTF-16; save it as UTF-8" } },
	{ OK_DEVICE "sokcet = /b\n",
		{ ":5: unknown key 'sokcet' in [device a]; did you mean 'socket'?" } },
	{ OK_DEVICE "stanby = yes\n",
		{ ":5: unknown key 'stanby' in [device a]; did you mean 'standby'?" } },
	{ OK_DEVICE "MTU = 1500\n",
		{ ":5: unknown key 'MTU' in [device a]; did you mean 'mtu'?" } },
	{ OK_DEVICE "max = 52:54:00:12:34:56\n",
		{ ":5: unknown key 'max' in [device a]; did you mean 'mac'?" } },
	{ "[device a]\ntype = net\nsocket = /a\nbackend = ecoh\n",
		{ ":4: backend = ecoh: not a backend; did you mean 'echo'?" } },
	{ OK_DEVICE "mtu = 67\n", { ":5: mtu = 67: must be a number from 68 to 65535" } },
	{ OK_DEVICE "mtu = 65536\n", { ":5: mtu = 65536: must be a number from 68 to 65535" } },
	{ OK_DEVICE "mtu = 1500 bytes\n",
		{ ":5: mtu = 1500 bytes: must be a number from 68 to 65535" } },
	{ OK_DEVICE "mtu = -1\n", { ":5: mtu = -1: must be a number from 68 to 65535" } },
	{ OK_DEVICE "mtu = 0x600\n", { ":5: mtu = 0x600: must be a number from 68 to 65535" } },
	{ OK_DEVICE "mtu = 18446744073709551616\n",
		{ ":5: mtu = 18446744073709551616: must be a number from 68 to 65535" } },
	{ OK_DEVICE "queue-pairs = 0\n", { ":5: queue-pairs = 0: must be a number from 1 to 64" } },
	{ OK_DEVICE "queue-pairs = 65\n",
		{ ":5: queue-pairs = 65: must be a number from 1 to 64" } },
	{ OK_DEVICE "mac = 52:54:00:12:34\n",
		{ ":5: mac = 52:54:00:12:34: must be a unicast MAC address like 52:54:00:12:34:56" } },
	{ OK_DEVICE "mac = 53:54:00:12:34:56\n",
		{ ":5: mac = 53:54:00:12:34:56: must be a unicast MAC address like 52:54:00:12:34:56" } },
	{ OK_DEVICE "mac = 00:00:00:00:00:00\n",
		{ ":5: mac = 00:00:00:00:00:00: must be a unicast MAC address like 52:54:00:12:34:56" } },
	{ OK_DEVICE "mac = 52:54: 0:12:34:+6\n",
		{ ":5: mac = 52:54: 0:12:34:+6: must be a unicast MAC address like 52:54:00:12:34:56" } },
	{ OK_DEVICE "mac = 52-54-00-12-34-56\n",
		{ ":5: mac = 52-54-00-12-34-56: must be a unicast MAC address like 52:54:00:12:34:56" } },
	{ OK_DEVICE "tap = a234567890123456\n",
		{ ":5: tap = a234567890123456: must be an interface name of at most 15 characters" } },
	{ OK_DEVICE "tap = a/b\n",
		{ ":5: tap = a/b: must be an interface name of at most 15 characters" } },
	{ "[device a]\ntype = net\nsocket = /a\n",
		{ ":1: [device a]: backend = tap needs 'tap = INTERFACE'" } },
	{ OK_DEVICE "generate = 64\n",
		{ ":1: [device a]: 'generate' goes with backend = null only" } },
	{ OK_DEVICE "copy = yes\n", { ":1: [device a]: 'copy' goes with backend = null only" } },
	{ "[device a]\ntype = wl\nsocket = /a\n",
		{ ":1: [device a]: needs a compositor: add wayland = /path/of/its/socket" } },
	{ WL_DEVICE "wayland.b = x\n",
		{ ":5: wayland.b = x: must be an absolute path of at most 4095 characters" } },
	{ WL_DEVICE "wayland.b = /x\nwayland.b = /y\n",
		{ ":6: wayland.b is given twice in [device a]; remove one" } },
	{ WL_DEVICE "wayland. = /x\n",
		{ ":5: unknown key 'wayland.' in [device a]; did you mean 'wayland'?" } },
	{ WL_DEVICE "vfds.a = 16\n",
		{ ":5: unknown key 'vfds.a' in [device a]; did you mean 'vfds'?" } },
	/* all mistakes of a file are told, and what is right between them is not */
	{ "[device a]\ntype = net\nsocket = /a\nbakend = echo\nmtu = 9\n[device b]\ntype = net\nmode = c\n",
		{ ":8: mode = c: must be 'server' (we listen) or 'client' (we connect)",
			":4: unknown key 'bakend' in [device a]; did you mean 'backend'?",
			":5: mtu = 9: must be a number from 68 to 65535",
			":6: [device b] has no 'socket'; add socket = /path" } },
};

START_TEST(test_mistake_is_told_with_file_and_line)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;
	size_t n = strlen(dir) + strlen("/vm1.conf");
	char *line, *rest;

	ck_assert_int_eq(load("vm1.conf", wrong[_i].text, &config, &error), -EINVAL);
	ck_assert_ptr_null(config);
	rest = error;
	for (size_t i = 0; i < ARRAY_SIZE(wrong[_i].errors) && wrong[_i].errors[i]; i++) {
		line = strsep(&rest, "\n");
		ck_assert_ptr_nonnull(line);
		ck_assert_int_eq(strncmp(line, path, n), 0);
		ck_assert_str_eq(line + n, wrong[_i].errors[i]);
	}
	if (rest)
		ck_abort_msg("also told: %s", rest);
}
END_TEST

START_TEST(test_line_too_long_is_told_once)
{
	_cleanup_free_ char *error = NULL, *text = NULL;
	struct config *config = NULL;
	char *at;

	text = malloc(sizeof(OK_DEVICE) + 5000);
	ck_assert_ptr_nonnull(text);
	at = stpcpy(text, OK_DEVICE);
	memset(at, 'x', 4000);
	memcpy(at + 4000, "\nmtu = 1\n", sizeof("\nmtu = 1\n"));
	ck_assert_int_eq(load("vm1.conf", text, &config, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "/vm1.conf:5: the line is longer than "));
	at = strchr(error, '\n');
	ck_assert_ptr_nonnull(at);
	ck_assert_ptr_nonnull(strstr(at,
		"/vm1.conf:6: mtu = 1: must be a number from 68 to 65535"));
	ck_assert_ptr_null(strchr(at + 1, '\n'));
}
END_TEST

/* --- Kinds that no type has a key of yet --- */

static const struct config_key path_key = { "file", CONFIG_KIND_PATH, NULL };
static const struct config_key size_key = { "size", CONFIG_KIND_SIZE, NULL, 512,
	UINT64_C(16) << 30 };
static const struct config_key any_size = { "size", CONFIG_KIND_SIZE, NULL, 0, UINT64_MAX };
static const struct config_key bool_key = { "read-only", CONFIG_KIND_BOOL, NULL };

#define NOT_A_SIZE "must be a size from 512 to 16G, in bytes or with K, M or G behind the number"
#define NOT_A_PATH "must be an absolute path of at most 4095 characters"
#define NOT_A_BOOL "must be 'yes' or 'no'"

/** struct kind_row - a value, and what is made of it */
static const struct kind_row {
	const struct config_key *key;
	const char *text;
	const char *wrong; /* NULL: it is right */
	uint64_t number;
} kinds[] = {
	{ &path_key, "/", NULL, 0 },
	{ &path_key, "/var/lib/vm1/disk image.raw", NULL, 0 },
	{ &path_key, "disk.raw", NOT_A_PATH, 0 },
	{ &path_key, "./disk.raw", NOT_A_PATH, 0 },
	{ &path_key, "", NOT_A_PATH, 0 },
	{ &size_key, "512", NULL, 512 },
	{ &size_key, "4K", NULL, 4096 },
	{ &size_key, "10M", NULL, 10 << 20 },
	{ &size_key, "16G", NULL, UINT64_C(16) << 30 },
	{ &size_key, "511", NOT_A_SIZE, 0 },
	{ &size_key, "17G", NOT_A_SIZE, 0 },
	{ &size_key, "16777217K", NOT_A_SIZE, 0 },
	{ &size_key, "4k", NOT_A_SIZE, 0 },
	{ &size_key, "4KB", NOT_A_SIZE, 0 },
	{ &size_key, "4 K", NOT_A_SIZE, 0 },
	{ &size_key, "4.5M", NOT_A_SIZE, 0 },
	{ &size_key, "-4K", NOT_A_SIZE, 0 },
	{ &size_key, "+4K", NOT_A_SIZE, 0 },
	{ &size_key, "0x1000", NOT_A_SIZE, 0 },
	{ &size_key, "K", NOT_A_SIZE, 0 },
	{ &size_key, "", NOT_A_SIZE, 0 },
	{ &any_size, "0", NULL, 0 },
	{ &any_size, "18446744073709551615", NULL, UINT64_MAX },
	{ &any_size, "17179869183G", NULL, UINT64_C(17179869183) << 30 },
	{ &any_size, "17179869184G",
		"must be a size from 0 to 18446744073709551615, in bytes or with K, M or G "
		"behind the number",
		0 },
	{ &any_size, "18446744073709551616",
		"must be a size from 0 to 18446744073709551615, in bytes or with K, M "
		"or G behind the number",
		0 },
	{ &bool_key, "yes", NULL, 1 },
	{ &bool_key, "no", NULL, 0 },
	{ &bool_key, "Yes", NOT_A_BOOL, 0 },
	{ &bool_key, "1", NOT_A_BOOL, 0 },
	{ &bool_key, "", NOT_A_BOOL, 0 },
};

START_TEST(test_value_is_judged_by_its_kind)
{
	const struct kind_row *row = &kinds[_i];
	struct config_value value = { .text = (char *)row->text };
	char text[256] = "";

	ck_assert_int_eq(value_judge(row->key, &value, text, sizeof(text)), !row->wrong);
	ck_assert_str_eq(text, row->wrong ?: "");
	if (!row->wrong)
		ck_assert_uint_eq(value.number, row->number);
}
END_TEST

START_TEST(test_processes_of_a_guest_are_those_of_table_and_file)
{
	static const char *const wanted[][3] = { { "memory", "memory", "vm1" },
		{ "frontend", "frontend", "vm1" }, { "snapshot", "snapshot", "vm1" },
		{ "net", "a", "vm1:a" }, { "net", "a+standby", "vm1:a:standby" },
		{ "net", "b", "vm1:b" } };
	struct config *config =
		load_good("[device a]\ntype = net\nsocket = /a\nbackend = null\nstandby = yes\n"
			  "[device b]\ntype = net\nsocket = /b\nbackend = null\n");
	struct process process = { 0 };
	char peer[64];

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		ck_assert(process_next(config, &process));
		ck_assert_str_eq(process.role->name, wanted[i][0]);
		ck_assert_str_eq(process.peer, wanted[i][1]);
		ck_assert_str_eq(process.instance, wanted[i][2]);
		process_peer(process.role->name, process.instance, peer, sizeof(peer));
		ck_assert_str_eq(peer, process.peer);
	}
	ck_assert(!process_next(config, &process));
	config_free(config);
}
END_TEST

START_TEST(test_65_devices_are_too_many)
{
	static char text[65 * 64];
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;
	char *at = text;

	for (int i = 0; i < 64; i++)
		at += sprintf(at, "[device d%d]\ntype=net\nsocket=/%d\nbackend=echo\n", i, i);
	config = load_good(text);
	ck_assert_uint_eq(config->n_devices, 64);
	config = config_free(config);
	sprintf(at, "[device more]\ntype = net\n");
	ck_assert_int_eq(load("vm1.conf", text, &config, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error,
		"/vm1.conf:257: [device more]: a guest may have at most 64 devices"));
}
END_TEST

START_TEST(test_file_that_cannot_be_read_is_told)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;

	ck_assert_int_eq(config_load("/nowhere/vm1.conf", &config, &error), -ENOENT);
	ck_assert_str_eq(error,
		"/nowhere/vm1.conf: cannot be read: No such file or directory; "
		"check its name");
}
END_TEST

START_TEST(test_file_must_be_named_as_a_guest)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;

	ck_assert_int_eq(load("a b.conf", OK_DEVICE, &config, &error), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "is not a valid name: 'a b'"));
}
END_TEST

static void tear_down(void)
{
	unlink(path);
}

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("config");

	tcase_add_checked_fixture(tc, NULL, tear_down);
	tcase_add_test(tc, test_a_full_section_is_read);
	tcase_add_test(tc, test_access_to_a_socket_is_read);
	tcase_add_test(tc, test_members_of_a_key_are_read);
	tcase_add_test(tc, test_file_of_another_system_is_read);
	tcase_add_test(tc, test_what_is_not_given_has_its_default);
	tcase_add_test(tc, test_address_follows_from_the_names);
	tcase_add_test(tc, test_the_limits_themselves_are_allowed);
	tcase_add_loop_test(tc, test_mistake_is_told_with_file_and_line, 0, ARRAY_SIZE(wrong));
	tcase_add_test(tc, test_line_too_long_is_told_once);
	tcase_add_loop_test(tc, test_value_is_judged_by_its_kind, 0, ARRAY_SIZE(kinds));
	tcase_add_test(tc, test_processes_of_a_guest_are_those_of_table_and_file);
	tcase_add_test(tc, test_65_devices_are_too_many);
	tcase_add_test(tc, test_file_that_cannot_be_read_is_told);
	tcase_add_test(tc, test_file_must_be_named_as_a_guest);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	int r = EXIT_FAILURE;

	if (mkdtemp(dir))
		r = run_main("config", add_tests);
	(void)rmdir(dir);
	return r;
}
