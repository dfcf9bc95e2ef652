/* The settings where no launcher of ours says them: OVERTAKE_SETTINGS. */
#include "base/disk.h"
#include "base/mem.h"
#include "base/str.h"
#include "collective/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINKS_MAX (1u << 20)
#define SPACES " \t\r\n"

enum { WIRE, WIRE_RANK, TIMEOUT, LINKS, NAMES };

static const char *const names[NAMES] = {
    [WIRE] = "wire", [WIRE_RANK] = "wire-rank", [TIMEOUT] = "timeout", [LINKS] = "links"};

static ot_rc unknown(const char *word, size_t n, ot_error *err)
{
    return ot_fail(err, OT_INVALID,
                   "'%.*s' is not NAME=VALUE with a name out of wire, wire-rank, timeout, links",
                   (int)OT_MIN(n, (size_t)80), word);
}

static ot_rc take(int name, const char *value, ot_settings *s, char links[OT_PATH_MAX],
                  ot_error *err)
{
    switch (name) {
    case WIRE:
        return ot_loss_parse(value, &s->loss, err);
    case WIRE_RANK:
        return ot_lowrank_parse(value, &s->lowrank, err);
    case TIMEOUT:
        return ot_parse_duration_us(value, &s->timeout_us, err);
    default:
        snprintf(links, OT_PATH_MAX, "%s", value);
        return OT_OK;
    }
}

ot_rc ot_settings_words(const char *text, ot_settings *s, char links[OT_PATH_MAX], ot_error *err)
{
    char value[OT_PATH_MAX];
    unsigned seen = 0;
    links[0] = 0;
    *s = ot_settings_default();
    for (text += strspn(text, SPACES); *text != 0; text += strspn(text, SPACES)) {
        size_t n = strcspn(text, SPACES), k = strcspn(text, "=" SPACES);
        int name = 0;
        while (name < NAMES && (strlen(names[name]) != k || memcmp(names[name], text, k) != 0)) {
            name++;
        }
        if (name == NAMES || k + 1 >= n || n - k > sizeof value) {
            return unknown(text, n, err);
        }
        if ((seen & 1u << name) != 0) {
            return ot_fail(err, OT_INVALID, "%s is there twice", names[name]);
        }
        seen |= 1u << name;
        snprintf(value, sizeof value, "%.*s", (int)(n - k - 1), text + k + 1);
        ot_rc rc = take(name, value, s, links, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s", names[name]);
        }
        text += n;
    }
    return OT_OK;
}

ot_rc ot_settings_links(const char *path, ot_settings *s, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), path, LINKS_MAX, &text, err));
    ot_rc rc = ot_cost_parse(text.len > 0 ? text.data : "", &s->cost, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "%s", path);
}

ot_rc ot_settings_given(ot_settings *out, bool *given_out, ot_error *err)
{
    const char *text = getenv("OVERTAKE_SETTINGS");
    char links[OT_PATH_MAX];
    *out = ot_settings_default();
    *given_out = text != NULL && text[0] != 0;
    if (!*given_out) {
        return OT_OK;
    }
    ot_settings s;
    ot_rc rc = ot_settings_words(text, &s, links, err);
    rc = rc == OT_OK && links[0] != 0 ? ot_settings_links(links, &s, err) : rc;
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "OVERTAKE_SETTINGS='%.200s'", text);
    }
    *out = s;
    return OT_OK;
}

ot_rc ot_settings_agree(const char *ours, const char *theirs, ot_error *err)
{
    size_t n, m;
    while (*ours != 0 && *theirs != 0) {
        n = strcspn(ours, "\n");
        m = strcspn(theirs, "\n");
        if (n != m || memcmp(ours, theirs, n) != 0) {
            break;
        }
        ours += n + (ours[n] == '\n');
        theirs += m + (theirs[m] == '\n');
    }
    if (*ours == 0 && *theirs == 0) {
        return OT_OK;
    }
    n = strcspn(ours, "\n");
    m = strcspn(theirs, "\n");
    return ot_fail(err, OT_INVALID,
                   "OVERTAKE_SETTINGS says '%.*s', and rank 0's says '%.*s': give all ranks the "
                   "same, or rank 0 alone",
                   (int)OT_MIN(n, (size_t)80), ours, (int)OT_MIN(m, (size_t)80), theirs);
}
