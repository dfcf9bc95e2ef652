/* What the files of a bucket share: bucket.c packs, runs and unpacks; bucket_parts.c has what goes
 * in two parts, by codecs (bucket_coded.c) or by low rank (bucket_lowrank.c).
 *
 * Threads: the progress thread. */
#ifndef OT_COLLECTIVE_BUCKET_INTERNAL_H
#define OT_COLLECTIVE_BUCKET_INTERNAL_H

#include "collective/bucket.h"
#include "collective/lowrank.h"

typedef struct ot_item {
    ot_ticket *ticket; /* NULL: joined */
    uint64_t count;
    double before, after; /* factors */
    size_t offset;        /* in the packed buffer */
    /* Where bits are lost: */
    uint64_t key; /* of what is kept */
    ot_residual *kept;
    /* By low rank: */
    size_t second;  /* offset in the numbers of the second part */
    ot_lowrank low; /* rows 0: goes as it is */
    ot_residual *columns;
} ot_item;

/* Two runs, the second of them on a lane of its own. */
typedef struct ot_part {
    ot_run first, second;
    ot_work *work;
    void *room;
    size_t room_size;
    ot_twoshot shots; /* by a codec */
} ot_part;

struct ot_work {
    ot_run run; /* first: the executor hands it back */
    ot_team_place place;
    ot_exec *exec;
    ot_work_ops ops;
    ot_lane lane;
    ot_signature sig; /* of the first tensor */
    ot_codec_choice choice;
    size_t open;      /* runs that have not ended */
    bool told;        /* the tickets have ended */
    int64_t *rows;    /* ALLGATHER: of each rank; else NULL */
    bool knows_parts; /* ALLGATHER, ALLTOALL: what the others bring is known */
    int32_t last_joined;
    uint64_t *mine, *theirs; /* ALLTOALL, ALLGATHER: rows to and from each rank */
    void *packed, *scratch, *copy;
    size_t packed_size, scratch_size, copy_size;
    bool too_small; /* the caller's out: what came went to `packed` */
    uint64_t out_need;
    uint8_t bytes[2]; /* BARRIER */
    uint64_t asked;   /* when the last of its tickets was */
    ot_part *parts;
    size_t n_parts;
    ot_span *spans; /* of all parts, by a codec */
    ot_low_sizes low;
    size_t n;
    ot_item items[];
};

static inline size_t ot_work_elem(const ot_work *w)
{
    return ot_dtype_bytes((overtake_dtype)w->run.dtype);
}

/* bucket.c */
ot_rc ot_work_short(const ot_work *w, uint64_t bytes, ot_error *err);
/* `count` elements from `in` to `out`, times the factor. */
void ot_work_scaled(const ot_work *w, void *out, const void *in, uint64_t count, double by);
/* What this rank brings of a tensor, scaled, with what was kept of it. */
void ot_work_load(const ot_work *w, ot_item *it, void *out);
/* The ticket's memory for the result; NULL: too small, or there is none. */
void *ot_work_out(const ot_work *w, const ot_item *it);
/* How a run of this shape goes, and its scratch. */
ot_rc ot_work_build(ot_work *w, ot_run *r, ot_coll_shape *shape, ot_error *err) OT_CHECKED;
/* How it went, to those who wait, once; then the work is no more, unless a run of it is. */
void ot_work_tell(ot_work *w, const ot_error *why);

/* bucket_parts.c */
ot_rc ot_work_parts_submit(ot_work *w, ot_exec *second, ot_error *err) OT_CHECKED;
/* What is kept of the item is not used any more. */
void ot_work_let_go(ot_work *w, ot_item *it);
void ot_work_parts_free(ot_work *w);
/* What w->run says of when: from the first part's beginning to the last one's end. */
void ot_work_parts_times(ot_work *w);

/* What becomes of one part: prepares the first run; when it has ended; prepares the second run;
 * when that has ended. */
typedef struct ot_part_ops {
    ot_rc (*begin)(ot_part *p, ot_error *err);
    void (*middle)(ot_part *p);
    ot_rc (*second)(ot_part *p, ot_error *err);
    void (*end)(ot_part *p);
} ot_part_ops;

/* bucket_coded.c */
extern const ot_part_ops ot_part_coded;
/* Cuts the bucket into parts whose sums overlap. */
ot_rc ot_work_coded_cut(ot_work *w, ot_error *err) OT_CHECKED;

/* bucket_lowrank.c */
extern const ot_part_ops ot_part_low;
/* Which tensors go so, and the sizes of it. */
void ot_work_low_plan(ot_work *w, const ot_signature *sigs);
/* The result of a tensor, once both sums are here. */
void ot_work_low_end(ot_work *w, ot_item *it);

#endif
