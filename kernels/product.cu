// The product of two matrices in single precision, on the tensor cores: each number is a tf32 of its upper bits and one
// of what is left, x = high + low, and C = A_low B_high + A_high B_low + A_high B_high. What is dropped is below 2^-21 of
// a term, which is near the rounding of single precision (2^-23), at three tf32 products instead of one in full precision
// that the tensor cores do not have.
//
// A block makes a tile of SIDE x SIDE, eight warps of SIDE/4 x SIDE/2 each. Stages of DEPTH of the inner size come in the
// background, two ahead of the one that is multiplied. Where the tiles of C are few, slabs of the inner size share the
// work; `fold_slabs` adds them up in order.
#include "fours.cuh"
#include "ptx.cuh"

constexpr int THREADS = 256;
constexpr int DEPTH = 16;
constexpr int STAGES = 3;

// A stage of an operand in shared memory: SIDE rows or columns of C by DEPTH, with the same neighbours as in memory, where
// the inner index runs fastest if DEEP. The pad behind each line spreads what a warp reads over all banks.
template <int SIDE, bool DEEP> struct Tile {
    static constexpr int LINES = DEEP ? SIDE : DEPTH, WIDTH = DEEP ? DEPTH : SIDE, PITCH = WIDTH + (DEEP ? 4 : 8);
    static constexpr int FLOATS = LINES * PITCH;
    DEVICE int place(int side, int depth) { return DEEP ? side * PITCH + depth : depth * PITCH + side; }

    // From row or column `side` of C and inner index `depth` on, of a matrix of `sides` by `depths`, its lines `pitch`
    // apart; zeros outside. `wide`: lines begin on borders of 16 bytes and have whole fours, the last one up with zeros.
    DEVICE void fetch(float* to, const float* from, i64 pitch, i64 side, i64 sides, i64 depth, i64 depths, int wide) {
        const i64 line = DEEP ? side : depth, lines = DEEP ? sides : depths;
        const i64 column = DEEP ? depth : side, columns = DEEP ? depths : sides;
        if (wide) {
            ROLLED for (int i = threadIdx.x; i < LINES * WIDTH / 4; i += THREADS) {
                int l = i / (WIDTH / 4), c = i % (WIDTH / 4) * 4;
                bool inside = line + l < lines && column + c < columns;
                copy_async<16>(to + l * PITCH + c, inside ? from + (line + l) * pitch + column + c : from, inside);
            }
        } else {
            ROLLED for (int i = threadIdx.x; i < LINES * WIDTH; i += THREADS) {
                int l = i / WIDTH, c = i % WIDTH;
                bool inside = line + l < lines && column + c < columns;
                copy_async<4>(to + l * PITCH + c, inside ? from + (line + l) * pitch + column + c : from, inside);
            }
        }
    }
};

// x = high + low: high is x rounded to the 11 bits of a tf32, half away from zero; low keeps what NaN x is.
DEVICE void split(float x, u32& high, u32& low) {
    high = (__float_as_uint(x) + 0x1000u) & 0xFFFFE000u;
    low = __float_as_uint(x - __uint_as_float(high));
}

