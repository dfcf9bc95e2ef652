/* The commands of this folder. src/main.c joins them with those of higher rows into the one table
 * that drives dispatch, --help and completion (base/options.h).
 *
 * To add a command here: define `const ot_command ot_cli_NAME_command` in cli/NAME.c and list it in
 * cli/commands.c. */
#ifndef OT_CLI_COMMANDS_H
#define OT_CLI_COMMANDS_H

#include "base/options.h"

#include <jansson.h>

#define OT_VERSION "0.1.0"

extern const ot_command ot_cli_serve_command, ot_cli_plugins_command, ot_cli_up_command,
    ot_cli_shim_command, ot_cli_version_command, ot_cli_help_command, ot_cli_completion_command,
    ot_cli_check_command, ot_cli_config_show_command, ot_cli_config_reference_command,
    ot_cli_package_command, ot_cli_evaluate_command, ot_cli_control_command, ot_cli_init_command,
    ot_cli_apply_command, ot_cli_status_command, ot_cli_why_command, ot_cli_train_command,
    ot_cli_pause_command, ot_cli_resume_command, ot_cli_freeze_command, ot_cli_approve_command,
    ot_cli_reject_command, ot_cli_rollback_command, ot_cli_pin_command, ot_cli_push_command,
    ot_cli_runs_command, ot_cli_logs_command, ot_cli_checkpoints_command, ot_cli_cancel_command,
    ot_cli_models_command, ot_cli_accuracy_command, ot_cli_samples_command, ot_cli_replicas_command,
    ot_cli_events_command, ot_cli_events_verify_command, ot_cli_labels_import_command,
    ot_cli_page_command, ot_cli_backup_command, ot_cli_restore_command, ot_cli_doctor_command,
    ot_cli_report_command, ot_cli_load_command, ot_cli_unload_command;

extern const ot_command ot_cli_keys_add_command, ot_cli_keys_list_command,
    ot_cli_keys_revoke_command, ot_cli_keys_off_command;

extern const ot_command ot_cli_label_command, ot_cli_ab_command, ot_cli_switch_command;

extern const ot_command ot_cli_upgrade_command, ot_cli_simulate_command;

extern const ot_command ot_cli_release_command, ot_cli_promote_command, ot_cli_keys_command,
    ot_cli_trust_add_command, ot_cli_trust_list_command, ot_cli_trust_remove_command,
    ot_cli_servers_add_command, ot_cli_servers_list_command, ot_cli_servers_remove_command,
    ot_cli_export_command, ot_cli_import_command;

extern const ot_command ot_cli_bench_command, ot_cli_bench_cluster_command, ot_cli_top_command,
    ot_cli_size_command, ot_cli_replay_command;

extern const ot_command ot_cli_worker_command, ot_cli_run_command, ot_cli_tune_command;

extern const ot_command *const ot_cli_commands[];
extern const size_t ot_cli_commands_n;

/* Finds the command of argv[1..], parses its options, sets logging up and runs it. Prints usage
 * errors to stderr with the way out and answers 2; --help goes to stdout and answers 0. The table
 * is kept for `help` and `completion`; it must be static. */
int ot_cli_main(const ot_command *const *table, size_t n, int argc, const char *const *argv);

/* For the boundary of a command: prints "overtake: MESSAGE" to stderr and answers 1 (2 for a usage
 * error). With --output json the error goes to stdout as {"error": ..., "code": ...} too. */
int ot_cli_fail(const ot_args *args, const ot_error *err);
int ot_cli_usage(const ot_args *args, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints to stdout; the exit code: 1 when it could not be written (a full disk, a closed pipe). */
int ot_cli_print(const ot_str *text);
int ot_cli_print_json(const json_t *value); /* indented; NULL prints nothing */

/* The version out of "v3" or "3"; 0 when it is none. */
int64_t ot_cli_version_of(const char *text);

#endif
