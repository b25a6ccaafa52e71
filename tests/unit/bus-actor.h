#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The two ends of the bus as processes, driven by a test that uses no nng itself: nng does not live
 * through a fork, and only a process can be killed. Both ends use the library that ships.
 *
 * What the serving actor does with a request follows from its type: CommitDesired answered:
 *   generation + 1; by its device's name otherwise: "fail" -ENOENT, "mute" never answered, "big"
 *   the answer is larger than any message may be
 *   WatchDesired held with on_gone, as long as the asker lives; answered when "release" is
 *   committed WatchObserved held without on_gone; answered when "release" is committed GetStatus of
 *   another role ReportObserved not in the table
 */

/** struct actor_shared - what the actors count, seen by all processes of a test */
struct actor_shared {
	atomic_uint n_served; /* CommitDesired */
	atomic_uint n_held;   /* WatchDesired, ever */
	atomic_uint n_gone;   /* of these, ended by the asker's end */
	atomic_uint n_loose;  /* WatchObserved, ever */
};

enum actor_ask {
	ASK_COMMIT,
	ASK_WATCH,
	ASK_LOOSE,
	ASK_STATUS,
	ASK_REPORT,
	ASK_JAM,           /* from now on its nng takes nothing down that has ended */
	ASK_PEER_HAS_LEFT, /* of a server that dials: is told so */
};

struct actor_command {
	enum actor_ask ask;
	char device[16];
	uint32_t timeout_ms; /* 0: as long as the test has patience */
	uint64_t number;     /* the generation sent */
	uint32_t n_bytes;    /* of padding in the request */
	uint32_t repeat;     /* so many calls at once; 0 = 1 */
};

struct actor_result {
	int error;
	uint64_t number; /* the generation answered */
};

struct actor {
	pid_t pid;
	int fd;
};

extern struct actor_shared *actor_shared; /* made by actor_set_up() */
extern char actor_dir[64];
extern char actor_sock[96]; /* where the actors meet */

void actor_set_up(void);
void actor_tear_down(void);

/** actor_client() - a process that listens at "bus.sock" of the test's directory and asks */
struct actor actor_client(void);
/** actor_ctl() - a process that dials there and asks */
struct actor actor_ctl(void);
/** actor_server() - a process that dials there and answers; any other command makes it dial at
 * once */
struct actor actor_server(void);
/** actor_listening_server() - a process that listens there and answers */
struct actor actor_listening_server(void);

void actor_tell(const struct actor *actor, const struct actor_command *command);
/** actor_result() - of the next call that ended; the test fails when it takes too long */
struct actor_result actor_result(const struct actor *actor);
/** actor_ask() - both */
struct actor_result actor_ask(const struct actor *actor, const struct actor_command *command);
/** actor_kill() - and wait for its end; the test fails when it ended by itself before */
void actor_kill(struct actor *actor);
/** actor_end() - ask it to end, and wait; the test fails unless it ends cleanly. Not for one that
 * may just be connecting, or whose connection may just be ending: nng 1.5.2 loses track of such a
 * one when it is taken down, and leaks or aborts. */
void actor_end(struct actor *actor);
/** actor_ended() - wait until it has ended by itself, cleanly */
void actor_ended(struct actor *actor);
/** actor_n_fds() - how many descriptors it has open */
size_t actor_n_fds(const struct actor *actor);

/** actor_wait() - until *count is at least n; the test fails when that takes too long */
#define actor_wait(count, n) actor_wait_for(#count, count, n)
void actor_wait_for(const char *what, const atomic_uint *count, unsigned int n);

/** actor_commit() - the question most tests ask */
struct actor_command actor_commit(const char *device, uint64_t number);
/** actor_check_commit() - asked and answered, or the test fails */
void actor_check_commit(const struct actor *client, uint64_t number);
int actor_error(const struct actor *client, struct actor_command command);

/** actor_hold() - so many questions that are held, and no other is open */
void actor_hold(const struct actor *client, unsigned int n);

/** actor_raw_try() - connect this socket to where the actors meet; whether somebody listens
 * there */
bool actor_raw_try(int fd);
/** actor_raw_connect() - a connection to it that speaks no protocol yet */
int actor_raw_connect(void);
/** actor_raw_read() - so many bytes, or the test fails */
void actor_raw_read(int fd, void *buf, size_t n);
/** actor_raw_hello() - the hello of a side that asks (0x30) or answers (0x31), and the other's */
void actor_raw_hello(int fd, uint8_t protocol);

/** actor_raw_listen() - somebody listens where the actors meet, and speaks no protocol */
int actor_raw_listen(void);
