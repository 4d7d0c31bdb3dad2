// Products with chosen animals' genotypes as one class of three, decoded from their packed calls, and with noise on the
// classes if wanted: nothing of the one-hot matrix X (b, 3m) is ever stored. In tiles on bfloat16 tensor cores (tiles.cuh).
#include "philox.cuh"
#include "tiles.cuh"

constexpr int CLASSES = 3;

// The code of a call that was not made.
constexpr int MISSING = 3;

// X of two neighbouring SNPs of an animal. Each zero of a SNP is `amount` times its uniform if NOISY, the one is lowered
// by their sum (Xie et al. 2025); `number` is that of the first class.
template <bool NOISY>
DEVICE void classes(float (&x)[2 * CLASSES], u32 codes, const Noise& noise, float amount, i64 number) {
    float zero[2 * CLASSES] = {};
    if (NOISY) {
        neighbours(zero, noise, number);
        UNROLL for (int i = 0; i < 2 * CLASSES; i++) zero[i] *= amount;
    }
    UNROLL for (int s = 0; s < 2; s++) {
        const int call = codes >> (2 * s) & 3;
        float others = 0.0f;
        UNROLL for (int c = 0; c < CLASSES; c++) others += call == c ? 0.0f : zero[s * CLASSES + c];
        UNROLL for (int c = 0; c < CLASSES; c++) {
            float known = call == c ? 1.0f - others : zero[s * CLASSES + c];
            x[s * CLASSES + c] = call == MISSING ? 0.0f : known;
        }
    }
}

// A stage of X W: SNPs whose codes are one word of each row, and their classes.
constexpr int OF_WORD = 16;
constexpr int DEEP = CLASSES * OF_WORD;

