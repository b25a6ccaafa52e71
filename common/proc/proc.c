/*
 * A process starts in steps, and its rights only fall. It takes the stored descriptors, the role
 * opens what needs rights, and capabilities are dropped. Only then does the process start its first
 * thread (each thread has capabilities of its own) and read its first hostile byte.
 */
#include "proc/proc.h"

#include <cap-ng.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/blame.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "build-config.h"
#include "config/force.h"
#include "fd/fdstore.h"
#include "proc/backoff.h"
#include "proc/identity.h"
#include "proc/landlock.h"
#include "proc/late-unmap.h"
#include "proc/levels.h"
#include "proc/sandbox.h"

struct arguments {
	const char *instance;
	const char *config;
	const char *runtime_dir;
};

static void usage(const struct proc_role *role)
{
	printf("Usage: bulkhead-%s --instance=%s [--config=FILE] [--runtime-dir=DIR]\n\n"
	       "A process of the Bulkhead suite; it is started by systemd or by 'bulkhead run'.\n\n"
	       "  --instance=%-16s which guest%s to serve\n"
	       "  --config=FILE              the guest's file (default: the configuration in force,\n"
	       "                             or " BULKHEAD_CONFDIR "/GUEST.conf)\n"
	       "  --runtime-dir=DIR          where the suite's sockets are (default " BULKHEAD_RUNDIR
	       ")\n"
	       "  --help, --version\n",
		role->name, role->per_device ? "GUEST:DEVICE" : "GUEST",
		role->per_device ? "GUEST:DEVICE" : "GUEST", role->per_device ? " and device" : "");
}

enum {
	_PROC_E_OK = 0,
	PROC_E_ANSWERED, /* --help or --version: nothing else to do */
};

/* Errors: 0 | PROC_E_ANSWERED | -EINVAL, logged. */
static int parse_arguments(int argc, char *argv[], const struct proc_role *role,
	struct arguments *ret)
{
	static const struct option options[] = { { "instance", required_argument, NULL, 'i' },
		{ "config", required_argument, NULL, 'c' },
		{ "runtime-dir", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' }, { 0 } };
	int c;

	*ret = (struct arguments){ .runtime_dir = BULKHEAD_RUNDIR };
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'i':
			ret->instance = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 'r':
			ret->runtime_dir = optarg;
			break;
		case 'h':
			usage(role);
			return PROC_E_ANSWERED;
		case 'v':
			puts("bulkhead-" BULKHEAD_VERSION);
			return PROC_E_ANSWERED;
		default:
			return -EINVAL;
		}
	}
	if (ret->instance && optind == argc)
		return 0;
	log_error("--instance=%s is required, and only options are accepted; see --help",
		role->per_device ? "GUEST:DEVICE" : "GUEST");
	return -EINVAL;
}

/* The configuration in force, or the guest's file where there is none. */
static char *find_config(const struct arguments *args, const char *guest)
{
	char *path = force_path(args->runtime_dir, guest);

	if (access(path, F_OK) == 0)
		return path;
	free(path);
	check(asprintf(&path, "%s/%s.conf", BULKHEAD_CONFDIR, guest) >= 0);
	return path;
}

static int load_config(struct proc *proc, const struct arguments *args, const char *guest,
	const char *device)
{
	_cleanup_free_ char *path = find_config(args, guest), *error = NULL;
	char *line, *rest;
	int r;

	r = config_load(args->config ?: path, &proc->config, &error);
	if (r < 0) {
		for (rest = error; (line = strsep(&rest, "\n"));)
			log_error("%s", line);
		return r;
	}
	if (!proc->role->per_device)
		return 0;
	proc->device = config_device(proc->config, device);
	if (proc->device)
		return 0;
	log_error("%s has no [device %s]", proc->config->path, device);
	return -EINVAL;
}

static int make_loop(struct proc *proc)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	if ((r = sd_event_default(&proc->event)) < 0 ||
		(r = sd_event_add_signal(proc->event, NULL, SIGTERM, NULL, NULL)) < 0 ||
		(r = sd_event_add_signal(proc->event, NULL, SIGINT, NULL, NULL)) < 0 ||
		(r = sd_event_set_watchdog(proc->event, true)) < 0 ||
		(r = levels_watch(proc->event)) < 0)
		log_error("cannot make the event loop: %s", strerror(-r));
	return r < 0 ? r : 0;
}