// out (slabs, m, n) = or, with `onto`, += op(A) op(B) over each slab of `slab` (a multiple of DEPTH) of the inner size k.
// A is stored (m, k) if A_DEEP, else (k, m); B (n, k) if B_DEEP, else (k, n); lines are `a_pitch` and `b_pitch` apart.
// grid: tiles of n, tiles of m, slabs
template <int SIDE, bool A_DEEP, bool B_DEEP>
DEVICE void product(const float* a, i64 a_pitch, const float* b, i64 b_pitch, i64 m, i64 n, i64 k, i64 slab, int wide,
                    int onto, float* out) {
    using A = Tile<SIDE, A_DEEP>;
    using B = Tile<SIDE, B_DEEP>;
    constexpr int FLOATS = A::FLOATS + B::FLOATS;
    constexpr int DOWN = SIDE / 64, ACROSS = SIDE / 16, GROUP = 2;
    SHARED_BYTES(shared);
    float* staged = (float*)shared;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 first_row = (i64)blockIdx.y * SIDE, first_column = (i64)blockIdx.x * SIDE;
    const i64 first_depth = blockIdx.z * slab, end = least(first_depth + slab, k);
    const int stages = (int)((end - first_depth + DEPTH - 1) / DEPTH);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            float* to = staged + stage % STAGES * FLOATS;
            i64 depth = first_depth + (i64)stage * DEPTH;
            A::fetch(to, a, a_pitch, first_row, m, depth, k, wide & 1);
            B::fetch(to + A::FLOATS, b, b_pitch, first_column, n, depth, k, wide & 2);
        }
        copies_end();
    };

    const int warp_row = warp / 2 * (SIDE / 4), warp_column = warp % 2 * (SIDE / 2);
    float sum[DOWN][ACROSS][4] = {};
    for (int stage = 0; stage < STAGES - 1; stage++) fetch(stage);
    for (int stage = 0; stage < stages; stage++) {
        copies_left<STAGES - 2>();
        __syncthreads();
        fetch(stage + STAGES - 1);
        const float* of_a = staged + stage % STAGES * FLOATS;
        const float* of_b = of_a + A::FLOATS;
        // Tensor cores cut off what they add up, so that long sums lose bits to one side (Ootomo & Yokota 2022): a stage has
        // sums of its own, which are then added in single precision.
        // Tensor cores cut off what they add up, so that long sums lose bits to one side (Ootomo & Yokota 2022): a stage has
        // sums of its own, which are then added in single precision; few at a time, or they do not fit into registers.
        UNROLL for (int first = 0; first < ACROSS; first += GROUP) {
            float fresh[DOWN][GROUP][4] = {};
            UNROLL for (int depth = lane % 4; depth < DEPTH; depth += 8) {
                u32 a_high[DOWN][4], a_low[DOWN][4], b_high[GROUP][2], b_low[GROUP][2];
                UNROLL for (int d = 0; d < DOWN; d++) UNROLL for (int i = 0; i < 4; i++) {
                    float x = of_a[A::place(warp_row + d * 16 + lane / 4 + i % 2 * 8, depth + i / 2 * 4)];
                    split(x, a_high[d][i], a_low[d][i]);
                }
                UNROLL for (int c = 0; c < GROUP; c++) UNROLL for (int i = 0; i < 2; i++) {
                    float x = of_b[B::place(warp_column + (first + c) * 8 + lane / 4, depth + i * 4)];
                    split(x, b_high[c][i], b_low[c][i]);
                }
                // Neighbouring instructions add to different sums, so that none waits for the one before.
                UNROLL for (int c = 0; c < GROUP; c++) UNROLL for (int d = 0; d < DOWN; d++)
                    mma_tf32_m16n8k8(fresh[d][c], a_low[d], b_high[c]);
                UNROLL for (int c = 0; c < GROUP; c++) UNROLL for (int d = 0; d < DOWN; d++)
                    mma_tf32_m16n8k8(fresh[d][c], a_high[d], b_low[c]);
                UNROLL for (int c = 0; c < GROUP; c++) UNROLL for (int d = 0; d < DOWN; d++)
                    mma_tf32_m16n8k8(fresh[d][c], a_high[d], b_high[c]);
            }
            UNROLL for (int d = 0; d < DOWN; d++) UNROLL for (int c = 0; c < GROUP; c++) UNROLL for (int i = 0; i < 4; i++)
                sum[d][first + c][i] += fresh[d][c][i];
        }
    }
    out += blockIdx.z * m * n;
    UNROLL for (int d = 0; d < DOWN; d++) UNROLL for (int c = 0; c < ACROSS; c++) UNROLL for (int i = 0; i < 4; i++) {
        i64 row = first_row + warp_row + d * 16 + lane / 4 + i / 2 * 8;
        i64 column = first_column + warp_column + c * 8 + lane % 4 * 2 + i % 2;
        if (row < m && column < n) {
            float* at = out + row * n + column;
            *at = onto ? *at + sum[d][c][i] : sum[d][c][i];
        }
    }
}

// The names tell the tile's side and how A and B are stored: n as it is multiplied, t transposed.
#define PRODUCT_ARGUMENTS const float *a, i64 a_pitch, const float *b, i64 b_pitch, i64 m, i64 n, i64 k, i64 slab, int wide, int onto, float *out
KERNEL(256) product_64_nn(PRODUCT_ARGUMENTS) { product<64, true, false>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256) product_64_nt(PRODUCT_ARGUMENTS) { product<64, true, true>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256) product_64_tn(PRODUCT_ARGUMENTS) { product<64, false, false>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256) product_64_tt(PRODUCT_ARGUMENTS) { product<64, false, true>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256, 2) product_128_nn(PRODUCT_ARGUMENTS) { product<128, true, false>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256, 2) product_128_nt(PRODUCT_ARGUMENTS) { product<128, true, true>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256, 2) product_128_tn(PRODUCT_ARGUMENTS) { product<128, false, false>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }
KERNEL(256, 2) product_128_tt(PRODUCT_ARGUMENTS) { product<128, false, true>(a, a_pitch, b, b_pitch, m, n, k, slab, wide, onto, out); }

// to (lines, pitch) = from (lines, width), with zeros up to the pitch, a multiple of 4. A thread writes four.
KERNEL(256) pad(const float* from, i64 lines, i64 width, i64 pitch, float* to) {
    const i64 at = own_four(), line = divided(at, pitch);
    if (line < lines) store_four(to, at, at + 4, load_four(from + line * width, at - line * pitch, width));
}

// out (length) = or, with `onto`, += the slabs (slabs, length), added in order
KERNEL(256) fold_slabs(const float* partial, int slabs, int onto, float* out, i64 length) {
    i64 at = own_four();
    Four sum = onto ? load_four(out, at, length) : Four{};
    for (int slab = 0; slab < slabs; slab++) {
        Four four = load_four(partial + slab * length, at, length);
        UNROLL for (int i = 0; i < 4; i++) sum.of[i] += four.of[i];
    }
    store_four(out, at, length, sum);
}
