// The SNP-facing layer of networks: products with chosen animals' packed genotypes, in tiles on bfloat16 tensor cores
// (tiles.cuh): numbers split into three parts, genotypes into two; or, in the kernels named so, both rounded to bfloat16.
#include "decode.cuh"
#include "tiles.cuh"

constexpr int PAIRS = PAIRS_OF<STAGE>;
// Bytes of a stage as it comes: numbers, codes (either way 2 KiB), the SNPs' values in single precision: all of a block,
// with three parts 162 KiB, has to fit into the 163 KiB of an A100.
constexpr int CODE_BYTES = SIDE * STAGE_BYTES;
constexpr int RAW = STAGE * NUMBERS * 4 + CODE_BYTES + STAGE * 16;

// Part p of the four values of a SNP: codes 0 and 1 in the first word, 2 and missing in the second.
template <int PARTS> struct Values { u32 of[PARTS][2]; };

template <int PARTS> DEVICE void load(Values<PARTS>& values, const float* table) {
    UNROLL for (int half = 0; half < 2; half++) {
        u32 parts[PARTS];
        split<PARTS>(table[half * 2], table[half * 2 + 1], parts);
        UNROLL for (int p = 0; p < PARTS; p++) values.of[p][half] = parts[p];
    }
}

// What __byte_perm takes to put the value of `code` into the lower and into the upper half of a word.
DEVICE u32 low_half(u32 code) { return 0x10u + 0x22u * code; }
DEVICE u32 high_half(u32 code) { return 0x1000u + 0x2200u * code; }

// Z[rows] W over a share of the SNPs: codes (n, pitch), table (m, 4), rows (b), w (m, h), out (shares, b, h).
// grid: tiles of columns, tiles of rows, shares of `stages_each` stages.
template <int PARTS>
DEVICE void times(const u8* codes, i64 pitch, const float* table, i64 m, const u32* rows, i64 b, const float* w, i64 h,
                  int stages_each, float* out) {
    constexpr int LEFT = PARTS == 1 ? 1 : 2;
    SHARED_BYTES(shared);
    u32* left = (u32*)(shared + 2 * RAW);
    u32* right = left + LEFT * SIDE * PAIRS;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 first_row = (i64)blockIdx.y * SIDE, first_column = (i64)blockIdx.x * SIDE;
    const i64 first_stage = (i64)blockIdx.z * stages_each;
    const int stages = (int)least((i64)stages_each, (m + STAGE - 1) / STAGE - first_stage);
    const i64 animal = rows[least(first_row + threadIdx.x % SIDE, b - 1)];

    auto fetch = [&](int stage) {
        if (stage < stages) {
            u8* raw = shared + stage % 2 * RAW;
            u8* bytes = raw + STAGE * NUMBERS * 4;
            i64 snp = (first_stage + stage) * STAGE;
            fetch_numbers<STAGE, SIDE>((float*)raw, w, snp, m, first_column, h);
            if (threadIdx.x < SIDE) copy_async<16>(bytes + threadIdx.x * STAGE_BYTES, codes + animal * pitch + snp / 4);
            else if (threadIdx.x < SIDE + STAGE) {
                int s = threadIdx.x - SIDE;
                copy_async<16>(bytes + CODE_BYTES + s * 16, table + (snp + s) * 4);
            }
        }
        copies_end();
    };

    float sum[4][4][4] = {};
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const u8* raw = shared + stage % 2 * RAW;
        const u8* bytes = raw + STAGE * NUMBERS * 4;
        // A thread turns one pair of SNPs of every eighth row.
        const int pair = warp * 4 + lane % 4;
        Values<LEFT> even, odd;
        load(even, (const float*)(bytes + CODE_BYTES) + pair * 8);
        load(odd, (const float*)(bytes + CODE_BYTES) + pair * 8 + 4);
        for (int row = lane / 4; row < SIDE; row += 8) {
            u32 four = bytes[row * STAGE_BYTES + pair / 2] >> (pair % 2 * 4);
            UNROLL for (int q = 0; q < LEFT; q++)
                left[(q * SIDE + row) * PAIRS + pair] =
                    __byte_perm(__byte_perm(even.of[q][0], even.of[q][1], low_half(four & 3)),
                                __byte_perm(odd.of[q][0], odd.of[q][1], low_half(four >> 2 & 3)), 0x5410);
        }
        turn_numbers<PARTS, STAGE>(right, (const float*)raw);
        __syncthreads();
        multiply<LEFT, PARTS, STAGE>(sum, left, right);
        __syncthreads();
    }
    each_sum(sum, [&](int r, int c, float x) {
        i64 row = first_row + r, column = first_column + c;
        if (row < b && column < h) out[((i64)blockIdx.z * b + row) * h + column] = x;
    });
}

