#pragma once

#include "virtq/virtq.h"

/** virtq_again_len() - chains that a former worker had taken and not published, and that are not
 * taken yet: they come before all others in the window. Cost: their number. */
unsigned int virtq_again_len(struct virtq *vq);
