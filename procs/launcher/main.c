/*
 * The `bulkhead` command: `run` serves guests that files describe, `device` serves one device that
 * options describe, as management software starts vhost-user back-ends. Both run the same
 * processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "config/keys.h"
#include "config/nearest.h"
#include "config/roles.h"
#include "launcher.h"
#include "state.h"

static const char help[] =
	"Usage: bulkhead run FILE...            serve the guests that the files describe\n"
	"       bulkhead device TYPE OPTION...  serve one device\n"
	"\n"
	"Both run in the foreground until SIGTERM or SIGINT; see bulkhead(1).\n"
	"\n"
	"  --runtime-dir=DIR     where the suite's sockets are made (default " BULKHEAD_RUNDIR ")\n"
	"  --libexec-dir=DIR     where the suite's programs are\n"
	"  --watchdog=SECONDS    how long a process may give no sign of life (default 20; 0: no limit)\n"
	"  --help, --version\n"
	"\n"
	"Options of `device`:\n"
	"  --socket-path=PATH    listen for the VMM here, or\n"
	"  --fd=N                take this descriptor: a listening or connected vhost-user socket\n"
	"  --print-capabilities  say in JSON what this program can do, and exit\n"
	"  --tap-fd=N            net: take this descriptor of a TAP instead of --tap=NAME; once for each queue pair\n"
	"  --wayland-sock=PATH[,name=NAME]\n"
	"                        wl: a compositor's socket, as --wayland=PATH; once for each name\n"
	"  and the keys of the type, as in bulkhead.conf(5):\n";

enum {
	OPT_RUNTIME = 256,
	OPT_LIBEXEC,
	OPT_HELP,
	OPT_VERSION,
	OPT_FD,
	OPT_TAP_FD,
	OPT_SOCKET,
	OPT_WAYLAND,
	OPT_WATCHDOG,
	OPT_TAKES_OVER,
	OPT_KEY
};

static const struct option own_options[] = {
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME },
	{ "libexec-dir", required_argument, NULL, OPT_LIBEXEC },
	{ "watchdog", required_argument, NULL, OPT_WATCHDOG },
	{ "takes-over", required_argument, NULL, OPT_TAKES_OVER },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "tap-fd", required_argument, NULL, OPT_TAP_FD },
	{ "socket-path", required_argument, NULL, OPT_SOCKET },
	{ "wayland-sock", required_argument, NULL, OPT_WAYLAND },
};

#define FDS_MAX 65
#define KEYS_MAX 32
#define OPTIONS_MAX 128
#define WATCHDOG_SEC 20 /* a sign of life after half of this wakes the keeper */
#define WATCHDOG_MAX_SEC 86400

/** struct arguments - the command line */
struct arguments {
	struct launch launch;
	const char *socket;
	const char *keys[KEYS_MAX], *values[KEYS_MAX];
	size_t n_keys;
	struct launch_fd fds[FDS_MAX];
	char fd_names[FDS_MAX][24];
	size_t n_tap_fds;
	char tap_name[IFNAMSIZ];            /* the interface of the descriptors of --tap-fd */
	const struct role *role;            /* `device`: its type */
	struct option options[OPTIONS_MAX]; /* own_options, and the keys of all types */
	bool done;                          /* --help and the like */
	bool cannot;                        /* --takes-over: not in that form */
};

static void print_help(FILE *f)
{
	fputs(help, f);
	for (size_t i = 0; i < N_ROLES; i++) {
		if (!roles[i].per_device)
			continue;
		fprintf(f, "  %s:", roles[i].name);
		for (size_t j = 0; j < roles[i].type->n_keys; j++)
			fprintf(f, " --%s=", roles[i].type->keys[j].name);
		fputc('\n', f);
	}
}

static int option_of(int fd, int name)
{
	int value = -1;
	socklen_t n = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &n) < 0 ? -1 : value;
}

