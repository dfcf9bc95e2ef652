/* Joins the commands of all folders into the one table and runs the one that was asked for. */
#include "base/disk.h"
#include "cli/commands.h"

#include <sys/prctl.h>

#define MAX_COMMANDS 128

/* Tables of commands, in the order of `overtake help`. Other folders add theirs here. */
static const struct {
    const ot_command *const *commands;
    const size_t *n;
} tables[] = {
    {ot_cli_commands, &ot_cli_commands_n},
};

/* A descriptor 0, 1 or 2 that is closed would be given to the next file that is opened, and what is
 * printed would land there. */
static void keep_standard_descriptors(void)
{
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    while (d->ops->open(d, "/dev/null", OT_OPEN_READ | OT_OPEN_WRITE, 0, &f, NULL) == OT_OK) {
        if (f->ops->fd(f) > 2) {
            ot_file_close(f);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    static const ot_command *all[MAX_COMMANDS];
    size_t n = 0;
    keep_standard_descriptors();
    /* What was executed as /proc/self/exe would be called "exe" in lists of processes. */
    (void)prctl(PR_SET_NAME, "overtake");
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (size_t i = 0; i < *tables[t].n && n < MAX_COMMANDS; i++) {
            all[n++] = tables[t].commands[i];
        }
    }
    return ot_cli_main(all, n, argc, (const char *const *)argv);
}
