/* Runtimes and Python, each asked in a process of its own: one that crashes or hangs is a finding.
 */
#include "doctor/internal.h"

#include "base/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define PLUGINS_US 12000000
#define PYTHON_US 5000000

static const char *text_of(const json_t *o, const char *key)
{
    const char *z = json_string_value(json_object_get(o, key));
    return z != NULL ? z : "";
}

static void say_runtime(doctor *d, const json_t *r)
{
    if (json_is_true(json_object_get(r, "usable"))) {
        const char *library = text_of(r, "runtime_library");
        dr_say(d, "runtime", OT_CHECK_OK, NULL, "%s %s for %s%s%s", text_of(r, "name"),
               text_of(r, "runtime_version"), text_of(r, "formats"), library[0] != 0 ? ", " : "",
               library);
    } else {
        dr_say(d, "runtime", OT_CHECK_WARN,
               "only if you serve its models: install it, for example with pip, into an "
               "environment whose python3 is on PATH; see docs/plugins.md",
               "%s: %s", text_of(r, "name")[0] != 0 ? text_of(r, "name") : text_of(r, "file"),
               text_of(r, "reason"));
    }
}

void dr_runtimes(doctor *d)
{
    const char *argv[] = {d->o->exe, "plugins", "--output", "json", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    ot_rc rc = dr_child_run(argv, dr_left_us(d, PLUGINS_US), &out, &err);
    json_t *list = rc == OT_OK ? json_loadb(out.data, out.len, 0, NULL) : NULL, *r;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        dr_say(d, "runtime", rc == OT_TIMEOUT ? OT_CHECK_WARN : OT_CHECK_FAIL,
               "see what `overtake plugins` says; the folder `plugins` belongs beside the binary",
               "%s", rc != OT_OK ? err.msg : "no plug-in was found");
    }
    json_array_foreach(list, i, r)
    {
        say_runtime(d, r);
    }
    json_decref(list);
}

static const char asks[] =
    "import sys\n"
    "from importlib import metadata\n"
    "out = ['Python ' + sys.version.split()[0] + ' (' + sys.executable + ')']\n"
    "for name in ('numpy', 'tensorflow', 'tensorflow-cpu', 'torch', 'onnx', 'onnxruntime',\n"
    "             'tf2onnx', 'scikit-learn'):\n"
    "    try:\n"
    "        out.append(name + ' ' + metadata.version(name))\n"
    "    except metadata.PackageNotFoundError:\n"
    "        pass\n"
    "print(', '.join(out))\n";

void dr_python(doctor *d)
{
    const char *argv[] = {"python3", "-c", asks, NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_error err = {0};
    if (dr_child_run(argv, dr_left_us(d, PYTHON_US), &out, &err) != OT_OK) {
        dr_say(d, "python", OT_CHECK_WARN,
               "only if your programs are Python: install it, or put its environment's bin on PATH",
               "python3 on PATH: %s",
               strstr(err.msg, "code 127") != NULL ? "there is none" : err.msg);
        return;
    }
    out.len = strcspn(out.data, "\n");
    bool numpy = strstr(out.data, "numpy ") != NULL;
    dr_say(d, "python", numpy ? OT_CHECK_OK : OT_CHECK_WARN,
           numpy ? NULL : "pip install numpy: the data of a run come as .npy files", "%.*s%s",
           (int)out.len, out.data, numpy ? "" : "; no numpy");
}
