#pragma once

#include "session.h"

/* What session.c (VMMs that come and go) and work.c (messages) are to each other. */

/** session_hang_up() - end the connection; why: what the VMM did wrong; NULL = it went by itself */
void session_hang_up(struct session *session, const char *why);
/** session_watch_peer() - session->peer is another */
void session_watch_peer(struct session *session);
/** session_expect_vmm() - nobody is connected, and the record says so */
void session_expect_vmm(struct session *session);
/** session_set_timer() - one purpose at a time: the phase says which */
void session_set_timer(struct session *session, uint64_t usec);
void session_stop_timer(struct session *session);

/** work_run() - handle messages as long as there are any and nothing has to be waited for */
void work_run(struct session *session);
/** work_commit() - ask for session->next, for a purpose */
void work_commit(struct session *session, enum purpose purpose);
/** work_observed() - session->observed is new */
void work_observed(struct session *session);
/** work_timeout() - the time of the present phase is over */
void work_timeout(struct session *session);
/** work_drop() - forget the message in work */
void work_drop(struct session *session);
/** work_forget() - that, and what was asked of memory for it */
void work_forget(struct session *session);
