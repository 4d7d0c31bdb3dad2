// What every kernel file stands on: the same sources are compiled by nvcc and NVRTC for a GPU and, for tests, by g++
// for the processor (tests/shim). They include no header of CUDA, so a machine needs nothing but libnvrtc.
//
// Rules for kernel files
// - entries are written `KERNEL(threads) name(...)` at the beginning of a line; templates and lambdas only below them
// - dynamic shared memory by SHARED_BYTES, inline PTX only in ptx.cuh
// - matrices are row-major, shapes stand beside the pointers; products of indices are 64 bits wide
#pragma once

#if defined(__CUDACC__)
// Threads of a block and, if registers are to be spared for them, blocks on a processor.
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define DEVICE static __device__ __forceinline__
// Declares `name`, the block's dynamic shared memory, aligned to 16 bytes.
#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#else
#include "cuda_on_cpu.h"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// SNPs in one chunk of arithmetic (device::CHUNK), and the bytes that hold them.
constexpr int CHUNK = 256;
constexpr int CHUNK_BYTES = CHUNK / 4;

template <class T> DEVICE T least(T a, T b) { return b < a ? b : a; }
template <class T> DEVICE T most(T a, T b) { return a < b ? b : a; }
