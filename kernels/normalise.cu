// Batch normalisation (Ioffe & Szegedy 2015) and layer normalisation (Ba et al. 2016), without their scale and shift.
#include "fours.cuh"
#include "sums.cuh"

// x = x / count
KERNEL(256) divide(double count, float* x, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] = (float)((double)a.of[i] / count);
    store_four(x, at, length, a);
}

// x = 1 / sqrt(x / count + epsilon)
KERNEL(256) inverse_sd(double count, double epsilon, float* x, i64 length) {
    i64 at = own_four();
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] = (float)(1.0 / sqrt((double)a.of[i] / count + epsilon));
    store_four(x, at, length, a);
}

// x = (x − mean)/sd by columns: x (length / h, h), mean, inverse_sd (h)
KERNEL(256) normalise_columns(const float* mean, const float* inverse_sd, i64 h, float* x, i64 length) {
    i64 at = own_four();
    Columns columns = columns_of(at, h);
    Four a = load_four(x, at, length);
    UNROLL for (int i = 0; i < 4; i++) a.of[i] = (a.of[i] - mean[columns.of[i]]) * inverse_sd[columns.of[i]];
    store_four(x, at, length, a);
}

// delta = γ/sd ∘ (delta − sums/count − x̂ ∘ products/count): x̂ `normalised` and delta (length / h, h), the rest (h);
// inverse_count = 1/count
KERNEL(256) normalise_columns_backward(const float* normalised, const float* scale, const float* inverse_sd,
                                       const float* sums, const float* products, float inverse_count, i64 h,
                                       float* delta, i64 length) {
    i64 at = own_four();
    Columns columns = columns_of(at, h);
    Four x = load_four(normalised, at, length), d = load_four(delta, at, length);
    UNROLL for (int i = 0; i < 4; i++) {
        i64 c = columns.of[i];
        float centred = d.of[i] - sums[c] * inverse_count - x.of[i] * (products[c] * inverse_count);
        d.of[i] = scale[c] * inverse_sd[c] * centred;
    }
    store_four(delta, at, length, d);
}

constexpr int ROW_THREADS = 128;

// x = (x − mean)/sd by rows, sd² the row's variance + epsilon: x (rows, h), inverse_sd (rows). A block makes a row.
KERNEL(128) normalise_rows(double epsilon, i64 h, float* x, float* inverse_sd) {
    float* row = x + blockIdx.x * h;
    double sum = 0.0, squares = 0.0;
    for (i64 c = threadIdx.x; c < h; c += ROW_THREADS) sum += (double)row[c];
    const double mean = sum_of_block<ROW_THREADS>(sum) / (double)h;
    for (i64 c = threadIdx.x; c < h; c += ROW_THREADS) {
        double distance = (double)row[c] - mean;
        squares += distance * distance;
    }
    const double inverse = 1.0 / sqrt(sum_of_block<ROW_THREADS>(squares) / (double)h + epsilon);
    for (i64 c = threadIdx.x; c < h; c += ROW_THREADS) row[c] = (float)(((double)row[c] - mean) * inverse);
    if (threadIdx.x == 0) inverse_sd[blockIdx.x] = (float)inverse;
}

// delta = 1/sd ∘ (d − mean(d) − x̂ mean(d∘x̂)), d = γ∘delta, means over each row: x̂ `normalised` and delta (rows, h),
// scale γ (h), inverse_sd (rows). A block makes a row.
KERNEL(128) normalise_rows_backward(const float* normalised, const float* scale, const float* inverse_sd, i64 h,
                                    float* delta) {
    const float* x = normalised + blockIdx.x * h;
    float* row = delta + blockIdx.x * h;
    double sum = 0.0, products = 0.0;
    for (i64 c = threadIdx.x; c < h; c += ROW_THREADS) {
        double d = (double)scale[c] * (double)row[c];
        sum += d;
        products += d * (double)x[c];
    }
    const double mean = sum_of_block<ROW_THREADS>(sum) / (double)h, along = sum_of_block<ROW_THREADS>(products) / (double)h;
    const double inverse = (double)inverse_sd[blockIdx.x];
    for (i64 c = threadIdx.x; c < h; c += ROW_THREADS) {
        double d = (double)scale[c] * (double)row[c];
        row[c] = (float)(inverse * (d - mean - (double)x[c] * along));
    }
}
