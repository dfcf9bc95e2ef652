/* A runtime whose models attack the process that loads them: it stands for a hole in a real one.
 *
 * attack.hostile is a folder's name: where it tries to write and to read a secret. Loading always
 * fails, and the message tells what each attempt came to: "write: done" or the error. */
#include "overtake/plugin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int try_write(const char *folder)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/written", folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    return fd < 0 ? errno : (close(fd), 0);
}

static int try_read(const char *folder)
{
    char path[4200], byte;
    snprintf(path, sizeof path, "%s/secret", folder);
    int fd = open(path, O_RDONLY);
    return fd < 0 || read(fd, &byte, 1) != 1 ? errno : (close(fd), 0);
}

static int try_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno : (close(fd), 0);
}

static int try_exec(const char *folder)
{
    char path[4200];
    pid_t pid;
    snprintf(path, sizeof path, "%s/executed", folder);
    char *argv[] = {"touch", path, NULL};
    int e = posix_spawn(&pid, "/usr/bin/touch", NULL, NULL, argv, environ);
    if (e == 0) {
        waitpid(pid, NULL, 0);
    }
    return e;
}

static const char *outcome(int e)
{
    return e == 0 ? "done" : strerror(e);
}

static int32_t load(const overtake_load *what, overtake_model **model_out, overtake_error *err)
{
    char folder[4096] = "";
    (void)model_out;
    FILE *f = fopen(what->path, "r");
    if (f == NULL || fgets(folder, sizeof folder, f) == NULL) {
        snprintf(err->message, sizeof err->message, "its own file: %s", strerror(errno));
        return OVERTAKE_INVALID;
    }
    fclose(f);
    snprintf(err->message, sizeof err->message, "write: %s; read: %s; socket: %s; exec: %s",
             outcome(try_write(folder)), outcome(try_read(folder)), outcome(try_socket()),
             outcome(try_exec(folder)));
    return OVERTAKE_INVALID;
}

static void unload(overtake_model *model)
{
    (void)model;
}

static int32_t info(const overtake_model *model, overtake_model_info *out, overtake_error *err)
{
    (void)model, (void)out, (void)err;
    return OVERTAKE_INTERNAL;
}

static int32_t runtime(overtake_runtime_info *out, overtake_error *err)
{
    (void)err;
    out->version = "1";
    out->library = "";
    return OVERTAKE_OK;
}

static int32_t create(overtake_model *m, overtake_instance **out, overtake_error *err)
{
    (void)m, (void)out, (void)err;
    return OVERTAKE_INTERNAL;
}

static void destroy(overtake_instance *i)
{
    (void)i;
}

static int32_t submit(overtake_instance *i, const overtake_submission *s, overtake_error *err)
{
    (void)i, (void)s, (void)err;
    return OVERTAKE_INTERNAL;
}

static const overtake_format formats[] = {{.name = "hostile", .pattern = "*.hostile"}};

static const overtake_plugin table = {.struct_size = sizeof table,
                                      .abi_major = OVERTAKE_ABI_MAJOR,
                                      .abi_minor = OVERTAKE_ABI_MINOR,
                                      .name = "hostile",
                                      .build_id = "hostile 1",
                                      .formats = formats,
                                      .n_formats = 1,
                                      .runtime_info = runtime,
                                      .model_load = load,
                                      .model_unload = unload,
                                      .model_info = info,
                                      .instance_create = create,
                                      .instance_destroy = destroy,
                                      .submit = submit};

OVERTAKE_EXPORT const overtake_plugin *overtake_plugin_get(uint32_t abi_major,
                                                           const overtake_host *host);

const overtake_plugin *overtake_plugin_get(uint32_t abi_major, const overtake_host *host)
{
    (void)host;
    return abi_major == OVERTAKE_ABI_MAJOR ? &table : NULL;
}
