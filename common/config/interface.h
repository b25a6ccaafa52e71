#pragma once

#include "config/config.h"

/** config_interface() - the network interface of the host that a device is on; borrowed from it;
 * "" = none */
const char *config_interface(const struct config_device *device);
