// Z V and Z'V in double precision on the tensor cores (mma m8n8k4): genotypes stay packed until a thread looks its own
// element of a fragment up in the SNPs' tables of values, in shared memory.
//
// A block makes a tile of 128 rows by 8, 16 or 32 columns, eight warps of 16 rows each. Stages of 64 SNPs or animals come
// in the background, while the stage before is multiplied.
#include "decode.cuh"

constexpr int THREADS = 256;
constexpr int TILE_ROWS = 128;

// Z V. Every chunk's partial sum is rounded to whole multiples of a quantum, and those are added up as integers.
// codes (n, pitch), table (m, 4), v (m, k), inverse (k): 1 / quantum, sums (n, k).
// grid: tiles of rows, tiles of columns from `column` on, shares of `chunks_each` chunks.
template <int TILES>
DEVICE void times(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k, int column,
                  const double* inverse, int chunks_each, i64* sums) {
    constexpr int COLUMNS = 8 * TILES, WIDTH = COLUMNS + 4;
    constexpr int BYTES = STAGE * WIDTH * 8 + STAGE * 32 + TILE_ROWS * STAGE_BYTES;
    SHARED_BYTES(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 first_row = (i64)blockIdx.x * TILE_ROWS;
    column += blockIdx.y * COLUMNS;
    const i64 first_snp = (i64)blockIdx.z * chunks_each * CHUNK;
    const i64 end_snp = least(first_snp + (i64)chunks_each * CHUNK, (m + CHUNK - 1) / CHUNK * CHUNK);
    const int stages = (int)((end_snp - first_snp) / STAGE);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            double* values = (double*)(shared + stage % 2 * BYTES);
            double* coding = values + STAGE * WIDTH;
            i64 snp = first_snp + (i64)stage * STAGE;
            stage_v<COLUMNS, THREADS>(values, v, snp, m, column, k);
            stage_table<STAGE, THREADS>(coding, table, snp);
            stage_codes<TILE_ROWS>((u8*)(coding + STAGE * 4), codes, pitch, first_row, n, snp);
        }
        copies_end();
    };

    double partial[2][TILES][2] = {};
    i64 total[2][TILES][2] = {};
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const double* values = (const double*)(shared + stage % 2 * BYTES);
        const double* coding = values + STAGE * WIDTH;
        const u32* words = (const u32*)(coding + STAGE * 4) + (warp * 16 + lane / 4) * (STAGE / 16);
        for (int word = 0; word < STAGE / 16; word++) {
            u32 codes_of[2] = {words[word], words[word + 8 * (STAGE / 16)]};
            UNROLL for (int step = 0; step < 4; step++) {
                int snp = word * 16 + step * 4 + lane % 4;
                double a[2];
                UNROLL for (int r = 0; r < 2; r++) a[r] = coding[snp * 4 + code(codes_of[r], step * 4 + lane % 4)];
                UNROLL for (int t = 0; t < TILES; t++) {
                    double b = values[snp * WIDTH + t * 8 + lane / 4];
                    mma_f64_m16n8k4(partial[0][t], partial[1][t], a, b);
                }
            }
        }
        if (stage % (CHUNK / STAGE) == CHUNK / STAGE - 1) {
            UNROLL for (int r = 0; r < 2; r++) UNROLL for (int t = 0; t < TILES; t++) UNROLL for (int i = 0; i < 2; i++) {
                int at = column + t * 8 + lane % 4 * 2 + i;
                total[r][t][i] += __double2ll_rn(partial[r][t][i] * (at < k ? inverse[at] : 0.0));
                partial[r][t][i] = 0.0;
            }
        }
        __syncthreads();
    }
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int t = 0; t < TILES; t++) UNROLL for (int i = 0; i < 2; i++) {
        i64 row = first_row + warp * 16 + r * 8 + lane / 4;
        int at = column + t * 8 + lane % 4 * 2 + i;
        if (row < n && at < k) add(&sums[row * k + at], total[r][t][i]);
    }
}

KERNEL(256) times_8(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k, int column,
                    const double* inverse, int chunks_each, i64* sums) {
    times<1>(codes, pitch, table, n, m, v, k, column, inverse, chunks_each, sums);
}
KERNEL(256) times_16(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k, int column,
                     const double* inverse, int chunks_each, i64* sums) {
    times<2>(codes, pitch, table, n, m, v, k, column, inverse, chunks_each, sums);
}
KERNEL(256) times_32(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k, int column,
                     const double* inverse, int chunks_each, i64* sums) {
    times<4>(codes, pitch, table, n, m, v, k, column, inverse, chunks_each, sums);
}