KERNEL(256) gather_times(const u8* codes, i64 pitch, const float* table, i64 m, const u32* rows, i64 b, const float* w,
                         i64 h, int stages_each, float* out) {
    times<3>(codes, pitch, table, m, rows, b, w, h, stages_each, out);
}
KERNEL(256, 2) gather_times_bf16(const u8* codes, i64 pitch, const float* table, i64 m, const u32* rows, i64 b,
                              const float* w, i64 h, int stages_each, float* out) {
    times<1>(codes, pitch, table, m, rows, b, w, h, stages_each, out);
}

// out (end - start, h) = or, with `onto`, += Z[rows]' D for the SNPs from `start`, where a tile begins: d (b, h). grid:
// tiles of columns, tiles of SNPs.
template <int PARTS>
DEVICE void transposed(const u8* codes, i64 pitch, const float* table, i64 start, i64 end, const u32* rows, i64 b,
                       const float* d, i64 h, int onto, float* out) {
    constexpr int LEFT = PARTS == 1 ? 1 : 2;
    SHARED_BYTES(shared);
    u32* left = (u32*)(shared + 2 * RAW);
    u32* right = left + LEFT * SIDE * PAIRS;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 first_snp = start + (i64)blockIdx.y * SIDE, first_column = (i64)blockIdx.x * SIDE;
    const int stages = (int)((b + STAGE - 1) / STAGE);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            u8* raw = shared + stage % 2 * RAW;
            u8* bytes = raw + STAGE * NUMBERS * 4;
            i64 first = (i64)stage * STAGE;
            fetch_numbers<STAGE, SIDE>((float*)raw, d, first, b, first_column, h);
            if (threadIdx.x < STAGE * 2) {
                i64 animal = rows[least(first + threadIdx.x / 2, b - 1)];
                copy_async<16>(bytes + threadIdx.x * 16, codes + animal * pitch + first_snp / 4 + threadIdx.x % 2 * 16);
            }
        }
        copies_end();
    };

    // A thread turns two SNPs.
    Values<LEFT> values[2];
    UNROLL for (int s = 0; s < 2; s++) load(values[s], table + (first_snp + warp * 16 + s * 8 + lane / 4) * 4);
    float sum[4][4][4] = {};
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const u8* raw = shared + stage % 2 * RAW;
        const u8* bytes = raw + STAGE * NUMBERS * 4;
        UNROLL for (int s = 0; s < 2; s++) {
            int snp = warp * 16 + s * 8 + lane / 4;
            for (int pair = lane % 4; pair < STAGE / 2; pair += 4) {
                const u8* at = bytes + pair * 2 * (SIDE / 4) + snp / 4;
                u32 first = at[0] >> (snp % 4 * 2) & 3, second = at[SIDE / 4] >> (snp % 4 * 2) & 3;
                UNROLL for (int q = 0; q < LEFT; q++)
                    left[(q * SIDE + snp) * PAIRS + pair] = __byte_perm(values[s].of[q][0], values[s].of[q][1],
                                                                        low_half(first) + high_half(second));
            }
        }
        turn_numbers<PARTS, STAGE>(right, (const float*)raw);
        __syncthreads();
        multiply<LEFT, PARTS, STAGE>(sum, left, right);
        __syncthreads();
    }
    const int rows_left = (int)least(end - first_snp, (i64)SIDE), columns_left = (int)least(h - first_column, (i64)SIDE);
    out += (first_snp - start) * h + first_column;
    each_sum(sum, [&](int r, int c, float x) {
        float* at = out + r * h + c;
        if (r < rows_left && c < columns_left) *at = onto ? *at + x : x;
    });
}

KERNEL(256) gather_transposed(const u8* codes, i64 pitch, const float* table, i64 start, i64 end, const u32* rows, i64 b,
                              const float* d, i64 h, int onto, float* out) {
    transposed<3>(codes, pitch, table, start, end, rows, b, d, h, onto, out);
}
KERNEL(256, 2) gather_transposed_bf16(const u8* codes, i64 pitch, const float* table, i64 start, i64 end,
                                      const u32* rows, i64 b, const float* d, i64 h, int onto, float* out) {
    transposed<1>(codes, pitch, table, start, end, rows, b, d, h, onto, out);
}

// out (length) = the shares (shares, length), added in order.
KERNEL(256) add_shares(const float* shares, int count, i64 length, float* out) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= length) return;
    float sum = shares[at];
    for (int share = 1; share < count; share++) sum += shares[share * length + at];
    out[at] = sum;
}
