// Classes of genotypes as two numbers a SNP: those of all SNPs that are second, then those that are third. Bound by memory.
#include "fours.cuh"
#include "philox.cuh"

// out (2m, h): rows 3j + 1 and 3j + 2 of w (3m, h) less rows 3j. A thread makes two numbers.
KERNEL(256) contrasts(const float* w, i64 m, i64 h, float* out) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= m * h) return;
    const i64 snp = divided(at, h);
    w += at + snp * 2 * h;
    out[at] = w[h] - w[0];
    out[at + m * h] = w[2 * h] - w[0];
}

// x (rows, 3m): the three classes of y (rows, 2m). A thread makes a SNP, as below.
KERNEL(256) complete(const float* y, i64 rows, i64 m, float* x) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= rows * m) return;
    y += at + divided(at, m) * m, x += at * 3;
    x[0] = 1.0f - y[0] - y[m], x[1] = y[0], x[2] = y[m];
}

// x (rows, 2m), contrasts of logits, become classes 1 and 2 of softmax((logits + g) sharpness), g Gumbel noise
// −ln(−ln u) if `noisy`.
KERNEL(256) softmax_contrasts(NOISE, i64 rows, i64 m, int noisy, float sharpness, float* x) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= rows * m) return;
    const i64 row = divided(at, m), snp = at - row * m;
    x += row * 2 * m + snp;
    float own[3] = {0.0f, x[0], x[m]};
    if (noisy) {
        float uniforms[3];
        neighbours(uniforms, GIVEN_NOISE, first + row * columns + snp * 3);
        UNROLL for (int c = 0; c < 3; c++) own[c] -= logf(-logf(uniforms[c]));
    }
    const float largest = most(most(own[0], own[1]), own[2]);
    float sum = 0.0f;
    UNROLL for (int c = 0; c < 3; c++) sum += own[c] = expf((own[c] - largest) * sharpness);
    x[0] = own[1] / sum, x[m] = own[2] / sum;
}

// delta (rows, 3m) = y ∘ (delta − Σ y∘delta) sharpness of each SNP's three, y (rows, 2m).
KERNEL(256) softmax_contrasts_backward(float sharpness, const float* y, i64 rows, i64 m, float* delta) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= rows * m) return;
    y += at + divided(at, m) * m, delta += at * 3;
    const float own[3] = {1.0f - y[0] - y[m], y[0], y[m]};
    const float along = own[0] * delta[0] + own[1] * delta[1] + own[2] * delta[2];
    UNROLL for (int c = 0; c < 3; c++) delta[c] = own[c] * (delta[c] - along) * sharpness;
}
