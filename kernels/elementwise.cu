// What is done to each number by itself, or with the number of its column. Bound by memory: each is read and written once.
#include "fours.cuh"

KERNEL(256) fill(float value, float* to, i64 length) {
    Four four = {{value, value, value, value}};
    store_four(to, own_four(), length, four);
}

// y = keep y + factor x
KERNEL(256) blend(float keep, float factor, const float* x, float* y, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length), b = load_four(y, at, length);
    UNROLL for (int i = 0; i < 4; i++) b.of[i] = fmaf(factor, a.of[i], keep * b.of[i]);
    store_four(y, at, length, b);
}

// x (length / h, h) += row (h) in each row
KERNEL(256) add_row(const float* row, i64 h, float* x, i64 length) {
    i64 at = own_four();
    Columns columns = columns_of(at, h);
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] += row[columns.of[i]];
    store_four(x, at, length, a);
}

// out = scale x + shift by columns: x, out (length / h, h), scale, shift (h)
KERNEL(256) scale_columns(const float* x, const float* scale, const float* shift, i64 h, float* out, i64 length) {
    i64 at = own_four();
    Columns columns = columns_of(at, h);
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] = fmaf(scale[columns.of[i]], a.of[i], shift[columns.of[i]]);
    store_four(out, at, length, a);
}

// out = x where positive, slope x elsewhere
KERNEL(256) leaky_relu(float slope, const float* x, float* out, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] *= a.of[i] > 0.0f ? 1.0f : slope;
    store_four(out, at, length, a);
}

// delta *= the slope at x
KERNEL(256) leaky_relu_backward(float slope, const float* x, float* delta, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length), d = load_four(delta, at, length);
    UNROLL for (int i = 0; i < 4; i++) d.of[i] *= a.of[i] > 0.0f ? 1.0f : slope;
    store_four(delta, at, length, d);
}

// The approximation with tanh (Hendrycks & Gimpel 2016); the constants are those of device/network.
constexpr float GELU_ROOT = 0.7978845608028654f, GELU_CUBE = 0.044715f;
DEVICE float gelu_tanh(float x) { return tanhf(GELU_ROOT * (x + GELU_CUBE * x * x * x)); }

KERNEL(256) gelu(const float* x, float* out, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] *= 0.5f + 0.5f * gelu_tanh(a.of[i]);
    store_four(out, at, length, a);
}

KERNEL(256) gelu_backward(const float* x, float* delta, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length), d = load_four(delta, at, length);
    UNROLL for (int i = 0; i < 4; i++) {
        float own = a.of[i], t = gelu_tanh(own);
        float inner = GELU_ROOT * (1.0f + 3.0f * GELU_CUBE * own * own);
        d.of[i] *= 0.5f * (1.0f + t) + 0.5f * own * (1.0f - t * t) * inner;
    }
    store_four(delta, at, length, d);
}
