/*
 * The first socket makes the library's threads. Before 1.7 nng makes them for every processor and asks how many there are by
 * sysconf(); it has no other knob, and glibc answers from the machine and not from the thread's affinity. So sysconf() is ours:
 * the thread that opens a socket is told of one processor while it does, and every other thread and moment hears the truth.
 */
#include "bus/socket.h"

#include <unistd.h>

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>

#include "bus/bus-config.h"

#ifndef HAVE_NNG_INIT_SET_PARAMETER
/*
 * Before 1.7 nng makes threads for every processor and has no knob, but this one question of its own. It is told of
 * one processor; everybody else in this process, and this thread at any other time, hears the truth.
 */
static _Thread_local bool nng_asks;

long __sysconf(int name);
long sysconf(int name);

/* ThreadSanitizer asks, too, and before it can be told of a call. */
#if __has_attribute(disable_sanitizer_instrumentation)
__attribute__((disable_sanitizer_instrumentation))
#endif
long sysconf(int name)
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
