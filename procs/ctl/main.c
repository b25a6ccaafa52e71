/*
 * bulkheadctl queries the memory manager of each guest, and prints the reply or acts on it. It
 * needs no other process of the guest.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "bus/bus.h"
#include "check.h"
#include "config/user.h"
#include "inspect.h"
#include "query.h"
#include "show.h"
#include "snapshot.h"
#include "upgrade.h"

#define GUESTS_MAX 1024

static const char help[] =
	"Usage: bulkheadctl status [GUEST...] [--json] [--runtime-dir=DIR]\n"
	"       bulkheadctl check [FILE...] [--runtime-dir=DIR]\n"
	"       bulkheadctl apply [GUEST...] [--dry-run] [--runtime-dir=DIR]\n"
	"       bulkheadctl upgrade [GUEST[:PROCESS]...] [--runtime-dir=DIR]\n"
	"       bulkheadctl release GUEST DEVICE [--runtime-dir=DIR]\n"
	"       bulkheadctl snapshot GUEST[:DEVICE] FILE [--no-counters] [--runtime-dir=DIR]\n"
	"       bulkheadctl restore GUEST[:DEVICE] FILE [--no-counters] [--runtime-dir=DIR]\n"
	"       bulkheadctl inspect FILE [--json]\n"
	"       bulkheadctl user GUEST[:DEVICE]...\n"
	"\n"
	"status shows guests, their processes, devices, rings and counters. check judges files. apply makes\n"
	"what runs look like the files of /etc/bulkhead, and touches nothing that did not change. upgrade replaces running processes\n"
	"by the programs that are installed now, while the VMs run on; PROCESS is a device's name, memory,\n"
	"frontend, snapshot, or launcher. release takes a device out of quarantine. snapshot saves the state\n"
	"of devices to a file, restore loads it, and inspect shows it. user prints the numbers of the users\n"
	"that a guest's processes run as, for the owner of a TAP. See bulkheadctl(1).\n"
	"\n"
	"  --dry-run             say what apply would do, and do nothing\n"
	"  --json                for programs\n"
	"  --no-counters         leave the counters of rings out\n"
	"  --runtime-dir=DIR     where the suite's sockets are (default " BULKHEAD_RUNDIR ")\n"
	"  --help, --version\n";

struct arguments {
	const char *runtime_dir;
	bool json;
	bool no_counters;
	bool dry_run;
	bool done;
};

static void show_guest(const Bh__GetStatusReply *status, void *data)
{
	((const struct show *)data)->guest(status);
}

static int ask(const struct arguments *args, const struct show *show, const char *guest)
{
	int r = query_status(args->runtime_dir, guest, BUS_TIMEOUT_MS, show_guest,
		(void *)(uintptr_t)show);

	if (r < 0)
		show->failed(guest, query_why(r));
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t find_guests(const char *runtime_dir, char **names)
{
	DIR *dir = opendir(runtime_dir);
	struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)) && n < GUESTS_MAX) {
		if (*entry->d_name == '.' ||
			query_answers(runtime_dir, entry->d_name) == ANSWERS_NOBODY)
			continue;
		names[n] = strdup(entry->d_name);
		check(names[n]);
		n++;
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(*names), by_name);
	return n;
}

/* Returns the guests on the command line, or else all; found has room for GUESTS_MAX. */
static size_t choose_guests(const struct arguments *args, char ***names, size_t n, char **found)
{
	if (n)
		return n;
	n = find_guests(args->runtime_dir, found);
	if (n == 0)
		fprintf(stderr, "No guest is served under %s.\n", args->runtime_dir);
	*names = found;
	return n;
}

static int status(const struct arguments *args, char *names[], size_t n)
{
	const struct show *show = args->json ? &show_json : &show_table;
	int r = 0;

	show->begin();
	for (size_t i = 0; i < n; i++)
		if (ask(args, show, names[i]) < 0)
			r = -EIO;
	show->end();
	return r;
}

static int judge(const struct arguments *args, char *names[], size_t n)
{
	return check_run(args->runtime_dir, names, n);
}

static int apply(const struct arguments *args, char *names[], size_t n)
{
	return apply_run(args->runtime_dir, names, n, args->dry_run);
}

static int upgrade(const struct arguments *args, char *names[], size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = upgrade_run(args->runtime_dir, names[i]);
	return r;
}

static int release(const struct arguments *args, char *names[], size_t n)
{
	bool released = false;
	int r;

	if (n != 2) {
		fputs("release needs a guest and a device, as 'bulkheadctl status' shows them\n",
			stderr);
		return -EINVAL;
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
	return -EINVAL;
}

static int restore(const struct arguments *args, char *names[], size_t n)
{
	if (n == 2)
		return restore_run(args->runtime_dir, names[0], names[1], !args->no_counters);
	fputs("restore needs a guest or GUEST:DEVICE, and a file that snapshot has written\n",
		stderr);
	return -EINVAL;
}

static int inspect(const struct arguments *args, char *names[], size_t n)
{
	if (n == 1)
		return inspect_run(names[0], args->json);
	fputs("inspect needs a file with a snapshot, or '-' for standard input\n", stderr);
	return -EINVAL;
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
			return -EINVAL;
		}
		if (device)
			printf("%u\n", user_of(names[i], device));
		else
			print_users(names[i]);
	}
	if (n == 0)
		fputs("user needs GUEST:DEVICE, or GUEST\n", stderr);
	return n ? 0 : -EINVAL;
}

static int parse(int argc, char *argv[], struct arguments *args)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
		{ "no-counters", no_argument, NULL, 'n' }, { "dry-run", no_argument, NULL, 'd' },
		{ "runtime-dir", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' }, { 0 } };
	int c;

	*args = (struct arguments){ .runtime_dir = BULKHEAD_RUNDIR };
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'j')
			args->json = true;
		else if (c == 'n')
			args->no_counters = true;
		else if (c == 'd')
			args->dry_run = true;
		else if (c == 'r')
			args->runtime_dir = optarg;
		else if (c == 'h' || c == 'v')
			args->done = true;
		else
			return -EINVAL;
		if (c == 'h')
			fputs(help, stdout);
		if (c == 'v')
			puts("bulkheadctl " BULKHEAD_VERSION);
	}
	return 0;
}

int main(int argc, char *argv[])
{
	static const struct {
		const char *name;
		int (*run)(const struct arguments *args, char *names[], size_t n);
	} commands[] = { { "status", status }, { "check", judge }, { "apply", apply },
		{ "upgrade", upgrade }, { "release", release }, { "snapshot", snapshot },
		{ "restore", restore }, { "inspect", inspect }, { "user", user } };
	static char *found[GUESTS_MAX];
	struct arguments args;
	int r;

	log_open("ctl", NULL, NULL);
	if (parse(argc, argv, &args) < 0)
		return EXIT_FAILURE;
	if (args.done)
		return EXIT_SUCCESS;
	for (size_t i = 0; optind < argc && i < ARRAY_SIZE(commands); i++) {
		char **names = &argv[optind + 1];
		size_t n;

		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		n = (size_t)(argc - optind - 1);
		if (commands[i].run == status || commands[i].run == upgrade)
			n = choose_guests(&args, &names, n, found);
		r = commands[i].run(&args, names, n);
		for (size_t j = 0; j < GUESTS_MAX; j++)
			free(found[j]);
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	fputs(help, stderr);
	return EXIT_FAILURE;
}
