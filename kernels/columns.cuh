// Sums over the rows of a matrix in an order that depends on nothing but its shape: each slab of rows gives a partial sum
// a column, and `fold_columns` (columns.cu) adds those up in order. Sums are f64.
#pragma once
#include "common.cuh"

// partial (slabs, h) = Σ term(place, column) over the slab's rows. 256 threads: 32 columns by 8 rows.
// grid: tiles of 32 columns, slabs of `slab` rows.
template <class Term> DEVICE void sum_columns(i64 rows, i64 h, i64 slab, double* partial, Term term) {
    __shared__ double of_rows[8][32];
    const int lane = threadIdx.x % 32, own = threadIdx.x / 32;
    const i64 column = (i64)blockIdx.x * 32 + lane;
    const i64 first = blockIdx.y * slab, end = least(first + slab, rows);
    double sum = 0.0;
    if (column < h) {
        for (i64 row = first + own; row < end; row += 8) sum += term(row * h + column, column);
    }
    of_rows[own][lane] = sum;
    __syncthreads();
    if (own == 0 && column < h) {
        double total = of_rows[0][lane];
        UNROLL for (int i = 1; i < 8; i++) total += of_rows[i][lane];
        partial[blockIdx.y * h + column] = total;
    }
}
