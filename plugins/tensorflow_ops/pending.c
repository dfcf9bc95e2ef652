#include "pending.h"

#include <pthread.h>
#include <stdlib.h>

enum { BUCKETS = 4096 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pending *table[BUCKETS];

static pending **bucket_of(overtake_handle handle)
{
    return &table[(uint64_t)handle % BUCKETS];
}

void pending_add(pending *p)
{
    pthread_mutex_lock(&lock);
    pending **bucket = bucket_of(p->handle);
    p->next = *bucket;
    *bucket = p;
    pthread_mutex_unlock(&lock);
}

pending *pending_take(overtake_handle handle)
{
    pthread_mutex_lock(&lock);
    pending **at = bucket_of(handle);
    while (*at && (*at)->handle != handle)
        at = &(*at)->next;
    pending *found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&lock);
    return found;
}

void pending_free(pending *p)
{
    if (!p)
        return;
    if (p->in)
        TF_DeleteTensor(p->in);
    if (p->splits)
        TF_DeleteTensor(p->splits);
    if (p->out)
        TF_DeleteTensor(p->out);
    free(p);
}