/* The name under which the frontend finds it. */
static int judge_socket(struct arguments *args, int fd, char *buf, size_t n)
{
	if (option_of(fd, SO_DOMAIN) != AF_UNIX || option_of(fd, SO_TYPE) != SOCK_STREAM) {
		log_error("--fd=%d: must be a UNIX stream socket, listening or connected", fd);
		return -ENOTSOCK;
	}
	if (args->n_tap_fds < args->launch.n_fds) {
		log_error("--fd is given twice; one device has one socket");
		return -EINVAL;
	}
	snprintf(buf, n, "%s",
		option_of(fd, SO_ACCEPTCONN) > 0 ? LAUNCH_LISTENER : LAUNCH_CONNECTION);
	return 0;
}

/* The name under which the worker finds it. */
static int judge_tap(struct arguments *args, int fd, char *buf, size_t n)
{
	struct ifreq ifr = { 0 };

	if (ioctl(fd, TUNGETIFF, &ifr) < 0 || !(ifr.ifr_flags & IFF_TAP) ||
		!(ifr.ifr_flags & IFF_NO_PI) || !(ifr.ifr_flags & IFF_VNET_HDR)) {
		log_error("--tap-fd=%d: must be a TAP, opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
			fd);
		return -EINVAL;
	}
	if (args->n_tap_fds && strcmp(args->tap_name, ifr.ifr_name) != 0) {
		log_error("--tap-fd=%d: is of '%s', and the one before of '%s'; a device has one TAP",
			fd, ifr.ifr_name, args->tap_name);
		return -EINVAL;
	}
	memcpy(args->tap_name, ifr.ifr_name, sizeof(args->tap_name));
	snprintf(buf, n, "tap.%zu.dev", args->n_tap_fds++);
	return 0;
}

static int take_fd(struct arguments *args, const char *text, bool tap)
{
	size_t i = args->launch.n_fds;
	char *end;
	long fd = strtol(text, &end, 10);
	int r;

	args->launch.fd_passed |= !tap;
	/* the former launcher handed it to its process already */
	if (args->launch.state_fd >= 0)
		return 0;
	if (*end || !*text || fd < 0 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0) {
		log_error("--%s=%s: not an open descriptor", tap ? "tap-fd" : "fd", text);
		return -EBADF;
	}
	if (i == FDS_MAX) {
		log_error("--tap-fd=%s: a device may have at most %d queue pairs", text,
			FDS_MAX - 1);
		return -E2BIG;
	}
	r = (tap ? judge_tap : judge_socket)(args, (int)fd, args->fd_names[i],
		sizeof(args->fd_names[i]));
	if (r < 0)
		return -EBADF;
	(void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	(void)fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) | O_NONBLOCK);
	args->fds[i] = (struct launch_fd){
		.role = tap ? "net" : "frontend", .name = args->fd_names[i], .fd = (int)fd
	};
	args->launch.n_fds++;
	return 0;
}

/* These characters mean something else in a configuration file. */
static int judge_text(const char *option, const char *text)
{
	if (text[strcspn(text, "\n;#")] == '\0')
		return 0;
	log_error("--%s: its value may not contain ';', '#' or an end of line", option);
	return -EBADF;
}

static int take_watchdog(struct arguments *args, const char *text)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);

	if (*end || !*text || *text == '-' || seconds > WATCHDOG_MAX_SEC) {
		log_error("--watchdog=%s: must be a number of seconds, at most %d", text,
			WATCHDOG_MAX_SEC);
		return -EBADF;
	}
	args->launch.watchdog_sec = (unsigned int)seconds;
	return 0;
}

static int take_key(struct arguments *args, const char *key, const char *text)
{
	if (args->n_keys == KEYS_MAX) {
		log_error("--%s=%s: a device has at most %d such options", key, text, KEYS_MAX);
		return -E2BIG;
	}
	args->keys[args->n_keys] = key;
	args->values[args->n_keys++] = text;
	return judge_text(key, text);
}

/* The texts live as long as the program. */
static int take_compositor(struct arguments *args, const char *text)
{
	static const char name[] = ",name=";
	const char *comma = strstr(text, name);
	char *key, *path;

	if (!comma)
		return take_key(args, "wayland", text);
	if (!config_check_name(comma + strlen(name))) {
		log_error("--wayland-sock=%s: must be PATH or PATH,name=NAME", text);
		return -EBADF;
	}
	path = strndup(text, (size_t)(comma - text));
	check(path && asprintf(&key, "wayland.%s", comma + strlen(name)) >= 0);
	return take_key(args, key, path);
}

