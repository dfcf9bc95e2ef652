/* Shared by vfs.c (files), vfs_lock.c (locks and the shared-memory index). */
#ifndef OT_STORE_VFS_INTERNAL_H
#define OT_STORE_VFS_INTERNAL_H

#include "store/vfs.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct vfs_file vfs_file;

#define VFS_PENDING_MAX (64u * 1024)
#define VFS_SHM_REGIONS_MAX 4096 /* of 32 KiB: the index of about 16 million log pages */

struct ot_vfs {
    sqlite3_vfs base;
    ot_disk *disk;
    char *dir;
    char name[40];
    atomic_bool broken;
    pthread_mutex_t m;
    /* Synchronization: m for all below. */
    char last_error[512];
    int shared;         /* files that hold at least SHARED on the database */
    vfs_file *reserved; /* the file that holds RESERVED or more */
    bool pending;       /* reserved waits for readers to leave, or has EXCLUSIVE */
    int shm_users;
    uint32_t shm_region_count;
    void **shm_regions;
    int shm_slots[SQLITE_SHM_NLOCK]; /* > 0: holders of shared; -1: exclusive */
};

struct vfs_file {
    sqlite3_file base;
    ot_vfs *v;
    ot_file *f;
    int lock;      /* SQLITE_LOCK_*; synchronization: v->m */
    bool sync_dir; /* the directory entry is new */
    bool is_log;
    /* Writes to the log that follow each other (SQLite gives a page and its header apart) go to the
     * disk in one piece, at the sync of a commit at the latest. Nobody else reads them before: the
     * index names a page only after that sync. */
    char *pending;
    size_t pending_n;
    uint64_t pending_at;
    bool shm_mapped;
    uint16_t shm_shared, shm_exclusive; /* bit masks; synchronization: v->m */
};

static inline vfs_file *vfs_file_of(sqlite3_file *f)
{
    return (vfs_file *)(void *)f;
}

int ot_vfs_lock(sqlite3_file *f, int level);
int ot_vfs_unlock(sqlite3_file *f, int level);
int ot_vfs_check_reserved(sqlite3_file *f, int *out);
int ot_vfs_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **pp);
int ot_vfs_shm_lock(sqlite3_file *f, int offset, int n, int flags);
void ot_vfs_shm_barrier(sqlite3_file *f);
int ot_vfs_shm_unmap(sqlite3_file *f, int delete_flag);

#endif
