#include "cli/csv.h"

#include "base/mem.h"
#include "tap.h"

typedef struct source {
    const char *p;
    size_t left, step;
} source;

static ot_rc give(void *arg, char *p, size_t cap, size_t *n_out, ot_error *err)
{
    source *s = arg;
    size_t n = OT_MIN(OT_MIN(s->left, s->step), cap);
    if (n == 0 && s->step == 0) {
        return ot_fail(err, OT_INTERNAL, "the disk is gone");
    }
    memcpy(p, s->p, n);
    s->p += n;
    s->left -= n;
    *n_out = n;
    return OT_OK;
}

/* "LINE[FIELD][FIELD]" of each record, then what ended it. */
static ot_rc all(const char *text, size_t n, size_t step, ot_str *out)
{
    static ot_csv c;
    source s = {text, n, step};
    ot_error err = {0};
    ot_rc rc;
    ot_str_clear(out);
    ot_csv_init(&c, give, &s);
    for (;;) {
        size_t fields = 0;
        int64_t line = 0;
        rc = ot_csv_next(&c, &fields, &line, &err);
        if (rc != OT_OK) {
            ot_str_adds(out, err.msg);
        }
        if (rc != OT_OK || fields == 0) {
            break;
        }
        ot_str_addf(out, "%d", (int)line);
        for (size_t i = 0; i < fields; i++) {
            ot_str_addf(out, "[%s]", ot_csv_field(&c, i));
        }
    }
    ot_csv_done(&c);
    return rc;
}

static void reads(const char *text, const char *want, const char *what)
{
    ot_str out = OT_STR_INIT;
    for (size_t step = 1; step < 100; step += 7) {
        ot_rc rc = all(text, strlen(text), step, &out);
        if (rc != OT_OK || strcmp(out.data, want) != 0) {
            break;
        }
    }
    is_str(out.data, want, "%s", what);
    ot_str_done(&out);
}

static void refuses(const char *text, size_t n, const char *want)
{
    ot_str out = OT_STR_INIT;
    is_int(all(text, n, 3, &out), OT_INVALID, "refused");
    is_str(out.data, want, "says so");
    ot_str_done(&out);
}

static void test_records(void)
{
    reads("id,label\na,1\nb,2\n", "1[id][label]2[a][1]3[b][2]", "lines");
    reads("id,label\r\na,1\r\nb,2", "1[id][label]2[a][1]3[b][2]", "CRLF, no last line end");
    reads("\xef\xbb\xbfid\na", "1[id]2[a]", "a byte order mark");
    reads("\"\xef\xbb\xbf\"\n", "1[\xef\xbb\xbf]", "which elsewhere is text");
    reads("\"a,b\",\"c\"\"d\"\"\"\n", "1[a,b][c\"d\"]", "quotes");
    reads("\"a\r\nb\n\",c\nd,e\n", "1[a\r\nb\n][c]4[d][e]", "line ends in quotes");
    reads(",\n\n\r\n\"\"\n,,x\n", "1[][]4[]5[][][x]", "empty fields, empty lines");
    reads("", "", "nothing");
    reads("\n\n", "", "only empty lines");
    reads("a b, c\n", "1[a b][ c]", "blanks stay");
}

static void test_refusals(void)
{
    refuses("a\nb\"c\n", 6,
            "1[a]2: a quote inside a field; put the field in quotes and write \"\" for it");
    refuses("x\n\"a\"b\n", 7, "1[x]2: something between a closing quote and the next comma");
    refuses("\"a\n\n", 4, "1: a quote that is never closed");
    refuses("a\rb\n", 4, "1: a carriage return without a line feed");
    refuses("a\0b\n", 4, "1: a NUL byte: this is not text");
    refuses("\xef\xbbx", 3, "1: half a byte order mark: this is not UTF-8");
}

static void test_caps(void)
{
    ot_str text = OT_STR_INIT, out = OT_STR_INIT;
    for (int i = 0; i < OT_CSV_FIELDS_MAX - 1; i++) {
        ot_str_addc(&text, ',');
    }
    is_int(all(text.data, text.len, 1000, &out), OT_OK, "4096 fields");
    ot_str_addc(&text, ',');
    is_int(all(text.data, text.len, 1000, &out), OT_INVALID, "not 4097");
    is_str(out.data, "1: a record of more than 4096 fields", "says so");
    ot_str_clear(&text);
    while (text.len < OT_CSV_RECORD_MAX) {
        ot_str_addc(&text, 'x');
    }
    is_int(all(text.data, text.len, 65536, &out), OT_OK, "1 MiB");
    ot_str_addc(&text, 'x');
    is_int(all(text.data, text.len, 65536, &out), OT_INVALID, "not more");
    is_int(all("a", 1, 0, &out), OT_INTERNAL, "the source's own failure is passed on");
    is_str(out.data, "the disk is gone", "as it is");
    for (uint64_t nth = 1; nth < 4; nth++) {
        (void)ot_mem_fail_nth(nth);
        ot_rc rc = all("a,b\n", 4, 9, &out);
        (void)ot_mem_fail_nth(0);
        ok(rc == OT_OK || rc == OT_EXHAUSTED, "allocation %d fails", (int)nth);
    }
    ot_str_done(&text);
    ot_str_done(&out);
}

int main(void)
{
    test_records();
    test_refusals();
    test_caps();
    return tap_done();
}
