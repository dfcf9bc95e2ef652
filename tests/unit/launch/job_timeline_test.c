#include "launch/job_timeline.h"

#include "base/mem.h"
#include "tap.h"

#include <jansson.h>
#include <stdlib.h>

static char dir[] = "/tmp/ot_timeline_XXXXXX";
static char path[64], part[64];

static void take(ot_job_timeline *t, int32_t rank, bool last, const char *text)
{
    ot_job_timeline_take(t, rank, last, text, strlen(text));
}

static void test_file(void)
{
    ot_error err = {0};
    ot_job_timeline *t = NULL;
    int32_t missing = -1;
    ok(ot_job_timeline_create(path, 3, &t, &err) == OT_OK, "created %s", err.msg);
    take(t, 0, false, "{\"a\":1},\n{\"a\":2},\n");
    take(t, 2, false, "{\"a\":3},\n");
    take(t, 1, false, "{\"a\":4}"); /* not whole lines */
    take(t, 1, false, "],\n");
    take(t, 7, false, "{\"a\":5},\n");
    take(t, 0, true, "{\"rank\":0}");
    take(t, 2, true, "{\"rank\":2}");
    ok(!ot_disk_exists(ot_disk_posix(), path), "it has no name before it is whole");
    ok(ot_job_timeline_end(t, &missing, &err) == OT_OK && missing == 1, "%d missing", missing);
    json_error_t why;
    json_t *j = json_load_file(path, 0, &why);
    ok(j != NULL, "JSON: line %d: %s", why.line, why.text);
    is_int(json_array_size(json_object_get(j, "traceEvents")), 3, "what was in the form");
    is_int(json_array_size(json_object_get(json_object_get(j, "otherData"), "ranks")), 2,
           "what is said of them");
    json_decref(j);
    ok(!ot_disk_exists(ot_disk_posix(), part), "nothing beside it");
}

static void test_empty(void)
{
    ot_error err = {0};
    ot_job_timeline *t = NULL;
    int32_t missing = -1;
    ok(ot_job_timeline_create(path, 2, &t, &err) == OT_OK, "begun anew");
    ok(ot_job_timeline_end(t, &missing, &err) == OT_OK && missing == 2, "nobody came");
    json_t *j = json_load_file(path, 0, NULL);
    ok(j != NULL && json_array_size(json_object_get(j, "traceEvents")) == 0, "no events");
    json_decref(j);
    ok(ot_job_timeline_create("/nowhere/at/all", 2, &t, &err) != OT_OK &&
           strstr(err.msg, "/nowhere/at/all") != NULL,
       "no such place: %s", err.msg);
    ok(ot_job_timeline_create(path, 2, &t, &err) == OT_OK, "once more");
    ot_job_timeline_destroy(t);
    ok(!ot_disk_exists(ot_disk_posix(), part), "given up: nothing is left");
}

int main(void)
{
    if (mkdtemp(dir) == NULL) {
        printf("Bail out! no directory\n");
        return 1;
    }
    snprintf(path, sizeof path, "%s/t.json", dir);
    snprintf(part, sizeof part, "%s.part", path);
    test_file();
    test_empty();
    ot_error err;
    (void)!ot_disk_remove_tree(ot_disk_posix(), dir, &err);
    return tap_done();
}
