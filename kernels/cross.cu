// Z Z' in double precision on the tensor cores, both sides looked up in the SNPs' tables of values.
//
// A block of eight warps makes a tile of 64 by 64, each warp 16 by 32. Every chunk's partial sum is rounded to whole
// multiples of a quantum, and those are added up as integers.
#include "decode.cuh"

constexpr int SIDE = 64;
constexpr int THREADS = 256;
constexpr int BYTES = STAGE * 32 + 2 * SIDE * STAGE_BYTES;

// codes (n, pitch), table (m, 4); animals a..a_end by animals b..b_end; sums (a_end - a, b_end - b).
// grid: tiles of b, tiles of a, shares of `chunks_each` chunks.
KERNEL(256) cross(const u8* codes, i64 pitch, const double* table, i64 a, i64 a_end, i64 b, i64 b_end, double inverse,
                  int chunks_each, i64* sums) {
    SHARED_BYTES(shared);
    const i64 width = b_end - b;
    i64* first_sum = sums - a * width - b;
    a += (i64)blockIdx.y * SIDE;
    b += (i64)blockIdx.x * SIDE;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int down = warp / 2 * 16, right = warp % 2 * 32;
    const i64 first_snp = (i64)blockIdx.z * chunks_each * CHUNK;
    const i64 end_snp = least(first_snp + (i64)chunks_each * CHUNK, pitch * 4);
    const int stages = (int)((end_snp - first_snp) / STAGE);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            double* coding = (double*)(shared + stage % 2 * BYTES);
            u8* bytes = (u8*)(coding + STAGE * 4);
            i64 snp = first_snp + (i64)stage * STAGE;
            stage_table<STAGE, THREADS>(coding, table, snp);
            stage_codes<SIDE>(bytes, codes, pitch, a, a_end, snp);
            stage_codes<SIDE>(bytes + SIDE * STAGE_BYTES, codes, pitch, b, b_end, snp);
        }
        copies_end();
    };

    double partial[2][4][2] = {};
    i64 total[2][4][2] = {};
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const double* coding = (const double*)(shared + stage % 2 * BYTES);
        const u32* of_a = (const u32*)(coding + STAGE * 4) + (down + lane / 4) * (STAGE / 16);
        const u32* of_b = (const u32*)(coding + STAGE * 4) + (SIDE + right + lane / 4) * (STAGE / 16);
        for (int word = 0; word < STAGE / 16; word++) {
            u32 left[2], above[4];
            UNROLL for (int r = 0; r < 2; r++) left[r] = of_a[r * 8 * (STAGE / 16) + word];
            UNROLL for (int t = 0; t < 4; t++) above[t] = of_b[t * 8 * (STAGE / 16) + word];
            UNROLL for (int step = 0; step < 4; step++) {
                const double* values = coding + (word * 16 + step * 4 + lane % 4) * 4;
                double x[2];
                UNROLL for (int r = 0; r < 2; r++) x[r] = values[code(left[r], step * 4 + lane % 4)];
                UNROLL for (int t = 0; t < 4; t++) {
                    double y = values[code(above[t], step * 4 + lane % 4)];
                    mma_f64_m16n8k4(partial[0][t], partial[1][t], x, y);
                }
            }
        }
        if (stage % (CHUNK / STAGE) == CHUNK / STAGE - 1) {
            UNROLL for (int r = 0; r < 2; r++) UNROLL for (int t = 0; t < 4; t++) UNROLL for (int i = 0; i < 2; i++) {
                total[r][t][i] += __double2ll_rn(partial[r][t][i] * inverse);
                partial[r][t][i] = 0.0;
            }
        }
        __syncthreads();
    }
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int t = 0; t < 4; t++) UNROLL for (int i = 0; i < 2; i++) {
        i64 row = a + down + r * 8 + lane / 4, column = b + right + t * 8 + lane % 4 * 2 + i;
        if (row < a_end && column < b_end) add(&first_sum[row * width + column], total[r][t][i]);
    }
}
