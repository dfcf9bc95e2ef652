/* The installed ABI header compiles alone, without a warning, as C17 and as C++17. */
#include "null_model.h"

static void compiles(const char *compiler, const char *flags)
{
    char command[512], line[256];
    snprintf(command, sizeof command, "%s --version >/dev/null 2>&1", compiler);
    if (system(command) != 0) {
        skip("no such compiler");
        return;
    }
    snprintf(command, sizeof command,
             "%s %s -Wall -Wextra -Wpedantic -Werror -fsyntax-only include/overtake/plugin.h 2>&1",
             compiler, flags);
    FILE *p = popen(command, "r");
    while (p != NULL && fgets(line, sizeof line, p) != NULL) {
        printf("# %s", line);
    }
    ok(p != NULL && pclose(p) == 0, "%s %s", compiler, flags);
}

int main(void)
{
    if (!ot_disk_exists(ot_disk_posix(), "include/overtake/plugin.h")) {
        skip("not run in the root of the source tree");
    } else {
        compiles("cc", "-std=c17 -x c");
        compiles("c++", "-std=c++17 -x c++");
    }
    return tap_done();
}
