/* What a process gives up for good before it runs code that we don't trust: reading but what it
 * needs, writing but its cache, other programs, other processes, the network.
 *
 * Two halves. Files are Landlock's (Linux 5.13), which holds for the calling thread and what comes
 * from it: call it before there are other threads. Everything else is a filter of system calls
 * (seccomp), an allow-list, which holds for the whole process at once. What the kernel lacks is not
 * an error: it is written to `lacks`, one sentence after the other.
 * Threads: the first one of the process, see above. */
#ifndef OT_LAUNCH_SANDBOX_H
#define OT_LAUNCH_SANDBOX_H

#include "base/error.h"
#include "base/str.h"

#include <linux/filter.h>
#include <sys/types.h>

#define OT_SANDBOX_FILTER_MAX 1024
#define OT_SANDBOX_NO_FILES                                                                        \
    "The kernel has no Landlock: it can read what this account can, and write nothing, its cache " \
    "neither. "

typedef struct ot_sandbox {
    const char *cache;       /* the one folder that may be written to */
    const char *const *read; /* folders and files, beside the system's own; NULL ends them */
    bool program;            /* another is executed afterwards: that is left to the filter */
    bool files;              /* out: Landlock holds */
} ot_sandbox;

/* Whether the kernel has the first half. */
bool ot_sandbox_has_files(void);
ot_rc ot_sandbox_files(ot_sandbox *s, ot_str *lacks, ot_error *err) OT_CHECKED;

/* Nothing is executed after this. With `files` false nothing is opened for writing either, in the
 * cache neither. */
ot_rc ot_sandbox_calls(const ot_sandbox *s, ot_str *lacks, ot_error *err) OT_CHECKED;

/* The filter alone, for process `pid`, which installs it itself; how many instructions. */
size_t ot_sandbox_filter(bool files, pid_t pid, struct sock_filter out[OT_SANDBOX_FILTER_MAX]);

#endif
