// Vectors, four neighbours a thread: one access of 16 bytes where a part of a buffer begins on such a border.
#pragma once
#include "common.cuh"

struct Four { float of[4]; };

// Where this thread's four begin.
DEVICE i64 own_four() { return 4 * ((i64)blockIdx.x * 256 + threadIdx.x); }

// Entries at..at+3 of `from`, zeros from `length` on.
DEVICE Four load_four(const float* from, i64 at, i64 length) {
    Four four;
    if (at + 4 <= length && (u64)(from + at) % 16 == 0) {
        float4 whole = *(const float4*)(from + at);
        four.of[0] = whole.x, four.of[1] = whole.y, four.of[2] = whole.z, four.of[3] = whole.w;
    } else {
        UNROLL for (int i = 0; i < 4; i++) four.of[i] = at + i < length ? from[at + i] : 0.0f;
    }
    return four;
}

DEVICE void store_four(float* to, i64 at, i64 length, const Four& four) {
    if (at + 4 <= length && (u64)(to + at) % 16 == 0) {
        *(float4*)(to + at) = make_float4(four.of[0], four.of[1], four.of[2], four.of[3]);
    } else {
        UNROLL for (int i = 0; i < 4; i++) if (at + i < length) to[at + i] = four.of[i];
    }
}

// Quotient and remainder, in 32 bits where they do: much faster there.
DEVICE i64 divided(i64 a, i64 by) { return (a | by) >> 32 ? a / by : (i64)((u32)a / (u32)by); }

// The columns of four neighbours in a matrix of rows of `h`.
struct Columns { i64 of[4]; };
DEVICE Columns columns_of(i64 at, i64 h) {
    Columns columns;
    i64 column = at - divided(at, h) * h;
    UNROLL for (int i = 0; i < 4; i++) {
        columns.of[i] = column;
        column = column + 1 == h ? 0 : column + 1;
    }
    return columns;
}
