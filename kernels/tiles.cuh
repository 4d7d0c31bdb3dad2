// Tiles of products on bfloat16 tensor cores (mma m16n8k16) with sums in single precision.
//
// Numbers are written as matrices of bfloat16 once (`split`): a single one, rounded (8 bits), or three, whose sum holds the
// 24 bits of a float; then the products below 2^-24 are left out. Such a matrix of parts has whole tiles of SIDE both ways,
// with zeros where there are no numbers, so that nobody who reads it asks where it ends, and fewer than 2^31 numbers.
//
// A block of eight warps makes a tile of SIDE by SIDE, each warp 64 by 32. Stages of terms come in the background, two ahead
// of the one that is multiplied, with one barrier a stage.
#pragma once
#include "ptx.cuh"

constexpr int THREADS = 256;
constexpr int SIDE = 128;
// Stages in shared memory.
constexpr int BUFFERS = 3;
// Terms of a stage: two blocks have to fit into the shared memory of an H100's processor.
template <int LEFT> constexpr int TERMS_OF = LEFT == 1 ? 32 : 16;

// Two numbers as PARTS pairs of bfloat16, the first part the nearest, each next one what is left.
template <int PARTS> DEVICE void split(float x, float y, u32 (&parts)[PARTS]) {
    UNROLL for (int p = 0; p < PARTS; p++) {
        parts[p] = bf16_pair(x, y);
        x -= bf16_low(parts[p]);
        y -= bf16_high(parts[p]);
    }
}

// Writes eight numbers of a line as `parts` parts, 1 or 3, `apart` numbers from one to the next.
DEVICE void store_parts(u16* to, const float (&x)[8], int parts, int apart) {
    u32 pairs[4][3];
    UNROLL for (int i = 0; i < 4; i++) split<3>(x[2 * i], x[2 * i + 1], pairs[i]);
    UNROLL for (int p = 0; p < 3; p++)
        if (p < parts) *(uint4*)(to + (i64)p * apart) = make_uint4(pairs[0][p], pairs[1][p], pairs[2][p], pairs[3][p]);
}

// A tile of LINES by WIDTH of each part in shared memory. The pad behind each line spreads what a warp reads over all banks.
template <int PARTS, int LINES, int WIDTH> struct Tile {
    static constexpr int PITCH = WIDTH + 8, PART = LINES * PITCH, NUMBERS = PARTS * PART;

    // From number `first` of the first part on, `apart` numbers from one part to the next.
    DEVICE void fetch(u16* to, const u16* from, int first, int pitch, int apart) {
        constexpr int EACH = WIDTH / 8, DOWN = THREADS / EACH;
        const int line = threadIdx.x / EACH, column = threadIdx.x % EACH * 8;
        first += line * pitch + column, to += line * PITCH + column;
        UNROLL for (int p = 0; p < PARTS; p++) UNROLL for (int i = 0; i < LINES / DOWN; i++)
            copy_async<16>(to + p * PART + i * DOWN * PITCH, from + (u32)(first + p * apart + i * DOWN * pitch));
    }
};

// total += left right over one stage: left (SIDE, TERMS) or, if ACROSS, (TERMS, SIDE), right (TERMS, SIDE). Tensor cores
// cut off what they add up, so that long sums lose bits to one side (Ootomo & Yokota 2022): with several parts each sixteen
// terms have sums of their own, which are then added in single precision.
template <class A, class B, int LEFT, int RIGHT, int TERMS, bool ACROSS>
DEVICE void multiply(float (&total)[4][4][4], const u16* left, const u16* right) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int line = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    left += ACROSS ? (high + line) * A::PITCH + warp / 4 * 64 + low : (warp / 4 * 64 + low + line) * A::PITCH + high;
    right += (low + line) * B::PITCH + warp % 4 * 32 + high;
    ROLLED for (int step = 0; step < TERMS; step += 16) {
        u32 b[RIGHT][2][4];
        UNROLL for (int p = 0; p < RIGHT; p++) UNROLL for (int u = 0; u < 2; u++)
            load_matrices<true>(b[p][u], right + p * B::PART + u * 16);
        UNROLL for (int t = 0; t < 4; t++) {
            float fresh[4][4] = {};
            UNROLL for (int q = 0; q < LEFT; q++) {
                u32 a[4];
                load_matrices<ACROSS>(a, left + q * A::PART + t * 16 * (ACROSS ? 1 : A::PITCH));
                // the small products of each first
                UNROLL for (int p = RIGHT - 1 - q; p >= 0; p--) UNROLL for (int u = 0; u < 4; u++) {
                    const u32 own[2] = {b[p][u / 2][u % 2 * 2], b[p][u / 2][u % 2 * 2 + 1]};
                    mma_bf16_m16n8k16(RIGHT == 1 ? total[t][u] : fresh[u], a, own);
                }
            }
            if (RIGHT > 1) UNROLL for (int u = 0; u < 4; u++) UNROLL for (int i = 0; i < 4; i++)
                total[t][u][i] += fresh[u][i];
        }
        left += 16 * (ACROSS ? A::PITCH : 1), right += 16 * B::PITCH;
    }
}

// Gives each of a thread's sums with its row and column in the tile.
template <class Use> DEVICE void each_sum(const float (&sum)[4][4][4], Use use) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    UNROLL for (int t = 0; t < 4; t++) UNROLL for (int u = 0; u < 4; u++) UNROLL for (int i = 0; i < 4; i++)
        use(warp / 4 * 64 + t * 16 + lane / 4 + i / 2 * 8, warp % 4 * 32 + u * 8 + lane % 4 * 2 + i % 2, sum[t][u][i]);
}
