#include "registry/npz.h"

#include "codec/npy.h"

#include <inttypes.h>

static ot_rc add_member(const ot_zip_member *m, uint64_t *budget, ot_table *t, ot_error *err)
{
    char stem[OT_ZIP_NAME_MAX + 1];
    if (!ot_zip_npy_name(m, stem)) {
        return ot_fail(err, OT_INVALID, "npz: member '%.140s'; NAME.npy is expected", m->name);
    }
    if (m->size > *budget) {
        return ot_fail(err, OT_EXHAUSTED,
                       "npz: '%s' inflates to %" PRIu64 " bytes; %" PRIu64 " are left of the limit",
                       m->name, m->size, *budget);
    }
    uint8_t *data = ot_alloc((size_t)m->size);
    if (data == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "npz: '%s': no memory for %" PRIu64 " bytes", m->name,
                       m->size);
    }
    ot_rc rc = ot_zip_unpack(m, data, err);
    if (rc != OT_OK) {
        ot_free(data);
        return rc;
    }
    *budget -= m->size;
    ot_tensor c;
    rc = ot_npy_parse(data, (size_t)m->size, &c, err);
    if (rc != OT_OK) {
        ot_free(data);
        return ot_error_prefix(err, rc, "npz: '%s'", m->name);
    }
    rc = ot_table_add_owned(t, stem, &c, data, err);
    return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "npz");
}

ot_rc ot_npz_read_capped(const void *p, size_t n, unsigned long long bytes_max, ot_table *t,
                         ot_error *err)
{
    ot_zip z;
    uint64_t budget = bytes_max;
    OT_TRY(ot_zip_open(p, n, &z, err));
    for (;;) {
        ot_zip_member m;
        bool more;
        OT_TRY(ot_zip_next(&z, &m, &more, err));
        if (!more) {
            return OT_OK;
        }
        OT_TRY(add_member(&m, &budget, t, err));
    }
}

ot_rc ot_npz_read(const void *p, size_t n, ot_table *t, ot_error *err)
{
    return ot_npz_read_capped(p, n, OT_NPZ_BYTES_MAX, t, err);
}
