#include "cli/table.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static void test_cells(void)
{
    static const char *const headings[] = {"NAME", ">ROWS", "STATE"};
    ot_cli_table t;
    ot_str out = OT_STR_INIT;
    ot_cli_table_init(&t, headings, 3);
    ot_cli_table_print(&t, &out);
    is_str(out.data, "NAME  ROWS  STATE\n", "no rows");
    ot_str_clear(&out);
    ot_cli_table_cell(&t, "digits");
    ot_cli_table_cellf(&t, "%d", 12);
    ot_cli_table_cell(&t, "");
    ot_cli_table_cell(&t, "caf\xc3\xa9");
    ot_cli_table_cell(&t, NULL);
    ot_cli_table_cell(&t, "a\x1b[31m\nb");
    ot_cli_table_print(&t, &out);
    is_str(out.data,
           "NAME    ROWS  STATE\n"
           "digits    12  -\n"
           "caf\xc3\xa9       -  a?[31m?b\n",
           "aligned; what a terminal would obey is not printed");
    ot_cli_table_done(&t);
    ot_cli_table_init(&t, headings, 3);
    (void)ot_mem_fail_nth(1);
    ot_cli_table_cell(&t, "x");
    (void)ot_mem_fail_nth(0);
    ot_str_clear(&out);
    ot_cli_table_print(&t, &out);
    ok(t.failed && out.failed, "no memory shows in the output");
    ot_cli_table_done(&t);
    ot_str_done(&out);
}

static void test_json(void)
{
    static const ot_cli_column columns[] = {
        {"NAME", "name", OT_CLI_PLAIN},     {">VERSION", "champion.version", OT_CLI_PLAIN},
        {"SHARE", "share", OT_CLI_PERCENT}, {"AGE", "age_us", OT_CLI_DURATION},
        {"SIZE", "bytes", OT_CLI_SIZE},     {"AT", "at", OT_CLI_TIME},
        {"ON", "on", OT_CLI_PLAIN},
    };
    json_t *a = json_loads("[{\"name\": \"d\", \"champion\": {\"version\": 3}, \"share\": 0.25,"
                           "\"age_us\": 1500000, \"bytes\": 2048, \"at\": 1763892903123456,"
                           "\"on\": true}, {\"name\": [1], \"champion\": null, \"share\": 1e-9}]",
                           0, NULL);
    ot_str out = OT_STR_INIT;
    ot_cli_table_json(a, columns, OT_COUNT(columns), &out);
    is_str(out.data,
           "NAME  VERSION  SHARE   AGE   SIZE   AT                   ON\n"
           "d           3  25%     1.5s  2 KiB  2025-11-23 10:15:03  yes\n"
           "[1]         -  1e-07%  -     -      -                    -\n",
           "a table from JSON");
    json_decref(a);
    ot_str_clear(&out);
    ot_cli_table_json(NULL, columns, 1, &out);
    is_str(out.data, "NAME\n", "no array");
    ot_str_done(&out);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    test_cells();
    test_json();
    return tap_done();
}
