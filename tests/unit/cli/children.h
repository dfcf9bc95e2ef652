/* What tests need that run their own binary as the children of a supervisor: a directory, the files
 * in it, waiting for what a child writes. One thread. */
#ifndef OT_TESTS_CHILDREN_H
#define OT_TESTS_CHILDREN_H

#include "base/disk.h"
#include "tap.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_children_XXXXXX"; /* made by main */
static char self[OT_PATH_MAX];                 /* this binary */

/* The path of a file in dir; good until the fourth call after. */
static inline const char *at(const char *name)
{
    static char p[4][OT_PATH_MAX];
    static int i;
    i = (i + 1) % 4;
    snprintf(p[i], OT_PATH_MAX, "%s/%s", dir, name);
    return p[i];
}

/* All of a file up to 4,095 bytes; empty when there is none. */
static inline const char *text_of(const char *path)
{
    static char buf[4096];
    FILE *f = fopen(path, "r");
    size_t n = f != NULL ? fread(buf, 1, sizeof buf - 1, f) : 0;
    buf[n] = 0;
    if (f != NULL) {
        fclose(f);
    }
    return buf;
}

/* Until the file holds the text, or 10 s. */
static inline bool wait_text(const char *path, const char *want)
{
    for (int i = 0; i < 1000; i++) {
        if (strstr(text_of(path), want) != NULL) {
            return true;
        }
        usleep(10000);
    }
    printf("# %s: '%s' lacks '%s'\n", path, text_of(path), want);
    return false;
}

static volatile sig_atomic_t asked; /* on_term ran */

static inline void on_term(int signo)
{
    (void)signo;
    asked = 1;
}

#endif
