/* The ops through which TensorFlow reaches the collectives.
 *
 *   OvertakeStart    starts one operation and does not block; a number for it
 *   OvertakeWaitAll  blocks until all of a list are done; their results
 *   OvertakeWhere    this process' place in a group when it runs, which a graph outlives
 *
 * All are stateful, so that none is merged or left out; one wait for all, because a wait holds one
 * of the threads that ops run on, and several of them could hold all threads on two ranks that wait
 * for each other. Kernels return when they are done: what TensorFlow gives for being told later
 * does not outlive the call. */
#ifndef OT_PLUGINS_TENSORFLOW_OPS_OPS_H
#define OT_PLUGINS_TENSORFLOW_OPS_OPS_H

#include "tf_ops_api.h"

void *start_create(TF_OpKernelConstruction *construction);
void start_compute(void *kernel, TF_OpKernelContext *ctx);
void start_destroy(void *kernel);
void wait_all_compute(void *kernel, TF_OpKernelContext *ctx);
void *where_create(TF_OpKernelConstruction *construction);
void where_compute(void *kernel, TF_OpKernelContext *ctx);
void where_destroy(void *kernel);

#endif