// Z'V over the animals of each slab. v (n, k), out (slabs, m, k).
// grid: tiles of SNPs, tiles of columns from `column` on, slabs of `slab` animals.
template <int TILES>
DEVICE void transposed(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k, int column,
                       i64 slab, double* out) {
    constexpr int COLUMNS = 8 * TILES, WIDTH = COLUMNS + 4;
    constexpr int TILE_BYTES = TILE_ROWS / 4;  // of one animal
    constexpr int BYTES = STAGE * WIDTH * 8 + STAGE * TILE_BYTES;
    SHARED_BYTES(shared);
    double* coding = (double*)shared;
    u8* staged = shared + TILE_ROWS * 32;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const i64 first_snp = (i64)blockIdx.x * TILE_ROWS;
    column += blockIdx.y * COLUMNS;
    const i64 first_animal = blockIdx.z * slab, end_animal = least(first_animal + slab, n);
    const int stages = (int)((end_animal - first_animal + STAGE - 1) / STAGE);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            double* values = (double*)(staged + stage % 2 * BYTES);
            u8* bytes = (u8*)(values + STAGE * WIDTH);
            i64 animal = first_animal + (i64)stage * STAGE;
            stage_v<COLUMNS, THREADS>(values, v, animal, end_animal, column, k);
            if (threadIdx.x < STAGE * 2) {
                i64 row = least(animal + threadIdx.x / 2, n - 1);
                int half = threadIdx.x % 2 * 16;
                copy_async<16>(bytes + threadIdx.x * 16, codes + row * pitch + first_snp / 4 + half);
            }
        }
        copies_end();
    };

    double sum[2][TILES][2] = {};
    stage_table<TILE_ROWS, THREADS>(coding, table, first_snp);
    fetch(0);
    const double* own = coding + (warp * 16 + lane / 4) * 4;
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const double* values = (const double*)(staged + stage % 2 * BYTES);
        const u32* words = (const u32*)(values + STAGE * WIDTH) + warp;
        UNROLL for (int step = 0; step < STAGE / 4; step++) {
            int animal = step * 4 + lane % 4;
            u32 word = words[animal * (TILE_BYTES / 4)];
            double a[2] = {own[code(word, lane / 4)], own[8 * 4 + code(word, 8 + lane / 4)]};
            UNROLL for (int t = 0; t < TILES; t++) {
                double b = values[animal * WIDTH + t * 8 + lane / 4];
                mma_f64_m16n8k4(sum[0][t], sum[1][t], a, b);
            }
        }
        __syncthreads();
    }
    UNROLL for (int r = 0; r < 2; r++) UNROLL for (int t = 0; t < TILES; t++) UNROLL for (int i = 0; i < 2; i++) {
        i64 snp = first_snp + warp * 16 + r * 8 + lane / 4;
        int at = column + t * 8 + lane % 4 * 2 + i;
        if (snp < m && at < k) out[((i64)blockIdx.z * m + snp) * k + at] = sum[r][t][i];
    }
}

KERNEL(256) transposed_8(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k,
                         int column, i64 slab, double* out) {
    transposed<1>(codes, pitch, table, n, m, v, k, column, slab, out);
}
KERNEL(256) transposed_16(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k,
                          int column, i64 slab, double* out) {
    transposed<2>(codes, pitch, table, n, m, v, k, column, slab, out);
}
KERNEL(256) transposed_32(const u8* codes, i64 pitch, const double* table, i64 n, i64 m, const double* v, int k,
                          int column, i64 slab, double* out) {
    transposed<4>(codes, pitch, table, n, m, v, k, column, slab, out);
}

// out (length) = the slabs (slabs, length), added in order.
KERNEL(256) add_slabs(const double* slabs, int count, i64 length, double* out) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= length) return;
    double sum = slabs[at];
    for (int slab = 1; slab < count; slab++) sum += slabs[slab * length + at];
    out[at] = sum;
}

// partial (shares, k) = the largest |weight v| of each column over a share of the rows of v (m, k), weights (m); infinity
// where a v is no number or infinite. grid: tiles of 32 columns, shares. Eight threads make a column.
KERNEL(256) largest(const double* weights, const double* v, i64 m, int k, double* partial) {
    __shared__ double of_rows[8][32];
    const int row = threadIdx.x / 32, column = threadIdx.x % 32, c = blockIdx.x * 32 + column;
    double own = 0.0;
    if (c < k)
        for (i64 j = (i64)blockIdx.y * 8 + row; j < m; j += (i64)gridDim.y * 8) {
            const double x = v[j * k + c], term = fabs(weights[j] * x);
            own = most(own, fabs(x) <= 1.7976931348623157e308 ? term : __longlong_as_double(0x7FF0000000000000ll));
        }
    of_rows[row][column] = own;
    __syncthreads();
    if (row == 0 && c < k) {
        for (int other = 1; other < 8; other++) own = most(own, of_rows[other][column]);
        partial[(i64)blockIdx.y * k + c] = own;
    }
}