static int take_option(struct arguments *args, int option, int index)
{
	switch (option) {
	case OPT_RUNTIME:
		args->launch.runtime_dir = optarg;
		return 0;
	case OPT_LIBEXEC:
		args->launch.libexec_dir = optarg;
		return 0;
	case OPT_HELP:
		print_help(stdout);
		args->done = true;
		return 0;
	case OPT_VERSION:
		puts("bulkhead " BULKHEAD_VERSION);
		args->done = true;
		return 0;
	case OPT_FD:
	case OPT_TAP_FD:
		return take_fd(args, optarg, option == OPT_TAP_FD);
	case OPT_SOCKET:
		args->socket = optarg;
		return judge_text("socket-path", optarg);
	case OPT_WAYLAND:
		return take_compositor(args, optarg);
	case OPT_WATCHDOG:
		return take_watchdog(args, optarg);
	case OPT_TAKES_OVER:
		args->done = true;
		args->cannot = !state_serves(optarg);
		return 0;
	case OPT_KEY:
		return take_key(args, args->options[index].name, optarg);
	default:
		return -EINVAL;
	}
}

static bool has_option(const struct arguments *args, const char *name)
{
	for (size_t i = 0; args->options[i].name; i++)
		if (strcmp(args->options[i].name, name) == 0)
			return true;
	return false;
}

/* The type may come last on the command line, so the keys of all types are accepted first. */
static void fill_options(struct arguments *args)
{
	size_t n = ARRAY_SIZE(own_options);

	memcpy(args->options, own_options, sizeof(own_options));
	for (size_t i = 0; i < N_ROLES; i++)
		for (size_t j = 0; roles[i].type && j < roles[i].type->n_keys; j++) {
			const char *key = roles[i].type->keys[j].name;

			check(n + 1 < OPTIONS_MAX);
			if (!has_option(args, key))
				args->options[n++] =
					(struct option){ key, required_argument, NULL, OPT_KEY };
		}
}

static int refuse_option(const char *option, int c)
{
	log_error("%s: %s; see 'bulkhead --help'", option,
		c == ':' ? "it needs a value" : "there is no such option, or not in this form");
	return -EINVAL;
}

static int parse(int argc, char *argv[], struct arguments *args)
{
	const char *state = getenv(LAUNCHER_STATE_ENV);
	int c, index = 0, r = 0;

	args->launch.runtime_dir = BULKHEAD_RUNDIR;
	args->launch.watchdog_sec = WATCHDOG_SEC;
	args->launch.fds = args->fds;
	args->launch.argv = argv;
	args->launch.state_fd = state ? atoi(state) : -1;
	(void)unsetenv(LAUNCHER_STATE_ENV);
	fill_options(args);
	while (r == 0 && !args->done &&
		(c = getopt_long(argc, argv, ":", args->options, &index)) >= 0)
		r = c == ':' || c == '?' ? refuse_option(argv[optind - 1], c)
					 : take_option(args, c, index);
	return r;
}

/* Management software starts a link to this program called vhost-user-TYPE; NULL: that is not our
 * name. */
static const char *wrapped_type(const char *program)
{
	const char *base = strrchr(program, '/') ? strrchr(program, '/') + 1 : program;
	size_t n = strlen("vhost-user-");

	return strncmp(base, "vhost-user-", n) == 0 ? base + n : NULL;
}

/* The type on the command line, or else the first in the table. */
static const char *named_type(int argc, char *argv[])
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "device") == 0 && role_of_type(argv[i + 1]))
			return argv[i + 1];
	return wrapped_type(argv[0]) ?: role_usual()->name;
}

/* Nothing else on the command line is looked at. */
static bool print_capabilities(int argc, char *argv[])
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--print-capabilities") == 0)
			return printf("{\n  \"type\": \"%s\",\n  \"features\": []\n}\n",
				       named_type(argc, argv)) >= 0;
	return false;
}

/* --- run --- */

