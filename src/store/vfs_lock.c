/* Locks of the database file and the shared-memory index of the write-ahead log, in the heap of the
 * one process that uses the directory. The rules are those of SQLite's os.h: SHARED many, RESERVED
 * one beside readers, PENDING keeps new readers out, EXCLUSIVE alone. */
#include "base/mem.h"
#include "store/vfs_internal.h"

#include <string.h>

static int lock_exclusive_locked(ot_vfs *v, vfs_file *vf)
{
    if (v->reserved != NULL && v->reserved != vf) {
        return SQLITE_BUSY;
    }
    v->reserved = vf;
    v->pending = true;
    if (v->shared > 1) {
        vf->lock = SQLITE_LOCK_PENDING;
        return SQLITE_BUSY;
    }
    vf->lock = SQLITE_LOCK_EXCLUSIVE;
    return SQLITE_OK;
}

int ot_vfs_lock(sqlite3_file *f, int level)
{
    vfs_file *vf = vfs_file_of(f);
    ot_vfs *v = vf->v;
    int rc = SQLITE_OK;
    pthread_mutex_lock(&v->m);
    if (vf->lock >= level) {
        /* held already */
    } else if (level == SQLITE_LOCK_SHARED) {
        if (v->pending) {
            rc = SQLITE_BUSY;
        } else {
            v->shared++;
            vf->lock = SQLITE_LOCK_SHARED;
        }
    } else if (level == SQLITE_LOCK_RESERVED) {
        if (v->reserved != NULL) {
            rc = SQLITE_BUSY;
        } else {
            v->reserved = vf;
            vf->lock = SQLITE_LOCK_RESERVED;
        }
    } else {
        rc = lock_exclusive_locked(v, vf);
    }
    pthread_mutex_unlock(&v->m);
    return rc;
}

int ot_vfs_unlock(sqlite3_file *f, int level)
{
    vfs_file *vf = vfs_file_of(f);
    ot_vfs *v = vf->v;
    pthread_mutex_lock(&v->m);
    if (vf->lock > level) {
        if (v->reserved == vf) {
            v->reserved = NULL;
            v->pending = false;
        }
        if (level == SQLITE_LOCK_NONE) {
            v->shared--;
        }
        vf->lock = level;
    }
    pthread_mutex_unlock(&v->m);
    return SQLITE_OK;
}

int ot_vfs_check_reserved(sqlite3_file *f, int *out)
{
    vfs_file *vf = vfs_file_of(f);
    pthread_mutex_lock(&vf->v->m);
    *out = vf->v->reserved != NULL;
    pthread_mutex_unlock(&vf->v->m);
    return SQLITE_OK;
}

static int shm_extend_locked(ot_vfs *v, uint32_t count, size_t size)
{
    if (count > VFS_SHM_REGIONS_MAX) {
        return SQLITE_FULL;
    }
    void **grown = ot_realloc(v->shm_regions, count * sizeof *grown);
    if (grown == NULL) {
        return SQLITE_NOMEM;
    }
    v->shm_regions = grown;
    while (v->shm_region_count < count) {
        void *region = ot_calloc(1, size);
        if (region == NULL) {
            return SQLITE_NOMEM;
        }
        grown[v->shm_region_count++] = region;
    }
    return SQLITE_OK;
}

int ot_vfs_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **pp)
{
    vfs_file *vf = vfs_file_of(f);
    ot_vfs *v = vf->v;
    int rc = SQLITE_OK;
    *pp = NULL;
    pthread_mutex_lock(&v->m);
    if (!vf->shm_mapped) {
        vf->shm_mapped = true;
        v->shm_users++;
    }
    if ((uint32_t)region >= v->shm_region_count && extend) {
        rc = shm_extend_locked(v, (uint32_t)region + 1, (size_t)size);
    }
    if (rc == SQLITE_OK && (uint32_t)region < v->shm_region_count) {
        *pp = v->shm_regions[region];
    }
    pthread_mutex_unlock(&v->m);
    return rc;
}

static void shm_release_locked(vfs_file *vf, uint16_t mask)
{
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        uint16_t bit = (uint16_t)(1u << i);
        if ((mask & bit & vf->shm_exclusive) != 0) {
            vf->v->shm_slots[i] = 0;
        } else if ((mask & bit & vf->shm_shared) != 0) {
            vf->v->shm_slots[i]--;
        }
    }
    vf->shm_exclusive &= (uint16_t)~mask;
    vf->shm_shared &= (uint16_t)~mask;
}

static int shm_take_locked(vfs_file *vf, uint16_t mask, bool exclusive)
{
    ot_vfs *v = vf->v;
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        uint16_t bit = (uint16_t)(1u << i);
        bool own_shared = (vf->shm_shared & bit) != 0;
        if ((mask & bit) == 0 || (own_shared && !exclusive) || (vf->shm_exclusive & bit) != 0) {
            continue;
        }
        if (exclusive ? v->shm_slots[i] != 0 : v->shm_slots[i] < 0) {
            return SQLITE_BUSY;
        }
    }
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        uint16_t bit = (uint16_t)(1u << i);
        if ((mask & bit) == 0 || ((vf->shm_shared | vf->shm_exclusive) & bit) != 0) {
            continue;
        }
        if (exclusive) {
            v->shm_slots[i] = -1;
            vf->shm_exclusive |= bit;
        } else {
            v->shm_slots[i]++;
            vf->shm_shared |= bit;
        }
    }
    return SQLITE_OK;
}

int ot_vfs_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    vfs_file *vf = vfs_file_of(f);
    uint16_t mask = (uint16_t)(((1u << n) - 1u) << offset);
    int rc = SQLITE_OK;
    pthread_mutex_lock(&vf->v->m);
    if ((flags & SQLITE_SHM_UNLOCK) != 0) {
        shm_release_locked(vf, mask);
    } else {
        rc = shm_take_locked(vf, mask, (flags & SQLITE_SHM_EXCLUSIVE) != 0);
    }
    pthread_mutex_unlock(&vf->v->m);
    return rc;
}

void ot_vfs_shm_barrier(sqlite3_file *f)
{
    vfs_file *vf = vfs_file_of(f);
    /* The mutex is a full barrier for the compiler, the processor and thread sanitizers. */
    pthread_mutex_lock(&vf->v->m);
    pthread_mutex_unlock(&vf->v->m);
}

int ot_vfs_shm_unmap(sqlite3_file *f, int delete_flag)
{
    (void)delete_flag;
    vfs_file *vf = vfs_file_of(f);
    ot_vfs *v = vf->v;
    pthread_mutex_lock(&v->m);
    shm_release_locked(vf, 0xffff);
    if (vf->shm_mapped) {
        vf->shm_mapped = false;
        if (--v->shm_users == 0) {
            for (uint32_t i = 0; i < v->shm_region_count; i++) {
                ot_free(v->shm_regions[i]);
            }
            ot_free(v->shm_regions);
            v->shm_regions = NULL;
            v->shm_region_count = 0;
        }
    }
    pthread_mutex_unlock(&v->m);
    return SQLITE_OK;
}
