#include "cli/loads.h"

#include <string.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

const volatile sig_atomic_t *ot_cli_load_stop(void)
{
    (void)signal(SIGINT, on_interrupt);
    return &interrupted;
}

ot_load_protocol ot_cli_load_protocol(const ot_args *args)
{
    const char *name = ot_args_str(args, "protocol");
    int i = 0;
    while (strcmp(ot_load_protocol_names[i], name) != 0) {
        i++;
    }
    return (ot_load_protocol)i;
}

ot_load_trust ot_cli_load_trust(const ot_args *args)
{
    return (ot_load_trust){.ca = ot_args_str(args, "ca"),
                           .unverified = ot_args_bool(args, "insecure")};
}
