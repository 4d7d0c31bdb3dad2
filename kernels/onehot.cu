// Chosen animals' genotypes as one class of three, decoded from their packed calls, and with noise on the classes if wanted:
// the one-hot matrix X (b, 3m) in parts (tiles.cuh), for products.
#include "fours.cuh"
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

// to (lines, pitch), parts = X: codes (n, code_pitch) of `rows` (b), m SNPs from `snp` on, noise if `noisy`. A thread writes
// eight SNPs of an animal; pitch is a multiple of 8.
KERNEL(256) onehot(const u8* codes, i64 code_pitch, i64 snp, const u32* rows, i64 b, NOISE, float amount, int noisy,
                   int parts, u16* to, i64 lines, int pitch, int apart) {
    constexpr int EIGHT = 8 * CLASSES;
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x, of_line = (pitch + EIGHT - 1) / EIGHT;
    const i64 line = divided(at, of_line), place = at - line * of_line;
    if (line >= lines) return;
    snp += place * 8;
    float x[CLASSES][8] = {};
    if (line < b) {
        const u32 eight = *(const u16*)(codes + rows[line] * code_pitch + snp / 4);
        UNROLL for (int two = 0; two < 4; two++) {
            const i64 number = first + line * columns + (snp + two * 2) * CLASSES;
            float own[2 * CLASSES];
            if (noisy) classes<true>(own, eight >> (4 * two), GIVEN_NOISE, amount, number);
            else classes<false>(own, eight >> (4 * two), GIVEN_NOISE, amount, number);
            UNROLL for (int i = 0; i < 2 * CLASSES; i++) {
                const int all = two * 2 * CLASSES + i;
                x[all / 8][all % 8] = own[i];
            }
        }
    }
    const int column = (int)place * EIGHT;
    UNROLL for (int i = 0; i < CLASSES; i++)
        if (column + i * 8 < pitch) store_parts(to + line * pitch + column + i * 8, x[i], parts, apart);
}
