/*
 * bulkheadctl queries the memory manager of each guest, and prints the reply or acts on it. It
 * needs no other process of the guest.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answering.h"
#include "apply.h"
#include "arguments.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "bus/bus.h"
#include "capture.h"
#include "check.h"
#include "config/nearest.h"
#include "config/user.h"
#include "inspect.h"
#include "level.h"
#include "metrics.h"
#include "query.h"
#include "snapshot.h"
#include "status.h"
#include "top.h"
#include "trace.h"
#include "upgrade.h"

static const char help[] =
	"Usage: bulkheadctl status [GUEST...] [--json] [--quiet] [--config-dir=DIR] [--runtime-dir=DIR]\n"
	"       bulkheadctl check [FILE...] [--config-dir=DIR] [--runtime-dir=DIR]\n"
	"       bulkheadctl apply [GUEST...] [--dry-run] [--runtime-dir=DIR]\n"
	"       bulkheadctl upgrade [GUEST[:PROCESS]...] [--runtime-dir=DIR]\n"
	"       bulkheadctl log-level GUEST[:PROCESS] debug|info [--runtime-dir=DIR]\n"
	"       bulkheadctl release GUEST DEVICE [--runtime-dir=DIR]\n"
	"       bulkheadctl snapshot GUEST[:DEVICE] FILE [--no-counters] [--runtime-dir=DIR]\n"
	"       bulkheadctl restore GUEST[:DEVICE] FILE [--no-counters] [--runtime-dir=DIR]\n"
	"       bulkheadctl inspect FILE [--json]\n"
	"       bulkheadctl user GUEST[:DEVICE]...\n"
	"       bulkheadctl metrics [GUEST...] [--output=FILE] [--http] [--config-dir=DIR] [--runtime-dir=DIR]\n"
	"       bulkheadctl top [GUEST...] [--interval=SECONDS] [--count=N] [--config-dir=DIR] [--runtime-dir=DIR]\n"
	"       bulkheadctl trace GUEST[:DEVICE] [--count=N] [--runtime-dir=DIR]\n"
	"       bulkheadctl capture GUEST:DEVICE [-w FILE] [--snaplen=BYTES] [--count=N] [--filter=EXPRESSION]\n"
	"\n"
	"status shows guests, what is wrong with them, their processes, devices, rings and counters; its exit\n"
	"status is 0 if all are healthy, 1 if not, 2 if that cannot be told. check judges files. apply makes\n"
	"what runs look like the files of " BULKHEAD_CONFDIR
	", and touches nothing that did not change. upgrade\n"
	"replaces running processes by the programs that are installed now, while the VMs run on; PROCESS is\n"
	"a device's name, memory, frontend, snapshot, or launcher. log-level shows lines for debugging, or no\n"
	"longer, until the process is restarted. release takes a device out of quarantine. snapshot saves the\n"
	"state of devices to a file, restore loads it, and inspect shows it. user prints the numbers of the\n"
	"users that a guest's processes run as, for the owner of a TAP. metrics prints what Prometheus reads.\n"
	"top shows the rates of devices. trace shows what VMMs say over vhost-user. capture writes a network\n"
	"device's frames to a file for tcpdump or Wireshark. See bulkheadctl(1).\n"
	"\n"
	"  --dry-run             say what apply would do, and do nothing\n"
	"  --json                for programs\n"
	"  --quiet               show nothing: the exit status says it\n"
	"  --config-dir=DIR      where the guests' files are (default " BULKHEAD_CONFDIR ")\n"
	"  -w FILE, --output=FILE  write to this file\n"
	"  --http                answer the HTTP request that comes in on standard input, a socket\n"
	"  --interval=SECONDS    between two tables (default 2)\n"
	"  --count=N             end after so many frames, messages or tables\n"
	"  --snaplen=BYTES       keep no more of each frame\n"
	"  --filter=EXPRESSION   only frames that match, as pcap-filter(7) describes\n"
	"  --no-counters         leave the counters of rings out\n"
	"  --runtime-dir=DIR     where the suite's sockets are (default " BULKHEAD_RUNDIR ")\n"
	"  --help, --version\n";

static int trace(const struct arguments *args, char *names[], size_t n)
{
	if (n == 1)
		return trace_run(args, names[0]);
	fputs("trace needs GUEST or GUEST:DEVICE, as 'bulkheadctl status' shows them\n", stderr);
	return EXIT_USAGE;
}

static int capture(const struct arguments *args, char *names[], size_t n)
{
	if (n == 1)
		return capture_run(args, names[0]);
	fputs("capture needs GUEST:DEVICE, as 'bulkheadctl status' shows them\n", stderr);
	return EXIT_USAGE;
}

static int status(const struct arguments *args, char *names[], size_t n)
{
	const struct status_wish wish = { .runtime_dir = args->runtime_dir,
		.config_dir = args->config_dir,
		.names = names,
		.n_names = n,
		.json = args->json,
		.quiet = args->quiet };

	return status_run(&wish);
}

static int judge(const struct arguments *args, char *names[], size_t n)
{
	return check_run(args->runtime_dir, args->config_dir, names, n);
}

static int apply(const struct arguments *args, char *names[], size_t n)
{
	return apply_run(args->runtime_dir, names, n, args->dry_run);
}

static int upgrade(const struct arguments *args, char *names[], size_t n)
{
	char *found[GUESTS_MAX];
	size_t n_found = n ? 0 : answering_find(args->runtime_dir, found);
	int r = 0;

	if (n + n_found == 0)
		fprintf(stderr, "No guest is served under %s.\n", args->runtime_dir);
	for (size_t i = 0; r == 0 && i < n + n_found; i++)
		r = upgrade_run(args->runtime_dir, n ? names[i] : found[i]);
	answering_free(found, n_found);
	return r;
}

static int release(const struct arguments *args, char *names[], size_t n)
{
	bool released = false;
	int r;

	if (n != 2) {
		fputs("release needs a guest and a device, as 'bulkheadctl status' shows them\n",
			stderr);
		return EXIT_USAGE;
	}
	r = query_release(args->runtime_dir, names[0], names[1], &released);
	if (r == -ENODEV)
		fprintf(stderr,
			"guest %s has no device %s; 'bulkheadctl status %s' shows which it has\n",
			names[0], names[1], names[0]);
	else if (r < 0)
		fprintf(stderr, "guest %s: %s\n", names[0], query_why(r));
	else if (!released)
		fprintf(stderr, "device %s of guest %s is not in quarantine\n", names[1], names[0]);
	return r < 0 || !released ? -EIO : 0;
}

static int snapshot(const struct arguments *args, char *names[], size_t n)
{
	if (n == 2)
		return snapshot_run(args->runtime_dir, names[0], names[1], !args->no_counters);
	fputs("snapshot needs a guest or GUEST:DEVICE, and the file to write\n", stderr);
	return EXIT_USAGE;
}

static int restore(const struct arguments *args, char *names[], size_t n)
{
	if (n == 2)
		return restore_run(args->runtime_dir, names[0], names[1], !args->no_counters);
	fputs("restore needs a guest or GUEST:DEVICE, and a file that snapshot has written\n",
		stderr);
	return EXIT_USAGE;
}

static int inspect(const struct arguments *args, char *names[], size_t n)
{
	if (n == 1)
		return inspect_run(names[0], args->json);
	fputs("inspect needs a file with a snapshot, or '-' for standard input\n", stderr);
	return EXIT_USAGE;
}

static void print_users(const char *guest)
{
	for (size_t i = 0; i < N_ROLES; i++)
		if (!roles[i].per_device)
			printf("%s %u\n", roles[i].name, user_of(guest, roles[i].name));
}

/* The user is computed from the names, so no process is queried. */
static int user(const struct arguments *args, char *names[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *device = strchr(names[i], ':');

		if (device)
			*device++ = '\0';
		if (!config_check_name(names[i]) || (device && !config_check_name(device))) {
			fprintf(stderr, "%s: names have 1 to %d letters, digits, '_', '-' or '.'\n",
				device && config_check_name(names[i]) ? device : names[i],
				CONFIG_NAME_MAX);
			return EXIT_USAGE;
		}
		if (device)
			printf("%u\n", user_of(names[i], device));
		else
			print_users(names[i]);
	}
	if (n == 0)
		fputs("user needs GUEST:DEVICE, or GUEST\n", stderr);
	return n ? 0 : EXIT_USAGE;
}