static int run_files(int argc, char *argv[], struct arguments *args)
{
	if (optind >= argc) {
		log_error("'bulkhead run' needs at least one FILE; see 'bulkhead --help'");
		return EXIT_FAILURE;
	}
	if (args->n_keys || args->socket || args->launch.n_fds) {
		log_error("options of a device do not go with 'run'; write them into the FILE");
		return EXIT_FAILURE;
	}
	args->launch.files = (const char *const *)&argv[optind];
	args->launch.n_files = (size_t)(argc - optind);
	return launcher_run(&args->launch);
}

/* --- device --- */

/* The name may have a member behind a dot. */
static const struct config_key *find_key(const struct role *role, const char *name)
{
	size_t n = strcspn(name, ".");

	for (size_t i = 0; i < role->type->n_keys; i++)
		if (strncmp(role->type->keys[i].name, name, n) == 0 && !role->type->keys[i].name[n])
			return &role->type->keys[i];
	return NULL;
}

static const char *value_of(const struct arguments *args, const char *key)
{
	for (size_t i = 0; i < args->n_keys; i++)
		if (strcmp(args->keys[i], key) == 0)
			return args->values[i];
	return NULL;
}

/* The path of the socket that was passed; "" = it has none. */
static void path_of_passed(const struct arguments *args, char *buf, size_t n)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr) - 1;

	for (size_t i = 0; i < args->launch.n_fds; i++)
		if (strcmp(args->fds[i].role, "frontend") == 0)
			(void)getsockname(args->fds[i].fd, (struct sockaddr *)&addr, &len);
	snprintf(buf, n, "%s", *addr.sun_path ? addr.sun_path : addr.sun_path + 1);
}

/* What identifies the device: the path of its socket, or else its TAP. Both stay the same when the
 * device is served again. */
static const char *identity_of(const struct arguments *args, const char *socket, char *buf,
	size_t n)
{
	if (args->socket)
		return socket;
	path_of_passed(args, buf, n);
	if (*buf)
		return buf;
	return args->n_tap_fds ? args->tap_name : value_of(args, "tap") ?: "";
}

static void write_derived(const struct arguments *args, const char *socket, FILE *f)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)] = "", text[64];
	const char *identity = identity_of(args, socket, path, sizeof(path));

	for (size_t i = 0; i < args->role->type->n_keys && *identity; i++) {
		const struct config_key *key = &args->role->type->keys[i];

		if (!key->derive || value_of(args, key->name))
			continue;
		key->derive(identity, text, sizeof(text));
		fprintf(f, "%s = %s\n", key->name, text);
	}
}

/* The processes always read a file, so make one. */
static int write_file(const struct arguments *args, const char *socket, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	fprintf(f, "[device dev]\ntype = %s\nsocket = %s\n", args->role->name, socket);
	for (size_t i = 0; i < args->n_keys; i++)
		fprintf(f, "%s = %s\n", args->keys[i], args->values[i]);
	write_derived(args, socket, f);
	if (args->n_tap_fds)
		fprintf(f, "tap = %s\nqueue-pairs = %zu\n", args->tap_name, args->n_tap_fds);
	return fclose(f) == 0 ? 0 : -errno;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *place)
{
	return remove(path);
}

