// Planted faults: each of these kernels is wrong in one way that the shim must notice (faults.cpp), but `fine`.
#include "common.cuh"
#include "ptx.cuh"

KERNEL(64) fine(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float y = s[63 - threadIdx.x];
    y += __shfl_xor_sync(~0u, y, 1) * 0.0f;
    __syncthreads();
    s[threadIdx.x] = y;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

KERNEL(64) writes_behind(float* x) { x[threadIdx.x + 1] = 1.0f; }

KERNEL(64) reads_behind(float* x) { x[threadIdx.x] = x[threadIdx.x + 4096]; }

KERNEL(64) uses_fresh_shared(float* x) {
    __shared__ float s[64];
    if (threadIdx.x != 5) s[threadIdx.x] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

KERNEL(64) uses_fresh_dynamic(float* x) {
    SHARED_BYTES(bytes);
    x[threadIdx.x] = ((float*)bytes)[threadIdx.x];
}

KERNEL(64) divergent_barrier(float* x) {
    if (threadIdx.x < 32) {
        x[threadIdx.x] = 1.0f;
        __syncthreads();
    } else {
        __syncthreads();
        x[threadIdx.x] = 2.0f;
    }
}

KERNEL(64) lonely_barrier(float* x) {
    if (threadIdx.x < 32) __syncthreads();
    else x[0] = __shfl_sync(1u << threadIdx.x % 32 | 1u, x[0], 0);
}

KERNEL(64) half_a_shuffle(float* x) {
    float y = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) y += __shfl_down_sync(~0u, y, 1);
    x[threadIdx.x] = y;
}

KERNEL(64) mask_too_small(float* x) { x[threadIdx.x] = __shfl_down_sync(0xFFFFu, x[threadIdx.x], 1); }

KERNEL(64) copy_not_awaited(float* x) {
    SHARED_BYTES(bytes);
    float* s = (float*)bytes;
    if (threadIdx.x < 16) copy_async<16>(s + threadIdx.x * 4, x + threadIdx.x * 4);
    copies_end();
    copies_left<1>();
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}

KERNEL(64) copy_askew(float* x) {
    SHARED_BYTES(bytes);
    copy_async<16>(bytes, x + 1);
    copies_left<0>();
}

// A barrier is missing before s is written again: most orders give the right answer.
KERNEL(64) race(float* x) {
    __shared__ float s[64];
    for (int round = 0; round < 3; round++) {
        s[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = s[(threadIdx.x + 1) % 64];
    }
}

// No barrier at all: the order of threads decides.
KERNEL(64) no_barrier(float* x) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = s[63 - threadIdx.x];
}
