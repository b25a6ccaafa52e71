/*
 * The `bulkhead` command: `run` for guests described by files, `device` for a single device described by
 * options, as management software starts vhost-user back-ends. Both run the same processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "launcher.h"

static const char help[] =
	"Usage: bulkhead run FILE...            serve the guests that the files describe\n"
	"       bulkhead device net OPTION...   serve one network device\n"
	"\n"
	"Both run in the foreground until SIGTERM or SIGINT; see bulkhead(1).\n"
	"\n"
	"  --runtime-dir=DIR     where the suite's sockets are made (default " BULKHEAD_RUNDIR ")\n"
	"  --libexec-dir=DIR     where the suite's programs are\n"
	"  --watchdog=SECONDS    how long a process may give no sign of life (default 10; 0: for ever)\n"
	"  --help, --version\n"
	"\n"
	"Options of `device net`:\n"
	"  --socket-path=PATH    listen for the VMM here, or\n"
	"  --fd=N                take this descriptor: a listening or connected vhost-user socket\n"
	"  --tap=NAME            the TAP interface, or\n"
	"  --tap-fd=N            take this descriptor of a TAP; again for each queue pair\n"
	"  --backend=tap|echo|null\n"
	"  --mac=MAC --mtu=N --queue-pairs=N\n"
	"  --print-capabilities  say in JSON what this program can do, and exit\n";

enum { OPT_RUNTIME = 256, OPT_LIBEXEC, OPT_HELP, OPT_VERSION, OPT_CAPABILITIES, OPT_FD, OPT_TAP_FD, OPT_SOCKET, OPT_WATCHDOG, OPT_TAKES_OVER, OPT_KEY };

static const struct option options[] = {
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME },
	{ "libexec-dir", required_argument, NULL, OPT_LIBEXEC },
	{ "watchdog", required_argument, NULL, OPT_WATCHDOG },
	{ "takes-over", required_argument, NULL, OPT_TAKES_OVER },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "print-capabilities", no_argument, NULL, OPT_CAPABILITIES },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "tap-fd", required_argument, NULL, OPT_TAP_FD },
	{ "socket-path", required_argument, NULL, OPT_SOCKET },
	{ "tap", required_argument, NULL, OPT_KEY },
	{ "backend", required_argument, NULL, OPT_KEY },
	{ "mac", required_argument, NULL, OPT_KEY },
	{ "mtu", required_argument, NULL, OPT_KEY },
	{ "queue-pairs", required_argument, NULL, OPT_KEY },
	{ "generate", required_argument, NULL, OPT_KEY },
	{ 0 },
};

#define FDS_MAX 65
#define KEYS_MAX 16
#define WATCHDOG_SEC 10
#define WATCHDOG_MAX_SEC 86400

/** struct arguments - of the command line, as given */
struct arguments {
	struct launch launch;
	const char *socket;
	const char *keys[KEYS_MAX], *values[KEYS_MAX];
	size_t n_keys;
	struct launch_fd fds[FDS_MAX];
	char fd_names[FDS_MAX][24];
	size_t n_tap_fds;
	bool done; /* --help and the like */
	bool cannot; /* --takes-over: no */
};

static bool listens(int fd)
{
	int yes = 0;
	socklen_t n = sizeof(yes);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes;
}