static int refuse_option(const char *option, int c)
{
	fprintf(stderr, "bulkheadctl: %s: %s; see 'bulkheadctl --help'\n", option,
		c == ':' ? "it needs a value" : "there is no such option, or not in this form");
	return -EINVAL;
}

/** struct number_option - an option whose value is a number */
static const struct number_option {
	int letter;
	const char *name;
	uint64_t min, max;
	size_t at; /* in struct arguments */
} number_options[] = {
	{ 'i', "interval", 1, 86400, offsetof(struct arguments, interval_s) },
	{ 'c', "count", 1, UINT64_C(1) << 53, offsetof(struct arguments, count) },
	{ 's', "snaplen", 14, 262144, offsetof(struct arguments, snap_bytes) },
};

static int parse_number(int letter, const char *text, struct arguments *args)
{
	const struct number_option *option = number_options;
	unsigned long long value;
	char *end;

	while (option->letter != letter)
		option++;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < option->min ||
		value > option->max) {
		fprintf(stderr, "--%s=%s: expected a number from %" PRIu64 " to %" PRIu64 "\n",
			option->name, text, option->min, option->max);
		return -EINVAL;
	}
	*(uint64_t *)(void *)((char *)args + option->at) = value;
	return 0;
}

static const struct option options[] = { { "json", no_argument, NULL, 'j' },
	{ "no-counters", no_argument, NULL, 'n' }, { "dry-run", no_argument, NULL, 'd' },
	{ "quiet", no_argument, NULL, 'q' }, { "config-dir", required_argument, NULL, 'C' },
	{ "output", required_argument, NULL, 'w' }, { "http", no_argument, NULL, 'H' },
	{ "interval", required_argument, NULL, 'i' }, { "count", required_argument, NULL, 'c' },
	{ "snaplen", required_argument, NULL, 's' }, { "filter", required_argument, NULL, 'f' },
	{ "runtime-dir", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'v' }, { 0 } };