// X W over a share of the SNPs, X in LEFT parts and W in RIGHT: codes (n, pitch), rows (b), w (3m, h), out (shares, b, h).
// grid: tiles of columns, tiles of rows, shares of `stages_each` stages.
template <int LEFT, int RIGHT, bool NOISY>
DEVICE void times(const u8* codes, i64 pitch, i64 m, const u32* rows, i64 b, const Noise& noise, float amount,
                  const float* w, i64 h, int stages_each, float* out) {
    constexpr int PAIRS = PAIRS_OF<DEEP>, RAW = DEEP * NUMBERS * 4 + SIDE * 4;
    SHARED_BYTES(shared);
    u32* left = (u32*)(shared + 2 * RAW);
    u32* right = left + LEFT * SIDE * PAIRS;
    const i64 first_row = (i64)blockIdx.y * SIDE, first_column = (i64)blockIdx.x * SIDE;
    const i64 first_stage = (i64)blockIdx.z * stages_each;
    const int stages = (int)least((i64)stages_each, (m + OF_WORD - 1) / OF_WORD - first_stage);
    const i64 animal = rows[least(first_row + threadIdx.x % SIDE, b - 1)];

    auto fetch = [&](int stage) {
        if (stage < stages) {
            u8* raw = shared + stage % 2 * RAW;
            i64 snp = (first_stage + stage) * OF_WORD;
            fetch_numbers<DEEP, SIDE>((float*)raw, w, snp * CLASSES, m * CLASSES, first_column, h);
            if (threadIdx.x < SIDE)
                copy_async<4>(raw + DEEP * NUMBERS * 4 + threadIdx.x * 4, codes + animal * pitch + snp / 4);
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
        const u32* words = (const u32*)(raw + DEEP * NUMBERS * 4);
        const i64 snp = (first_stage + stage) * OF_WORD;
        ROLLED for (int unit = threadIdx.x; unit < SIDE * OF_WORD / 2; unit += THREADS) {
            const int row = unit / (OF_WORD / 2), two = unit % (OF_WORD / 2);
            const i64 number = noise.first + (first_row + row) * noise.columns + (snp + two * 2) * CLASSES;
            float x[2 * CLASSES];
            classes<NOISY>(x, words[row] >> (two * 4), noise, amount, number);
            UNROLL for (int i = 0; i < CLASSES; i++) {
                u32 parts[LEFT];
                split<LEFT>(x[2 * i], x[2 * i + 1], parts);
                UNROLL for (int q = 0; q < LEFT; q++)
                    left[(q * SIDE + row) * PAIRS + two * CLASSES + i] = parts[q];
            }
        }
        turn_numbers<RIGHT, DEEP>(right, (const float*)raw);
        __syncthreads();
        multiply<LEFT, RIGHT, DEEP>(sum, left, right);
        __syncthreads();
    }
    each_sum(sum, [&](int r, int c, float x) {
        i64 row = first_row + r, column = first_column + c;
        if (row < b && column < h) out[((i64)blockIdx.z * b + row) * h + column] = x;
    });
}

#define TIMES_ARGUMENTS const u8 *codes, i64 pitch, i64 m, const u32 *rows, i64 b, NOISE, float amount, const float *w, i64 h, int stages_each, float *out
#define TIMES(LEFT, RIGHT, NOISY) times<LEFT, RIGHT, NOISY>(codes, pitch, m, rows, b, GIVEN_NOISE, amount, w, h, stages_each, out)
KERNEL(256) onehot_times(TIMES_ARGUMENTS) { TIMES(1, 3, false); }
KERNEL(256, 2) onehot_times_bf16(TIMES_ARGUMENTS) { TIMES(1, 1, false); }
KERNEL(256) smooth_times(TIMES_ARGUMENTS) { TIMES(3, 3, true); }
KERNEL(256, 2) smooth_times_bf16(TIMES_ARGUMENTS) { TIMES(1, 1, true); }

// A tile of [X; Y]' D: the classes of SNPS SNPs, in stages of LONG animals.
constexpr int SNPS = 32;
constexpr int WIDE = CLASSES * SNPS;
constexpr int LONG = 32;

// out (3m, h) = or, with `onto`, += [X; Y]' D: dense Y (k, 3m), d (b + k, h), the rest as above; noise if `noisy`.
// grid: tiles of columns, tiles of SNPs from `first_tile` on.
template <int PARTS>
DEVICE void transposed(const u8* codes, i64 pitch, i64 m, const u32* rows, i64 b, const Noise& noise, float amount,
                       int noisy, const float* dense, i64 k, const float* d, i64 h, i64 first_tile, int onto, float* out) {
    constexpr int DOWN = WIDE / 32, PAIRS = PAIRS_OF<LONG>, PITCH = WIDE + 4;
    constexpr int OF_DENSE = LONG * NUMBERS * 4, OF_CODES = OF_DENSE + LONG * PITCH * 4, RAW = OF_CODES + LONG * SNPS / 4;
    SHARED_BYTES(shared);
    u32* left = (u32*)(shared + 2 * RAW);
    u32* right = left + PARTS * WIDE * PAIRS;
    const i64 first_snp = (first_tile + blockIdx.y) * SNPS, first_column = (i64)blockIdx.x * SIDE;
    const int stages = (int)((b + k + LONG - 1) / LONG);

    auto fetch = [&](int stage) {
        if (stage < stages) {
            u8* raw = shared + stage % 2 * RAW;
            const i64 first = (i64)stage * LONG, row = first + threadIdx.x;
            fetch_numbers<LONG, SIDE>((float*)raw, d, first, b + k, first_column, h);
            if (threadIdx.x < LONG) {
                bool called = row < b;
                copy_async<8>(raw + OF_CODES + threadIdx.x * (SNPS / 4),
                             called ? codes + rows[row] * pitch + first_snp / 4 : codes, called);
            }
            if (first + LONG > b)
                fetch_numbers<LONG, WIDE>((float*)(raw + OF_DENSE), dense, first - b, k, first_snp * CLASSES, m * CLASSES);
        }
        copies_end();
    };

    // A thread turns two SNPs of a pair of animals.
    const int pair = threadIdx.x % (LONG / 2), two = threadIdx.x / (LONG / 2);
    float sum[DOWN][4][4] = {};
    fetch(0);
    for (int stage = 0; stage < stages; stage++) {
        fetch(stage + 1);
        copies_left<1>();
        __syncthreads();
        const u8* raw = shared + stage % 2 * RAW;
        float x[2][2 * CLASSES];
        UNROLL for (int r = 0; r < 2; r++) {
            const int place = pair * 2 + r;
            const i64 row = (i64)stage * LONG + place;
            if (row < b) {
                const u32 four = raw[OF_CODES + place * (SNPS / 4) + two / 2] >> (two % 2 * 4);
                const i64 number = noise.first + row * noise.columns + (first_snp + two * 2) * CLASSES;
                if (noisy) classes<true>(x[r], four, noise, amount, number);
                else classes<false>(x[r], four, noise, amount, number);
            } else {
                const float* of = (const float*)(raw + OF_DENSE) + place * PITCH + two * 2 * CLASSES;
                UNROLL for (int i = 0; i < 2 * CLASSES; i++) x[r][i] = of[i];
            }
        }
        UNROLL for (int i = 0; i < 2 * CLASSES; i++) {
            u32 parts[PARTS];
            split<PARTS>(x[0][i], x[1][i], parts);
            UNROLL for (int q = 0; q < PARTS; q++)
                left[(q * WIDE + two * 2 * CLASSES + i) * PAIRS + pair] = parts[q];
        }
        turn_numbers<PARTS, LONG>(right, (const float*)raw);
        __syncthreads();
        multiply<PARTS, PARTS, LONG>(sum, left, right);
        __syncthreads();
    }
    const i64 first_class = first_snp * CLASSES;
    const int rows_left = (int)least(m * CLASSES - first_class, (i64)WIDE);
    const int columns_left = (int)least(h - first_column, (i64)SIDE);
    out += first_class * h + first_column;
    each_sum(sum, [&](int r, int c, float x) {
        float* at = out + r * h + c;
        if (r < rows_left && c < columns_left) *at = onto ? *at + x : x;
    });
}

#define TRANSPOSED_ARGUMENTS const u8 *codes, i64 pitch, i64 m, const u32 *rows, i64 b, NOISE, float amount, int noisy, const float *dense, i64 k, const float *d, i64 h, i64 first_tile, int onto, float *out
#define TRANSPOSED(PARTS) transposed<PARTS>(codes, pitch, m, rows, b, GIVEN_NOISE, amount, noisy, dense, k, d, h, first_tile, onto, out)
KERNEL(256) onehot_transposed(TRANSPOSED_ARGUMENTS) { TRANSPOSED(3); }
KERNEL(256, 2) onehot_transposed_bf16(TRANSPOSED_ARGUMENTS) { TRANSPOSED(1); }