static int take_fd(struct arguments *args, const char *text, bool tap)
{
	size_t i = args->launch.n_fds;
	char *end;
	long fd = strtol(text, &end, 10);

	/* a former launcher has given it to its process */
	if (args->launch.state_fd >= 0)
		return 0;
	if (*end || fd < 0 || fcntl((int)fd, F_GETFD) < 0) {
		log_error("--%s=%s: not an open descriptor", tap ? "tap-fd" : "fd", text);
		return -EBADF;
	}
	if (i == FDS_MAX)
		return -E2BIG;
	(void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	(void)fcntl((int)fd, F_SETFL, fcntl((int)fd, F_GETFL) | O_NONBLOCK);
	args->fds[i] = (struct launch_fd){ .for_frontend = !tap, .name = args->fd_names[i], .fd = (int)fd };
	if (tap)
		snprintf(args->fd_names[i], sizeof(args->fd_names[i]), "tap.%zu.dev", args->n_tap_fds++);
	else
		snprintf(args->fd_names[i], sizeof(args->fd_names[i]), "%s.dev",
			listens((int)fd) ? "passed" : "conn");
	args->launch.n_fds++;
	return 0;
}

static int take_watchdog(struct arguments *args, const char *text)
{
	char *end;
	unsigned long seconds = strtoul(text, &end, 10);

	if (*end || !*text || *text == '-' || seconds > WATCHDOG_MAX_SEC) {
		log_error("--watchdog=%s: must be a number of seconds, at most %d", text, WATCHDOG_MAX_SEC);
		return -EBADF;
	}
	args->launch.watchdog_sec = (unsigned int)seconds;
	return 0;
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
		fputs(help, stdout);
		args->done = true;
		return 0;
	case OPT_VERSION:
		puts("bulkhead " BULKHEAD_VERSION);
		args->done = true;
		return 0;
	case OPT_CAPABILITIES:
		puts("{\n  \"type\": \"net\",\n  \"features\": []\n}");
		args->done = true;
		return 0;
	case OPT_FD:
	case OPT_TAP_FD:
		return take_fd(args, optarg, option == OPT_TAP_FD);
	case OPT_SOCKET:
		args->socket = optarg;
		return 0;
	case OPT_WATCHDOG:
		return take_watchdog(args, optarg);
	case OPT_TAKES_OVER:
		args->done = true;
		args->cannot = !state_serves(optarg);
		return 0;
	case OPT_KEY:
		if (args->n_keys == KEYS_MAX)
			return -E2BIG;
		args->keys[args->n_keys] = options[index].name;
		args->values[args->n_keys++] = optarg;
		return 0;
	default:
		return -EINVAL;
	}
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
	while (r == 0 && !args->done && (c = getopt_long(argc, argv, "", options, &index)) >= 0)
		r = take_option(args, c, index);
	if (r < 0 && r != -EBADF)
		fprintf(stderr, "See 'bulkhead --help'.\n");
	return r;
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

/* The device's file, so that all processes read what they always read. */
static int write_file(const struct arguments *args, const char *socket, const char *path)
{
	FILE *f = fopen(path, "we");
	bool tap = false, backend = false;

	if (!f)
		return -errno;
	fprintf(f, "[device dev]\ntype = net\nsocket = %s\n", socket);
	for (size_t i = 0; i < args->n_keys; i++) {
		fprintf(f, "%s = %s\n", args->keys[i], args->values[i]);
		tap |= strcmp(args->keys[i], "tap") == 0;
		backend |= strcmp(args->keys[i], "backend") == 0;
	}
	if (args->n_tap_fds && !tap && !backend)
		fprintf(f, "tap = tap-fd\nqueue-pairs = %zu\n", args->n_tap_fds);
	return fclose(f) == 0 ? 0 : -errno;
}

static void remove_dir(const char *dir)
{
	_cleanup_free_ char *command = NULL;

	check(asprintf(&command, "rm -rf -- '%s'", dir) >= 0);
	if (strchr(dir, '\'') == NULL && system(command) != 0)
		log_warning("%s could not be removed", dir);
}

/* The directory and the file in it. */
static int prepare_device(struct arguments *args, const char *dir, const char *path)
{
	_cleanup_free_ char *socket = NULL, *cwd = getcwd(NULL, 0);
	int r;

	if ((mkdir(args->launch.runtime_dir, 0755) < 0 && errno != EEXIST) || mkdir(dir, 0750) < 0) {
		log_error("cannot make the directory %s: %s", dir, strerror(errno));
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

static int run_device(struct arguments *args)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	struct launch launch = args->launch;
	const char *file;
	int r;

	if (!args->socket && args->launch.n_fds == args->n_tap_fds && launch.state_fd < 0) {
		log_error("'bulkhead device' needs --socket-path=PATH or --fd=N; see 'bulkhead --help'");
		return EXIT_FAILURE;
	}
	check(asprintf(&dir, "%s/device-%d", args->launch.runtime_dir, (int)getpid()) >= 0);
	check(asprintf(&path, "%s/device.conf", dir) >= 0);
	if (launch.state_fd < 0 && prepare_device(args, dir, path) < 0)
		return EXIT_FAILURE;
	file = path;
	launch.files = &file;
	launch.n_files = 1;
	launch.runtime_dir = dir;
	r = launcher_run(&launch);
	remove_dir(dir);
	return r;
}

int main(int argc, char *argv[])
{
	struct arguments args = { 0 };
	const char *base = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	bool wrapper = strcmp(base, "vhost-user-net") == 0;
	const char *command;

	log_open("launcher", NULL, NULL);
	if (parse(argc, argv, &args) < 0)
		return EXIT_FAILURE;
	if (args.done)
		return args.cannot ? EXIT_FAILURE : EXIT_SUCCESS;
	command = wrapper ? "device" : optind < argc ? argv[optind++] : "";
	if (strcmp(command, "run") == 0)
		return run_files(argc, argv, &args);
	if (strcmp(command, "device") == 0 &&
		(wrapper || (optind < argc && strcmp(argv[optind], "net") == 0)))
		return run_device(&args);
	fputs(help, stderr);
	return EXIT_FAILURE;
}
