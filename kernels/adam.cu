// The optimizer. A step moves 28 bytes a parameter (four numbers read, three written) and is bound by that: everything is
// done in the one pass.
#include "fours.cuh"

// Adam (Kingma & Ba 2015) with L2 penalty or decoupled decay (Loshchilov & Hutter 2019): device::network::Adam.
// inverse1 = 1/(1 − β₁ᵗ), inverse2 = 1/(1 − β₂ᵗ), more1 = 1 − β₁, more2 = 1 − β₂; all arrays are (length) but `squares`
// (parts), the sums of squares of a whole gradient, which counts longest/√(Σ squares) times where that is below 1.
KERNEL(256) adam(float rate, float beta1, float more1, float beta2, float more2, float epsilon, float l2, float decay,
                 float inverse1, float inverse2, float longest, const float* squares, int parts, const float* gradient,
                 float* parameters, float* first, float* second, i64 length) {
    float sum = 0.0f, scale = 1.0f;
    for (int part = 0; part < parts; part++) sum += squares[part];
    if (parts > 0 && sqrtf(sum) > longest) scale = longest / sqrtf(sum);
    i64 at = own_four();
    Four g = load_four(gradient, at, length), w = load_four(parameters, at, length);
    Four m = load_four(first, at, length), v = load_four(second, at, length);
    UNROLL for (int i = 0; i < 4; i++) {
        float slope = fmaf(scale, g.of[i], l2 * w.of[i]);
        m.of[i] = fmaf(beta1, m.of[i], more1 * slope);
        v.of[i] = fmaf(beta2, v.of[i], more2 * slope * slope);
        float step = m.of[i] * inverse1 / (sqrtf(v.of[i] * inverse2) + epsilon) + decay * w.of[i];
        w.of[i] = fmaf(-rate, step, w.of[i]);
    }
    store_four(parameters, at, length, w);
    store_four(first, at, length, m);
    store_four(second, at, length, v);
}
