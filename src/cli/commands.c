/* The table of this folder's commands, in the order of `overtake help`. */
#include "cli/commands.h"

#include "base/mem.h"

const ot_command *const ot_cli_commands[] = {
    &ot_cli_serve_command,   &ot_cli_plugins_command,     &ot_cli_shim_command,
    &ot_cli_version_command, &ot_cli_help_command,        &ot_cli_completion_command,
    &ot_cli_check_command,   &ot_cli_config_show_command, &ot_cli_config_reference_command,
    &ot_cli_package_command, &ot_cli_evaluate_command,
};
const size_t ot_cli_commands_n = OT_COUNT(ot_cli_commands);