/* late_unmap() comes last: its process runs with our rights, in memory that we can write. */
static int drop_rights(const struct proc *proc)
{
	const struct proc_role *role = proc->role;
	_cleanup_free_ char *folder = identity_folder(proc);
	int r = identity_take(proc);

	if (r < 0)
		return r;
	capng_clear(CAPNG_SELECT_BOTH);
	for (const int *cap = role->keep_caps; cap && *cap >= 0; cap++)
		if (capng_have_capability(CAPNG_PERMITTED, (unsigned int)*cap))
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
				(unsigned int)*cap);
	r = capng_apply(CAPNG_SELECT_CAPS);
	if (r < 0) {
		log_error("cannot drop capabilities (libcap-ng: %d)", r);
		return -EPERM;
	}
	landlock_restrict(role->name, folder);
	r = sandbox_load(role->name);
	if (r == 0 && role->per_device)
		late_unmap();
	return r;
}

static int run(struct proc *proc)
{
	const struct proc_role *role = proc->role;
	int r = role->open ? role->open(proc) : 0;

	if (r < 0 || (r = drop_rights(proc)) < 0 || (r = role->start(proc)) < 0)
		return r;
	r = sd_event_loop(proc->event);
	if (r < 0)
		log_error("the event loop failed: %s", strerror(-r));
	return r;
}

/* Splits GUEST[:DEVICE[:standby]] in place. */
static int name_process(struct proc *proc, const char *instance, char *guest, char **ret_device)
{
	char *device = strchr(guest, ':'), *second = device ? strchr(device + 1, ':') : NULL;

	if (device)
		*device++ = '\0';
	if (second)
		*second++ = '\0';
	log_open(proc->role->name, guest, device);
	if (proc->role->per_device != (device != NULL) ||
		(second && strcmp(second, "standby") != 0)) {
		log_error("--instance=%s: must be %s", instance,
			proc->role->per_device ? "GUEST:DEVICE or GUEST:DEVICE:standby" : "GUEST");
		return -EINVAL;
	}
	proc->guest = guest;
	check(asprintf((char **)&proc->peer, "%s%s", device ?: proc->role->name,
		      second ? "+standby" : "") >= 0);
	*ret_device = device;
	return 0;
}

static int set_up(struct proc *proc, const struct arguments *args, char *guest)
{
	char *device;
	int r = name_process(proc, args->instance, guest, &device);

	if (r < 0)
		return r;
	check(asprintf((char **)&proc->runtime_dir, "%s/%s", args->runtime_dir, guest) >= 0);
	if ((r = load_config(proc, args, guest, device)) < 0 || (r = identity_prepare(proc)) < 0)
		return r;
	return make_loop(proc);
}

int proc_main(int argc, char *argv[], const struct proc_role *role)
{
	_cleanup_free_ char *guest = NULL;
	struct proc proc = { .role = role, .started_usec = clock_us() };
	struct arguments args;
	int r;

	log_open(role->name, NULL, NULL);
	r = parse_arguments(argc, argv, role, &args);
	if (r != 0)
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	umask(0007);
	r = fdstore_init();
	if (r < 0)
		log_error("cannot take over the descriptors of the service manager: %s",
			strerror(-r));
	backoff_begin();
	if (r >= 0)
		r = blame_install();
	guest = strdup(args.instance);
	check(guest);
	if (r >= 0)
		r = set_up(&proc, &args, guest);
	if (r >= 0)
		r = run(&proc);
	if (r != 0 && *log_last_error()) {
		proc_status(&proc, "%s", log_last_error());
		backoff_failed(log_last_error());
	}
	if (r < 0)
		backoff_give_way();
	if (role->leave)
		role->leave(&proc);
	/* nng 1.5.2 may wait for good for a thread of its own when it is taken down */
	if (!SANITIZES_ADDRESSES)
		_exit(r == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
	if (role->stop)
		role->stop(&proc);
	fdstore_close_rest();
	sd_event_unref(proc.event);
	config_free(proc.config);
	free((char *)proc.runtime_dir);
	free((char *)proc.runtime_base);
	free((char *)proc.peer);
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void proc_ready(struct proc *proc)
{
	backoff_done();
	if (!proc->ready && !proc->role->per_device)
		LOG_EVENT(SERVES, log_info("version " BULKHEAD_VERSION " is ready"));
	(void)sd_notify(0, proc->ready ? "READY=1" : "READY=1\nSTATUS=in service");
	proc->ready = true;
}

void proc_status(struct proc *proc, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)sd_notifyf(0, "STATUS=%s", text);
}
