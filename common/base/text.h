#pragma once

/** text_clean() - make untrusted text safe to display, in place: control characters, direction
 * overrides and invalid UTF-8 become '?'. Returns text */
char *text_clean(char *text);