static int parse(int argc, char *argv[], struct arguments *args)
{
	int c, r = 0;

	*args = (struct arguments){ .runtime_dir = BULKHEAD_RUNDIR };
	while (r == 0 && (c = getopt_long(argc, argv, ":w:", options, NULL)) >= 0) {
		if (c == 'j')
			args->json = true;
		else if (c == 'n')
			args->no_counters = true;
		else if (c == 'd')
			args->dry_run = true;
		else if (c == 'q')
			args->quiet = true;
		else if (c == 'C')
			args->config_dir = optarg;
		else if (c == 'w')
			args->output = optarg;
		else if (c == 'H')
			args->http = true;
		else if (c == 'f')
			args->filter = optarg;
		else if (c == 'i' || c == 'c' || c == 's')
			r = parse_number(c, optarg, args);
		else if (c == 'r')
			args->runtime_dir = optarg;
		else if (c == 'h' || c == 'v')
			args->done = true;
		else
			return refuse_option(argv[optind - 1], c);
		if (c == 'h')
			fputs(help, stdout);
		if (c == 'v')
			puts("bulkheadctl " BULKHEAD_VERSION);
		args->given[c] = true;
	}
	return r;
}

static int log_level(const struct arguments *args, char *names[], size_t n)
{
	if (n == 2)
		return level_run(args->runtime_dir, names[0], names[1]);
	fputs("log-level needs a guest or GUEST:PROCESS, and 'debug' or 'info'\n", stderr);
	return EXIT_USAGE;
}

/** struct command - a row of the table of commands */
struct command {
	const char *name;
	/* 0 | negative: it has said why not | another exit status */
	int (*run)(const struct arguments *args, char *names[], size_t n);
	const char *letters; /* of the options that it takes; each takes --runtime-dir */
};

static const struct command commands[] = {
	{ "status", status, "jqC" },
	{ "check", judge, "C" },
	{ "apply", apply, "d" },
	{ "upgrade", upgrade, "" },
	{ "log-level", log_level, "" },
	{ "release", release, "" },
	{ "snapshot", snapshot, "n" },
	{ "restore", restore, "n" },
	{ "inspect", inspect, "j" },
	{ "user", user, "" },
	{ "metrics", metrics_run, "wHC" },
	{ "top", top_run, "icC" },
	{ "trace", trace, "c" },
	{ "capture", capture, "wscf" },
};

static const struct command *find_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands)];
	char advice[256];

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (name && strcmp(commands[i].name, name) == 0)
			return &commands[i];
		names[i] = commands[i].name;
	}
	if (name)
		fprintf(stderr, "bulkheadctl: no command '%s'; %s (see 'bulkheadctl --help')\n",
			name,
			nearest_advice(name, names, ARRAY_SIZE(names), advice, sizeof(advice)));
	else
		fputs("bulkheadctl: it needs a command, for example 'bulkheadctl status'; see 'bulkheadctl --help'\n",
			stderr);
	return NULL;
}

/* One that would do nothing is no harmless one: whoever wants a dry run of a command that has none
 * must not get the command. */
static bool takes_all(const struct command *command, const struct arguments *args)
{
	for (const struct option *option = options; option->name; option++) {
		if (!args->given[option->val] || option->val == 'r' ||
			strchr(command->letters, option->val))
			continue;
		fprintf(stderr, "bulkheadctl: %s does not take --%s; see 'bulkheadctl --help'\n",
			command->name, option->name);
		return false;
	}
	return true;
}

int main(int argc, char *argv[])
{
	const struct command *command;
	struct arguments args;
	int r;

	log_open("ctl", NULL, NULL);
	if (parse(argc, argv, &args) < 0)
		return EXIT_USAGE;
	if (args.done)
		return EXIT_SUCCESS;
	command = find_command(argv[optind]);
	if (!command || !takes_all(command, &args))
		return EXIT_USAGE;
	r = command->run(&args, &argv[optind + 1], (size_t)(argc - optind - 1));
	return r < 0 ? EXIT_FAILURE : r;
}
