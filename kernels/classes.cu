// What generators do with numbers: classes of genotypes and what they cost, rows as wholes. Bound by memory.
#include "fours.cuh"
#include "philox.cuh"
#include "sums.cuh"

// x, one number for each class of a SNP, becomes softmax(x); returns ln Σ exp.
DEVICE float softmax_of(float (&x)[3]) {
    const float largest = most(most(x[0], x[1]), x[2]);
    float sum = 0.0f;
    UNROLL for (int c = 0; c < 3; c++) {
        x[c] = expf(x[c] - largest);
        sum += x[c];
    }
    UNROLL for (int c = 0; c < 3; c++) x[c] /= sum;
    return largest + logf(sum);
}

// x (rows, 3 snps) = softmax((x + g) sharpness) of each SNP's three, g Gumbel noise −ln(−ln u) if `noisy`. A thread makes
// a SNP.
KERNEL(256) softmax(NOISE, i64 rows, i64 snps, int noisy, float sharpness, float* x) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    const i64 row = divided(at, snps), snp = at - row * snps;
    if (row >= rows) return;
    float own[3];
    UNROLL for (int c = 0; c < 3; c++) own[c] = x[at * 3 + c];
    if (noisy) {
        float uniforms[3];
        neighbours(uniforms, GIVEN_NOISE, first + row * columns + snp * 3);
        UNROLL for (int c = 0; c < 3; c++) own[c] -= logf(-logf(uniforms[c]));
    }
    UNROLL for (int c = 0; c < 3; c++) own[c] *= sharpness;
    softmax_of(own);
    UNROLL for (int c = 0; c < 3; c++) x[at * 3 + c] = own[c];
}

// delta (3 snps) = y ∘ (delta − Σ y∘delta) sharpness, sums over the three of each SNP. A thread makes a SNP.
KERNEL(256) softmax_backward(float sharpness, const float* y, float* delta, i64 snps) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= snps) return;
    float own[3], d[3];
    UNROLL for (int c = 0; c < 3; c++) own[c] = y[at * 3 + c], d[c] = delta[at * 3 + c];
    const float along = own[0] * d[0] + own[1] * d[1] + own[2] * d[2];
    UNROLL for (int c = 0; c < 3; c++) delta[at * 3 + c] = own[c] * (d[c] - along) * sharpness;
}

// costs (b) = factor Σ −ln p of the calls, delta (b, 3m) = factor (p − X), p the softmax of logits (b, 3m); calls that
// were not made cost nothing: codes (n, pitch), rows (b). A block makes a row.
KERNEL(256) cross_entropy(const u8* codes, i64 pitch, i64 m, const u32* rows, float factor, const float* logits,
                          float* costs, float* delta) {
    const u8* calls = codes + rows[blockIdx.x] * pitch;
    logits += blockIdx.x * m * 3, delta += blockIdx.x * m * 3;
    double cost = 0.0;
    for (i64 j = threadIdx.x; j < m; j += 256) {
        const int call = calls[j / 4] >> (j % 4 * 2) & 3;
        float p[3], own = 0.0f;
        UNROLL for (int c = 0; c < 3; c++) {
            p[c] = logits[j * 3 + c];
            own = call == c ? p[c] : own;
        }
        const float whole = softmax_of(p);
        if (call < 3) cost += (double)(whole - own);
        UNROLL for (int c = 0; c < 3; c++)
            delta[j * 3 + c] = call < 3 ? factor * (call == c ? p[c] - 1.0f : p[c]) : 0.0f;
    }
    cost = sum_of_block<256>(cost);
    if (threadIdx.x == 0) costs[blockIdx.x] = (float)((double)factor * cost);
}

// out (rows) = Σ x² of each row of x (rows, k). A block makes a row.
KERNEL(256) row_squares(const float* x, i64 k, float* out) {
    x += blockIdx.x * k;
    double sum = 0.0;
    for (i64 at = threadIdx.x; at < k; at += 256) sum += (double)x[at] * (double)x[at];
    sum = sum_of_block<256>(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = (float)sum;
}

// factors (rows) = factor (n − 1)/n, sums (2) = Σ (n − 1)², Σ n with n = √squares (rows). By one block.
KERNEL(256) gradient_penalty(double factor, const float* squares, i64 rows, float* factors, float* sums) {
    double away = 0.0, length = 0.0;
    for (i64 row = threadIdx.x; row < rows; row += 256) {
        const double norm = sqrt((double)squares[row]);
        // Of a length of 0 the direction is lost; the least float stands for it.
        factors[row] = (float)(factor * (norm - 1.0) / (norm > 1.2e-38 ? norm : 1.2e-38));
        away += (norm - 1.0) * (norm - 1.0);
        length += norm;
    }
    away = sum_of_block<256>(away);
    length = sum_of_block<256>(length);
    if (threadIdx.x == 0) sums[0] = (float)away, sums[1] = (float)length;
}

// out = or, with `onto`, += factors ∘ x by rows: factors (length / k), x, out (length / k, k)
KERNEL(256) scale_rows(const float* factors, const float* x, i64 k, int onto, float* out, i64 length) {
    const i64 at = own_four();
    Four own = load_four(x, at, length), sum = onto ? load_four(out, at, length) : Four{};
    i64 row = divided(at, k), left = (row + 1) * k - at;
    UNROLL for (int i = 0; i < 4; i++) {
        if (at + i < length) sum.of[i] = fmaf(factors[row], own.of[i], sum.of[i]);
        if (--left == 0) row++, left = k;
    }
    store_four(out, at, length, sum);
}
