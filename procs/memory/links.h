#pragma once

#include "peers.h"

/** links_open() - listen for the peer on a socket of its own; 0 | negative errno, logged */
int links_open(struct peer *peer);
void links_close(struct peer *peer);
