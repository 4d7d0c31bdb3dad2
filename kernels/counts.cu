// X X' of allele counts, missing calls as 0, exact in 32 bits: int8 tensor cores (mma m16n8k32).
//
// The products of two animals are summed over SNPs in whatever order both share. A word of 16 codes gives four
// registers of four bytes by shifts alone, SNPs {s, s+4, s+8, s+12} in register s, and each thread takes its fragments
// from words in that order: genotypes are decoded in registers and shared memory holds them packed.
//
// A block of 128 threads makes a tile of 128 by 128, four warps of 64 by 64.
#include "decode.cuh"

constexpr int SIDE = 128;
// Bytes between rows in shared memory: eight rows of four words lie in 32 different banks.
constexpr int ROW = CHUNK_BYTES + 16;

// Codes of 16 SNPs as 16 bytes, missing as 0.
DEVICE void spread(u32 word, u32 (&bytes)[4]) {
    u32 missing = word & word >> 1 & 0x55555555u;
    word &= ~(missing | missing << 1);
    UNROLL for (int s = 0; s < 4; s++) bytes[s] = word >> (2 * s) & 0x03030303u;
}

DEVICE void stage_chunk(u8* to, const u8* codes, i64 pitch, i64 first, i64 end, int chunk) {
    for (int i = threadIdx.x; i < SIDE * (CHUNK_BYTES / 16); i += SIDE) {
        int row = i / (CHUNK_BYTES / 16), part = i % (CHUNK_BYTES / 16) * 16;
        i64 animal = least(first + row, end - 1);
        copy_async<16>(to + row * ROW + part, codes + animal * pitch + (i64)chunk * CHUNK_BYTES + part);
    }
}

// codes (n, pitch); animals a..a_end by animals b..b_end; out (a_end - a, b_end - b). With `lower`, tiles whose animals
// of b all come after those of a are left out. grid: tiles of b, tiles of a.
KERNEL(128) counts(const u8* codes, i64 pitch, i64 a, i64 a_end, i64 b, i64 b_end, int lower, int* out) {
    SHARED_BYTES(shared);
    const i64 width = b_end - b;
    int* first_out = out - a * width - b;
    a += (i64)blockIdx.y * SIDE;
    b += (i64)blockIdx.x * SIDE;
    if (lower && b > a + SIDE - 1) return;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int down = warp / 2 * 64, right = warp % 2 * 64;
    const int chunks = (int)(pitch / CHUNK_BYTES);

    auto fetch = [&](int chunk) {
        if (chunk < chunks) {
            u8* to = shared + chunk % 2 * (2 * SIDE * ROW);
            stage_chunk(to, codes, pitch, a, a_end, chunk);
            stage_chunk(to + SIDE * ROW, codes, pitch, b, b_end, chunk);
        }
        copies_end();
    };

    int sum[4][8][4] = {};
    fetch(0);
    for (int chunk = 0; chunk < chunks; chunk++) {
        fetch(chunk + 1);
        copies_left<1>();
        __syncthreads();
        const u8* of_a = shared + chunk % 2 * (2 * SIDE * ROW) + (down + lane / 4) * ROW + lane % 4 * 4;
        const u8* of_b = of_a + (SIDE + right - down) * ROW;
        for (int part = 0; part < CHUNK_BYTES; part += 16) {
            u32 left[4][2][4];  // tile, upper or lower half, SNPs
            UNROLL for (int t = 0; t < 4; t++) UNROLL for (int half = 0; half < 2; half++)
                spread(*(const u32*)(of_a + (t * 16 + half * 8) * ROW + part), left[t][half]);
            UNROLL for (int u = 0; u < 8; u++) {
                u32 bytes[4];
                spread(*(const u32*)(of_b + u * 8 * ROW + part), bytes);
                UNROLL for (int s = 0; s < 4; s += 2) {
                    u32 right_of[2] = {bytes[s], bytes[s + 1]};
                    UNROLL for (int t = 0; t < 4; t++) {
                        u32 left_of[4] = {left[t][0][s], left[t][1][s], left[t][0][s + 1], left[t][1][s + 1]};
                        mma_s8_m16n8k32(sum[t][u], left_of, right_of);
                    }
                }
            }
        }
        __syncthreads();
    }
    UNROLL for (int t = 0; t < 4; t++) UNROLL for (int u = 0; u < 8; u++) UNROLL for (int i = 0; i < 4; i++) {
        i64 row = a + down + t * 16 + lane / 4 + i / 2 * 8, column = b + right + u * 8 + lane % 4 * 2 + i % 2;
        if (row < a_end && column < b_end) first_out[row * width + column] = sum[t][u][i];
    }
}
