// Packed genotypes as kernels read them: rows of `pitch` bytes, a multiple of CHUNK_BYTES, filled up with missing calls;
// a table of four values a SNP (columns rounded up to CHUNKs, 4), zeros behind the last SNP.
#pragma once
#include "ptx.cuh"

// SNPs that are staged in shared memory at a time, and their bytes.
constexpr int STAGE = 64;
constexpr int STAGE_BYTES = STAGE / 4;

// The code of the n-th of 16 SNPs in a word.
DEVICE u32 code(u32 word, int n) { return word >> (2 * n) & 3; }

// One stage of codes of `ROWS` rows from row `first` on, 16 bytes a row; rows past the last repeat it. Threads
// 0..ROWS-1 copy.
template <int ROWS> DEVICE void stage_codes(u8* to, const u8* codes, i64 pitch, i64 first, i64 rows, i64 snp) {
    if (threadIdx.x >= ROWS) return;
    i64 row = least(first + threadIdx.x, rows - 1);
    copy_async<16>(to + threadIdx.x * STAGE_BYTES, codes + row * pitch + snp / 4);
}

// The values of `SNPS` SNPs, 32 bytes each, copied by all `THREADS` threads.
template <int SNPS, int THREADS> DEVICE void stage_table(double* to, const double* table, i64 snp) {
    for (int i = threadIdx.x; i < SNPS * 2; i += THREADS) copy_async<16>(to + i * 2, table + snp * 4 + i * 2);
}

// STAGE rows of v (rows, k) from row `first` on, `COLUMNS` columns from `column` on; zeros outside. Row of `to`: COLUMNS
// numbers and 4 more, which spreads what a warp reads over all banks.
template <int COLUMNS, int THREADS>
DEVICE void stage_v(double* to, const double* v, i64 first, i64 rows, int column, int k) {
    for (int i = threadIdx.x; i < STAGE * COLUMNS; i += THREADS) {
        i64 row = first + i / COLUMNS;
        int at = column + i % COLUMNS;
        bool inside = row < rows && at < k;
        copy_async<8>(to + i / COLUMNS * (COLUMNS + 4) + i % COLUMNS, inside ? v + row * k + at : v, inside);
    }
}

// Adds to a sum that other blocks add to as well: exact, so in any order.
DEVICE void add(i64* sum, i64 term) { atomicAdd((u64*)sum, (u64)term); }
