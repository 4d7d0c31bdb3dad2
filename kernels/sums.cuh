// Sums in f64 in an order that depends on nothing but the number of threads.
#pragma once
#include "common.cuh"

// Σ over the block's THREADS threads, the same in each: lanes first, then warps, both in fixed order.
template <int THREADS> DEVICE double sum_of_block(double own) {
    __shared__ double of_warps[THREADS / 32];
    UNROLL for (int step = 16; step > 0; step /= 2) own += __shfl_xor_sync(0xFFFFFFFFu, own, step);
    __syncthreads();  // what an earlier sum left there has been read
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = own;
    __syncthreads();
    double sum = of_warps[0];
    UNROLL for (int warp = 1; warp < THREADS / 32; warp++) sum += of_warps[warp];
    return sum;
}
