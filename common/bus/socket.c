/*
 * The first socket creates nng's threads. nng before 1.7 creates them in proportion to the number
 * of CPUs, and sysconf() is the only knob: there is no parameter, and glibc does not look at the
 * thread's affinity. So this file overrides sysconf(). Only the thread that is opening a socket is
 * told of one CPU, and only meanwhile; every other caller gets the real answer.
 */
#include "bus/socket.h"

#include <unistd.h>

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>

#include "base/sanitizer.h"
#include "bus/bus-config.h"

#ifndef HAVE_NNG_INIT_SET_PARAMETER
static _Thread_local bool nng_asks;

long __sysconf(int name);
long sysconf(int name);

/* ThreadSanitizer calls it too, before instrumented code can run. */
NOT_SANITIZED long sysconf(int name)
{
	return nng_asks && name == _SC_NPROCESSORS_ONLN ? 1 : __sysconf(name);
}

static void limit_threads(bool on)
{
	nng_asks = on;
}
#else
static void limit_threads(bool on)
{
	if (!on)
		return;
	nng_init_set_parameter(NNG_INIT_NUM_TASK_THREADS, 2);
	nng_init_set_parameter(NNG_INIT_NUM_EXPIRE_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_POLLER_THREADS, 1);
	nng_init_set_parameter(NNG_INIT_NUM_RESOLVER_THREADS, 1);
}
#endif

/* The first one makes the library's threads. */
int bus_socket_open(nng_socket *ret_socket, bool asks)
{
	int r;

	limit_threads(true);
	r = asks ? nng_req0_open(ret_socket) : nng_rep0_open(ret_socket);
	limit_threads(false);
	return r;
}
