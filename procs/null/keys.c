/* The keys of type = null: none of its own. */
#include "config/keys.h"

const struct config_type config_type_null = { 0 };
