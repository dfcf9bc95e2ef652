/* Shared by the doctor's files.
 *
 * Threads: the one that called ot_doctor; a dr_child is its starter's, who ends it. */
#ifndef OT_DOCTOR_INTERNAL_H
#define OT_DOCTOR_INTERNAL_H

#include "base/disk.h"
#include "doctor/doctor.h"

#include <sys/types.h>

typedef struct doctor {
    const ot_doctor_options *o;
    ot_check_fn *fn;
    void *arg;
    uint64_t deadline_ns; /* of all of it */
} doctor;

/* Reports a check. `fix` NULL: nothing is to be done. */
void dr_say(doctor *d, const char *name, ot_check_state state, const char *fix, const char *fmt,
            ...) __attribute__((format(printf, 5, 6)));
/* What is left until the deadline, at most `us`. */
int64_t dr_left_us(const doctor *d, int64_t us);

void dr_clock(doctor *d);
void dr_sync(doctor *d);
void dr_limits(doctor *d);
void dr_space(doctor *d);
void dr_ports(doctor *d);
void dr_runtimes(doctor *d);
void dr_python(doctor *d);
void dr_data(doctor *d);
void dr_app(doctor *d);

/* The nearest directory above `path` that there is, or itself. */
void dr_existing(const char *path, char out[OT_PATH_MAX]);
/* All of a small file of the system, without its last line end; "" when it can't be read. */
void dr_read(const char *path, char *out, size_t n);
/* Who lives and listens on a TCP port: "process 12 (name)"; false: nobody that can be seen. */
bool dr_port_owner(uint16_t port, char *out, size_t n);
/* True when a control plane answers for the data directory; its address. */
bool dr_control(const doctor *d, ot_addr *out);

/* A child process: its standard output is read, its errors go to a file or nowhere. It dies with
 * us. */
typedef struct dr_child {
    pid_t pid;
    int out;
} dr_child;
ot_rc dr_child_start(const char *const *argv, const char *errors, dr_child *out,
                     ot_error *err) OT_CHECKED;
/* Appends what it prints until it ends, or with `line` a line has come. OT_TIMEOUT. */
ot_rc dr_child_read(dr_child *c, bool line, int64_t us, ot_str *out, ot_error *err) OT_CHECKED;
/* Asks it to end, kills it after `us`; its exit code, or -1 for a signal. */
int dr_child_end(dr_child *c, int64_t us);
/* The whole of a quick one: what it prints. OT_ABORTED: it failed, with what it said last. */
ot_rc dr_child_run(const char *const *argv, int64_t us, ot_str *out, ot_error *err) OT_CHECKED;

#endif
