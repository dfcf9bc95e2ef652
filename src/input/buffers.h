/* Page-aligned buffers of one size that are used again and again: of batches that are read ahead,
 * and of those that the program holds.
 *
 * A buffer may outlive the reader: the pool ends with the last of them.
 * Threads: any. After fork() the child's calls do nothing: locks may be held by threads that it
 * does not have. */
#ifndef OT_INPUT_BUFFERS_H
#define OT_INPUT_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_buffers ot_buffers;

/* Memory that grows, and stays with its buffer: values of rows of any length. */
typedef struct ot_grown {
    uint8_t *p;
    size_t n, room;
} ot_grown;

/* Of `bytes` each, with so many that grow; up to `keep` that nobody uses are kept. NULL: memory is
 * short. */
ot_buffers *ot_buffers_create(size_t bytes, size_t grown, size_t keep);
/* The reader's part ends. */
void ot_buffers_unref(ot_buffers *b);
/* NULL: memory is short. */
uint8_t *ot_buffers_take(ot_buffers *b);
/* The buffer's, as they were left: n is the next user's to set. */
ot_grown *ot_buffers_grown(uint8_t *data);
/* Room for n bytes more; false: memory is short. */
bool ot_grown_reserve(ot_grown *g, size_t n);
/* Gives back what ot_buffers_take returned; false for what it did not. NULL is nothing. */
int ot_buffers_give(void *data);

#endif
