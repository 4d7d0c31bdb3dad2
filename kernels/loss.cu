// What predictions cost, over the recorded traits only: a missing record is NaN.
#include "columns.cuh"

// d²/2 up to |d| = bend, bend (|d| − bend/2) beyond (Huber 1964); with an infinite bend the squared error.
// delta (rows, t) = factor weight φ'(predicted − observed); partial sums (slabs, t) of factor weight φ.
// predicted, observed, weights (rows, t); no `weights` are weights of 1.
KERNEL(256) loss(float bend, float factor, const float* predicted, const float* observed, const float* weights,
                 i64 rows, i64 t, i64 slab, float* delta, double* partial) {
    sum_columns(rows, t, slab, partial, [=](i64 at, i64) {
        float record = observed[at], weight = weights ? factor * weights[at] : factor;
        float d = record != record ? 0.0f : predicted[at] - record;
        bool beyond = fabsf(d) > bend;
        delta[at] = weight * (beyond ? copysignf(bend, d) : d);
        return (double)weight * (double)(beyond ? bend * (fabsf(d) - 0.5f * bend) : 0.5f * d * d);
    });
}
