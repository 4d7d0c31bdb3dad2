// Tiles of products on bfloat16 tensor cores (mma m16n8k16) with sums in single precision, for kernels that decode one of
// their operands from packed genotypes.
//
// A block of eight warps makes a tile of 32 DOWN by 128, each warp 16 DOWN by 32. Stages of TERMS terms come in the
// background as they lie in global memory (codes packed, numbers in single precision), and are turned into bfloat16 in
// shared memory once for all warps, pairs of terms side by side, as fragments want them.
//
// PARTS says how numbers are split: 1, rounded to bfloat16 (8 bits); 3, a sum of three, which holds the 24 bits of a
// float; then the products below 2^-24 are left out.
#pragma once
#include "ptx.cuh"

constexpr int THREADS = 256;
// Columns of a tile.
constexpr int SIDE = 128;
// Floats from one row of numbers to the next, and words from one row of bfloat16 pairs to the next: both spread what a
// warp reads over all banks.
constexpr int NUMBERS = SIDE + 4;
template <int TERMS> constexpr int PAIRS_OF = TERMS / 2 + 4;

// Two numbers as PARTS pairs of bfloat16, the first part the nearest, each next one what is left.
template <int PARTS> DEVICE void split(float x, float y, u32 (&parts)[PARTS]) {
    UNROLL for (int p = 0; p < PARTS; p++) {
        parts[p] = bf16_pair(x, y);
        x -= bf16_low(parts[p]);
        y -= bf16_high(parts[p]);
    }
}

// TERMS rows of numbers (rows, h) from row `first` on, WIDTH columns from `column` on; zeros outside. Rows of `to` have
// WIDTH + 4 numbers.
template <int TERMS, int WIDTH>
DEVICE void fetch_numbers(float* to, const float* numbers, i64 first, i64 rows, i64 column, i64 h) {
    if (h % 4 == 0 && (u64)numbers % 16 == 0 && THREADS % (WIDTH / 4) == 0 && TERMS * WIDTH / 4 % THREADS == 0) {
        // A thread keeps its column and goes down by whole steps.
        constexpr int EACH = WIDTH / 4, DOWN = THREADS / EACH;
        const int column_of = threadIdx.x % EACH * 4;
        int row_of = threadIdx.x / EACH;
        const i64 at = column + column_of;
        const int left = at < h ? (int)most(least(rows - first, (i64)TERMS), (i64)0) : 0, before = first < 0 ? (int)-first : 0;
        const float* from = numbers + (first + row_of) * h + at;
        float* own = to + row_of * (WIDTH + 4) + column_of;
        UNROLL for (int i = 0; i < TERMS / DOWN; i++, row_of += DOWN, from += DOWN * h, own += DOWN * (WIDTH + 4)) {
            bool inside = row_of >= before && row_of < left;
            copy_async<16>(own, inside ? from : numbers, inside);
        }
        return;
    }
    if (h % 4 == 0 && (u64)numbers % 16 == 0) {
        ROLLED for (int i = threadIdx.x; i < TERMS * WIDTH / 4; i += THREADS) {
            i64 row = first + i / (WIDTH / 4), at = column + i % (WIDTH / 4) * 4;
            bool inside = row >= 0 && row < rows && at < h;
            copy_async<16>(to + i / (WIDTH / 4) * (WIDTH + 4) + i % (WIDTH / 4) * 4,
                          inside ? numbers + row * h + at : numbers, inside);
        }
        return;
    }
    ROLLED for (int i = threadIdx.x; i < TERMS * WIDTH; i += THREADS) {
        i64 row = first + i / WIDTH, at = column + i % WIDTH;
        bool inside = row >= 0 && row < rows && at < h;
        copy_async<4>(to + i / WIDTH * (WIDTH + 4) + i % WIDTH, inside ? numbers + row * h + at : numbers, inside);
    }
}

// Numbers (TERMS, SIDE) into pairs of terms: PARTS matrices (SIDE, pairs).
template <int PARTS, int TERMS> DEVICE void turn_numbers(u32* to, const float* from) {
    constexpr int PAIRS = PAIRS_OF<TERMS>, GROUPS = TERMS / 8;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // A warp turns four pairs of eight columns.
    for (int square = warp; square < GROUPS * SIDE / 8; square += THREADS / 32) {
        const int pair = square % GROUPS * 4 + lane % 4, column = square / GROUPS * 8 + lane / 4;
        u32 parts[PARTS];
        split<PARTS>(from[2 * pair * NUMBERS + column], from[(2 * pair + 1) * NUMBERS + column], parts);
        UNROLL for (int p = 0; p < PARTS; p++) to[(p * SIDE + column) * PAIRS + pair] = parts[p];
    }
}

// total += left right' over one stage: left (LEFT, 32 DOWN, pairs), right (RIGHT, SIDE, pairs). Tensor cores cut off what
// they add up, so that long sums lose bits to one side (Ootomo & Yokota 2022): with several parts a stage has sums of its
// own, which are then added in single precision.
template <int LEFT, int RIGHT, int TERMS, int DOWN>
DEVICE void multiply(float (&total)[DOWN][4][4], const u32* left, const u32* right) {
    float fresh[DOWN][4][4] = {};
    auto& sum = *(RIGHT > 1 ? &fresh : &total);
    constexpr int PAIRS = PAIRS_OF<TERMS>;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    left += (warp / 4 * 16 * DOWN + lane / 4) * PAIRS + lane % 4;
    right += (warp % 4 * 32 + lane / 4) * PAIRS + lane % 4;
    ROLLED for (int step = 0; step < TERMS / 2; step += 8) {
        u32 b[RIGHT][4][2];
        UNROLL for (int p = 0; p < RIGHT; p++) UNROLL for (int u = 0; u < 4; u++) UNROLL for (int i = 0; i < 2; i++)
            b[p][u][i] = right[(p * SIDE + u * 8) * PAIRS + step + i * 4];
        UNROLL for (int t = 0; t < DOWN; t++) UNROLL for (int q = 0; q < LEFT; q++) {
            u32 a[4];
            UNROLL for (int i = 0; i < 4; i++)
                a[i] = left[(q * 32 * DOWN + t * 16 + i % 2 * 8) * PAIRS + step + i / 2 * 4];
            // the small products first
            UNROLL for (int p = RIGHT - 1 - q; p >= 0; p--) UNROLL for (int u = 0; u < 4; u++)
                mma_bf16_m16n8k16(sum[t][u], a, b[p][u]);
        }
    }
    if (RIGHT > 1)
        UNROLL for (int t = 0; t < DOWN; t++) UNROLL for (int u = 0; u < 4; u++) UNROLL for (int i = 0; i < 4; i++)
            total[t][u][i] += fresh[t][u][i];
}

// Gives each of a thread's sums with its row and column in the tile.
template <int DOWN, class Use> DEVICE void each_sum(const float (&sum)[DOWN][4][4], Use use) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    UNROLL for (int t = 0; t < DOWN; t++) UNROLL for (int u = 0; u < 4; u++) UNROLL for (int i = 0; i < 4; i++)
        use(warp / 4 * 16 * DOWN + t * 16 + lane / 4 + i / 2 * 8, warp % 4 * 32 + u * 8 + lane % 4 * 2 + i % 2,
            sum[t][u][i]);
}
