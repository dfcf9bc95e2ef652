/* An app file on this machine: read, parsed, and looked at for what would fail only later.
 *
 * Threads: any. The app is the caller's: ot_app_destroy. Its `yaml` is the text, `file` the name
 * without its folder, `dir` the folder. */
#ifndef OT_CLI_APPFILE_H
#define OT_CLI_APPFILE_H

#include "base/disk.h"
#include "base/options.h"
#include "pipeline/site.h"

#define OT_CLI_APP_BYTES_MAX (1u << 20)

/* The operators' file, as every command that takes one declares it. */
#define OT_CLI_SITE_OPT(help_)                                                                     \
    {                                                                                              \
        .name = "site", .type = OT_OPT_STRING, .value = "FILE", .help = (help_), .env = ""         \
    }

/* The folder of `path` ("." when it names none) and where the file's own name begins. */
ot_rc ot_cli_split_path(const char *path, char dir_out[OT_PATH_MAX], const char **file_out,
                        ot_error *err) OT_CHECKED;
/* From the working directory when it is relative. */
ot_rc ot_cli_absolute(const char *path, char out[OT_PATH_MAX], ot_error *err) OT_CHECKED;

/* The site is the caller's: ot_site_destroy. */
ot_rc ot_cli_site_load(const char *path, ot_site **site_out, ot_error *err) OT_CHECKED;
/* Held to the site; NULL: there is none. */
ot_rc ot_cli_app_load(const char *path, const ot_site *site, ot_app **app_out,
                      ot_error *err) OT_CHECKED;
/* The same, and the data that it names are there; with a rate (rows a second; 0: not known) its
 * stages can end in time. */
ot_rc ot_cli_app_check(const char *path, const ot_site *site, double rate, ot_app **app_out,
                       ot_error *err) OT_CHECKED;
/* ot_cli_fail with, in JSON, the list "errors": [{"file", "line", "column", "message"}] for a
 * review of changes. A place in one of the files (NULLs are skipped) is given by the path that the
 * user named; file, line and column are null where the error names no place. Each line of the
 * message is an error of its own. */
int ot_cli_refuse(const ot_args *args, const ot_error *err, const char *const *paths,
                  size_t n_paths);

#endif
