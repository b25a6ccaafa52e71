#pragma once

/** text_clean() - make a text that others wrote fit to be shown: control characters, what turns the direction of
 * writing, and bytes that are no UTF-8 become '?'; in place. Returns it */
char *text_clean(char *text);
