#include "net/tls_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

tls_lib ssl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static ot_error load_error; /* empty msg: loaded */

static void load(void)
{
    static const struct {
        const char *name;
        size_t slot;
    } functions[] = {
#define TLS_NAME(name) {#name, offsetof(tls_lib, name)},
        TLS_FUNCTIONS(TLS_NAME)
#undef TLS_NAME
    };
    /* libcrypto's functions are found through libssl, which depends on it. */
    void *lib = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        (void)ot_fail(&load_error, OT_UNAVAILABLE,
                      "TLS needs OpenSSL 3, and libssl.so.3 can't be loaded (%s); on Debian it is "
                      "in the package libssl3",
                      dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(lib, functions[i].name);
        if (found == NULL) {
            (void)ot_fail(&load_error, OT_UNAVAILABLE, "libssl.so.3 has no function %s",
                          functions[i].name);
            return;
        }
        memcpy((char *)&ssl + functions[i].slot, &found, sizeof found); /* ISO C has no such cast */
    }
    ssl.bio = tls_conn_bio();
    if (ssl.bio == NULL) {
        (void)ot_fail(&load_error, OT_EXHAUSTED, "TLS: out of memory");
    }
}

ot_rc tls_lib_load(ot_error *err)
{
    pthread_once(&once, load);
    return load_error.msg[0] == '\0' ? OT_OK : ot_fail(err, OT_UNAVAILABLE, "%s", load_error.msg);
}
