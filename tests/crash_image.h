/* Files and names in memory, and the operations that a crash disk (crash_disk.h) notes.
 *
 * Threads: one at a time. Lifetime: crash_image_done. */
#ifndef OT_TESTS_CRASH_IMAGE_H
#define OT_TESTS_CRASH_IMAGE_H

#include "base/random.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A test uses what it needs of this. */
#pragma GCC diagnostic ignored "-Wunused-function"

typedef enum crash_kind {
    CRASH_CREATE,
    CRASH_MKDIR,
    CRASH_RENAME,
    CRASH_LINK,
    CRASH_UNLINK,
    CRASH_WRITE,
    CRASH_TRUNCATE,
    CRASH_SYNC,
    CRASH_SYNC_DIR,
    CRASH_LOSE, /* a sync that failed: the system forgets what was not synced */
} crash_kind;

typedef struct crash_op {
    crash_kind kind;
    size_t inode;
    uint64_t at; /* WRITE: offset; TRUNCATE: size */
    size_t n;
    unsigned char *data;
    char *path, *to;
} crash_op;

typedef struct crash_inode {
    unsigned char *p;
    size_t n, cap;
    bool is_dir;
} crash_inode;

typedef struct crash_name {
    char *path;
    size_t inode;
} crash_name;

typedef struct crash_image {
    crash_inode *inodes;
    size_t inode_count;
    crash_name *names;
    size_t name_count;
} crash_image;

/* Tests end at once when memory is short. */
static void *crash_grow(void *p, size_t n)
{
    void *q = realloc(p, n);
    if (q == NULL) {
        abort();
    }
    return q;
}

static char *crash_dup(const char *z)
{
    size_t n = strlen(z) + 1;
    return memcpy(crash_grow(NULL, n), z, n);
}

static void crash_free(char **p)
{
    free(*p);
}

static crash_name *crash_find(crash_image *im, const char *path)
{
    for (size_t i = 0; i < im->name_count; i++) {
        if (strcmp(im->names[i].path, path) == 0) {
            return &im->names[i];
        }
    }
    return NULL;
}

static void crash_bind(crash_image *im, const char *path, size_t inode)
{
    crash_name *old = crash_find(im, path);
    if (old != NULL) {
        old->inode = inode;
        return;
    }
    im->names = crash_grow(im->names, (im->name_count + 1) * sizeof *im->names);
    im->names[im->name_count++] = (crash_name){.path = crash_dup(path), .inode = inode};
}

static void crash_unbind(crash_image *im, const char *path)
{
    crash_name *n = crash_find(im, path);
    if (n != NULL) {
        char *old = n->path;
        *n = im->names[--im->name_count];
        free(old);
    }
}

static void crash_need_inode(crash_image *im, size_t inode)
{
    if (inode >= im->inode_count) {
        im->inodes = crash_grow(im->inodes, (inode + 1) * sizeof *im->inodes);
        memset(&im->inodes[im->inode_count], 0, (inode + 1 - im->inode_count) * sizeof *im->inodes);
        im->inode_count = inode + 1;
    }
}

static void crash_resize(crash_inode *f, size_t n)
{
    if (n > f->cap) {
        f->cap = n * 2;
        f->p = crash_grow(f->p, f->cap);
    }
    if (n > f->n) {
        memset(f->p + f->n, 0, n - f->n);
    }
    f->n = n;
}

/* `rng` not NULL: only some sectors of a write arrive. */
static void crash_apply_write(crash_image *im, const crash_op *op, ot_rng *rng)
{
    crash_inode *f = &im->inodes[op->inode];
    if (op->at + op->n > f->n) {
        crash_resize(f, (size_t)op->at + op->n);
    }
    for (size_t done = 0; done < op->n;) {
        size_t k = 512 - (size_t)((op->at + done) % 512);
        k = k < op->n - done ? k : op->n - done;
        if (rng == NULL || ot_rng_below(rng, 2) == 0) {
            memcpy(f->p + op->at + done, op->data + done, k);
        }
        done += k;
    }
}

/* What lies in a directory goes with it. */
static void crash_carry(crash_image *im, const char *from, const char *to)
{
    size_t n = strlen(from);
    for (size_t i = 0; i < im->name_count; i++) {
        char *old = im->names[i].path;
        if (strncmp(old, from, n) == 0 && old[n] == '/') {
            char *moved = crash_grow(NULL, strlen(to) + strlen(old + n) + 1);
            strcpy(moved, to);
            strcat(moved, old + n);
            im->names[i].path = moved;
            free(old);
        }
    }
}

static void crash_apply(crash_image *im, const crash_op *op, ot_rng *rng)
{
    crash_name *n;
    crash_need_inode(im, op->inode);
    switch (op->kind) {
    case CRASH_CREATE:
    case CRASH_MKDIR:
        im->inodes[op->inode].is_dir = op->kind == CRASH_MKDIR;
        crash_bind(im, op->path, op->inode);
        break;
    case CRASH_RENAME:
    case CRASH_LINK:
        /* By inode: the old name may have got lost, the new one not. */
        crash_bind(im, op->to, op->inode);
        if (op->kind == CRASH_RENAME) {
            crash_unbind(im, op->path);
            crash_carry(im, op->path, op->to);
        }
        break;
    case CRASH_UNLINK:
        n = crash_find(im, op->path);
        if (n != NULL && n->inode == op->inode) {
            crash_unbind(im, op->path);
        }
        break;
    case CRASH_WRITE:
        crash_apply_write(im, op, rng);
        break;
    case CRASH_TRUNCATE:
        crash_resize(&im->inodes[op->inode], (size_t)op->at);
        break;
    case CRASH_SYNC:
    case CRASH_SYNC_DIR:
    case CRASH_LOSE:
        break;
    }
}

static void crash_image_done(crash_image *im)
{
    for (size_t i = 0; i < im->inode_count; i++) {
        free(im->inodes[i].p);
    }
    for (size_t i = 0; i < im->name_count; i++) {
        free(im->names[i].path);
    }
    free(im->inodes);
    free(im->names);
    memset(im, 0, sizeof *im);
}

static void crash_image_copy(crash_image *to, const crash_image *from)
{
    memset(to, 0, sizeof *to);
    if (from->inode_count > 0) {
        crash_need_inode(to, from->inode_count - 1);
    }
    for (size_t i = 0; i < from->inode_count; i++) {
        const crash_inode *f = &from->inodes[i];
        to->inodes[i].is_dir = f->is_dir;
        if (f->n > 0) {
            to->inodes[i].p = crash_grow(NULL, f->n);
            to->inodes[i].n = to->inodes[i].cap = f->n;
            memcpy(to->inodes[i].p, f->p, f->n);
        }
    }
    for (size_t i = 0; i < from->name_count; i++) {
        crash_bind(to, from->names[i].path, from->names[i].inode);
    }
}

#endif
