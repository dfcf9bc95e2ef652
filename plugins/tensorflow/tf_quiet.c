#include "tf_quiet.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEEP_MAX (256 * 1024)

static bool is_greeting(const char *line)
{
    return strncmp(line, "WARNING: All log messages before absl::InitializeLog()", 54) == 0 ||
           strstr(line, "oneDNN custom operations are on") != NULL;
}

static void forward(int from)
{
    FILE *f = fdopen(from, "r");
    char line[4096];
    size_t total = 0;
    if (f == NULL) {
        close(from);
        return;
    }
    rewind(f);
    while (total < KEEP_MAX && fgets(line, sizeof line, f) != NULL) {
        total += strlen(line);
        if (!is_greeting(line)) {
            fputs(line, stderr);
        }
    }
    fclose(f);
}

void *tf_quiet_dlopen(const char *path)
{
    /* Lazy: relocating hundreds of megabytes of functions that are never called takes a second. */
    const int how = RTLD_LAZY | RTLD_LOCAL;
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3),
        memory = memfd_create("stderr", MFD_CLOEXEC);
    if (saved < 0 || memory < 0 || dup2(memory, STDERR_FILENO) < 0) {
        if (saved >= 0) {
            close(saved);
        }
        if (memory >= 0) {
            close(memory);
        }
        return dlopen(path, how);
    }
    void *handle = dlopen(path, how);
    dup2(saved, STDERR_FILENO);
    close(saved);
    forward(memory);
    return handle;
}