static void remove_dir(const char *dir)
{
	if (nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		log_warning("%s could not be removed: %s", dir, strerror(errno));
}

/* Make the guest's runtime folder, where bulkheadctl finds it, and the file in it. */
static int prepare_device(struct arguments *args, const char *dir, const char *path)
{
	_cleanup_free_ char *socket = NULL, *cwd = getcwd(NULL, 0);
	int r;

	if ((mkdir(args->launch.runtime_dir, 0755) < 0 && errno != EEXIST) ||
		mkdir(dir, 0750) < 0) {
		log_error("cannot make the directory %s: %s; choose another with --runtime-dir=DIR",
			dir, strerror(errno));
		return -errno;
	}
	if (!args->socket)
		check(asprintf(&socket, "%s/passed.sock", dir) >= 0);
	else if (*args->socket != '/')
		check(cwd && asprintf(&socket, "%s/%s", cwd, args->socket) >= 0);
	r = write_file(args, socket ?: args->socket, path);
	if (r < 0)
		log_error("cannot write %s: %s", path, strerror(-r));
	return r;
}

/* Mistakes that only options can have; the rest is judged with the file. */
static const char *judge_device(const struct arguments *args)
{
	const char *backend = value_of(args, "backend");
	bool tap = find_key(args->role, "tap") && (!backend || strcmp(backend, "tap") == 0);

	if (!args->socket && !args->launch.fd_passed)
		return "'bulkhead device' needs --socket-path=PATH or --fd=N; see 'bulkhead --help'";
	if (args->socket && args->launch.fd_passed)
		return "--socket-path and --fd do not go together; give one of them";
	if (args->n_tap_fds && (!tap || value_of(args, "tap") || value_of(args, "queue-pairs")))
		return "--tap-fd does not go with another --backend, --tap or --queue-pairs; give either";
	if (tap && !value_of(args, "tap") && !args->n_tap_fds && args->launch.state_fd < 0)
		return "'bulkhead device net' needs --tap=NAME or --tap-fd=N, or --backend=echo or null";
	return NULL;
}

static bool judge_options(const struct arguments *args)
{
	const char *wrong = judge_device(args);

	for (size_t i = 0; i < args->n_keys; i++)
		if (!find_key(args->role, args->keys[i])) {
			log_error("--%s does not go with 'bulkhead device %s'", args->keys[i],
				args->role->name);
			return false;
		}
	if (wrong)
		log_error("%s", wrong);
	return !wrong;
}

static int run_device(struct arguments *args)
{
	_cleanup_free_ char *guest = NULL, *dir = NULL, *path = NULL;
	struct launch launch = args->launch;
	const char *file;
	int r;

	if (!judge_options(args))
		return EXIT_FAILURE;
	check(asprintf(&guest, "device-%d", (int)getpid()) >= 0);
	check(asprintf(&dir, "%s/%s", launch.runtime_dir, guest) >= 0);
	check(asprintf(&path, "%s/%s.conf", dir, guest) >= 0);
	if (launch.state_fd < 0 && prepare_device(args, dir, path) < 0) {
		remove_dir(dir);
		return EXIT_FAILURE;
	}
	file = path;
	launch.files = &file;
	launch.n_files = 1;
	launch.from_options = true;
	r = launcher_run(&launch);
	remove_dir(dir);
	return r;
}

static int refuse_command(const char *command, const char *type)
{
	static const char *const commands[] = { "run", "device" };
	const char *types[N_ROLES];
	size_t n = role_types(types);
	char advice[256];

	if (!*command)
		log_error("'bulkhead' needs a command, for example 'bulkhead run FILE'; see 'bulkhead --help'");
	else if (strcmp(command, "device") != 0)
		log_error("no command '%s'; %s (see 'bulkhead --help')", command,
			nearest_advice(command, commands, ARRAY_SIZE(commands), advice,
				sizeof(advice)));
	else if (!type)
		log_error("'bulkhead device' needs a TYPE, for example 'bulkhead device net'; see 'bulkhead --help'");
	else
		log_error("no device type '%s'; %s (see 'bulkhead --help')", type,
			nearest_advice(type, types, n, advice, sizeof(advice)));
	return EXIT_FAILURE;
}

int main(int argc, char *argv[])
{
	struct arguments args = { 0 };
	const char *type = wrapped_type(argv[0]), *command;

	log_open("launcher", NULL, NULL);
	if (print_capabilities(argc, argv))
		return EXIT_SUCCESS;
	if (parse(argc, argv, &args) < 0)
		return EXIT_FAILURE;
	if (args.done)
		return args.cannot ? EXIT_FAILURE : EXIT_SUCCESS;
	command = type ? "device" : optind < argc ? argv[optind++] : "";
	if (strcmp(command, "run") == 0)
		return run_files(argc, argv, &args);
	if (!type && optind < argc)
		type = argv[optind];
	args.role = type ? role_of_type(type) : NULL;
	if (strcmp(command, "device") == 0 && args.role)
		return run_device(&args);
	return refuse_command(command, type);
}
