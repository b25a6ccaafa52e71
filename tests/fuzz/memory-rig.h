#pragma once

#include "memory/held.h"
#include "memory/judge.h"
#include "memory/ledgers.h"
#include "memory/links.h"
#include "memory/memory.h"
#include "memory/transfers.h"
#include "memory/watch.h"
#include "fd/fdlink.h"

/*
 * A memory process in this one, that two devices have been configured for, one of them with a
 * standby. Its bus has no connections: questions are put to its table by rig_ask(), and what it
 * answers is checked there.
 */

enum rig_peer {
	RIG_FRONTEND,
	RIG_NET0,
	RIG_STANDBY,
	RIG_WITNESS,
	RIG_SNAPSHOT,
	_RIG_PEERS,
	RIG_CTL = _RIG_PEERS,
	_RIG_ASKERS
};

#define RIG_DEVICES 2
#define RIG_TOKENS 4 /* of files that the frontend has deposited for each device */

extern struct memory rig_memory;

/** rig_open() - with empty records; runtime_dir may be NULL where no link is opened */
void rig_open(const char *runtime_dir);
void rig_close(void);

/** rig_turn() - until the loop has nothing more to do */
void rig_turn(void);

/** rig_deposit() - files of different kinds into each device's vault */
void rig_deposit(void);

/** rig_token() - a small number stands for what was deposited, since an input cannot know tokens;
 * others stay */
uint64_t rig_token(uint64_t token);

/** rig_transfer() - likewise, the number of a device from 1 for the id of its transfer */
uint64_t rig_transfer(uint64_t id);

/** rig_start() - the frontend (or bulkheadctl) begins a transfer of the device over a pipe, whose
 * other end is closed; it is of the session that is in force. The id, or 0 */
uint64_t rig_start(enum rig_peer peer, size_t device, bool load);

/** rig_ask() - bytes from that peer, as the bus would have them; what is answered has the type
 * that the table says, every question is answered once or held as a watch, and nobody moves what
 * is not his */
void rig_ask(enum rig_peer peer, const uint8_t *bytes, size_t n);

/** rig_answer() - what was last answered to that peer; NULL: nothing, or a failure. Borrowed until
 * the next answer */
const Bh__Envelope *rig_answer(enum rig_peer peer);

/** rig_leave() - that peer's connection has ended, and with it the questions that are held */
void rig_leave(enum rig_peer peer);
