/* The table of this folder's commands, in the order of `overtake help`; the first of a group
 * carries its heading. */
#include "cli/commands.h"

#include "base/mem.h"

const ot_command *const ot_cli_commands[] = {
    /* Run the loop */
    &ot_cli_up_command,
    &ot_cli_upgrade_command,
    &ot_cli_init_command,
    &ot_cli_check_command,
    &ot_cli_apply_command,
    &ot_cli_simulate_command,
    &ot_cli_labels_import_command,
    /* Look */
    &ot_cli_status_command,
    &ot_cli_why_command,
    &ot_cli_events_command,
    &ot_cli_events_verify_command,
    &ot_cli_runs_command,
    &ot_cli_logs_command,
    &ot_cli_checkpoints_command,
    &ot_cli_models_command,
    &ot_cli_accuracy_command,
    &ot_cli_samples_command,
    &ot_cli_replicas_command,
    &ot_cli_page_command,
    /* Act */
    &ot_cli_train_command,
    &ot_cli_push_command,
    &ot_cli_release_command,
    &ot_cli_approve_command,
    &ot_cli_reject_command,
    &ot_cli_rollback_command,
    &ot_cli_unload_command,
    &ot_cli_load_command,
    &ot_cli_pause_command,
    &ot_cli_freeze_command,
    &ot_cli_pin_command,
    &ot_cli_resume_command,
    &ot_cli_cancel_command,
    &ot_cli_label_command,
    &ot_cli_ab_command,
    &ot_cli_switch_command,
    /* Operate */
    &ot_cli_backup_command,
    &ot_cli_restore_command,
    &ot_cli_doctor_command,
    &ot_cli_report_command,
    &ot_cli_keys_add_command,
    &ot_cli_keys_list_command,
    &ot_cli_keys_revoke_command,
    &ot_cli_keys_off_command,
    /* Between servers */
    &ot_cli_promote_command,
    &ot_cli_export_command,
    &ot_cli_import_command,
    &ot_cli_keys_command,
    &ot_cli_trust_add_command,
    &ot_cli_trust_list_command,
    &ot_cli_trust_remove_command,
    &ot_cli_servers_add_command,
    &ot_cli_servers_list_command,
    &ot_cli_servers_remove_command,
    /* Measure */
    &ot_cli_top_command,
    &ot_cli_bench_command,
    &ot_cli_bench_cluster_command,
    &ot_cli_size_command,
    &ot_cli_replay_command,
    /* Train */
    &ot_cli_run_command,
    &ot_cli_tune_command,
    /* Parts alone */
    &ot_cli_serve_command,
    &ot_cli_control_command,
    &ot_cli_plugins_command,
    &ot_cli_package_command,
    &ot_cli_evaluate_command,
    &ot_cli_shim_command,
    &ot_cli_worker_command,
    /* This program */
    &ot_cli_help_command,
    &ot_cli_config_show_command,
    &ot_cli_config_reference_command,
    &ot_cli_completion_command,
    &ot_cli_version_command,
};
const size_t ot_cli_commands_n = OT_COUNT(ot_cli_commands);
