// Sums over the rows of a matrix (rows, h), column by column, in two stages (columns.cuh).
#include "columns.cuh"
#include "fours.cuh"

KERNEL(256) column_sums(const float* x, i64 rows, i64 h, i64 slab, double* partial) {
    sum_columns(rows, h, slab, partial, [=](i64 at, i64) { return (double)x[at]; });
}

// Σ (x − centre)², centre (h)
KERNEL(256) column_squares(const float* x, const float* centre, i64 rows, i64 h, i64 slab, double* partial) {
    sum_columns(rows, h, slab, partial, [=](i64 at, i64 column) {
        double distance = (double)x[at] - (double)centre[column];
        return distance * distance;
    });
}

// Σ x∘y
KERNEL(256) column_products(const float* x, const float* y, i64 rows, i64 h, i64 slab, double* partial) {
    sum_columns(rows, h, slab, partial, [=](i64 at, i64) { return (double)x[at] * (double)y[at]; });
}

// Σ weights∘x by rows, weights (rows)
KERNEL(256) weighted_sums(const float* x, const float* weights, i64 rows, i64 h, i64 slab, double* partial) {
    sum_columns(rows, h, slab, partial, [=](i64 at, i64 column) {
        return (double)weights[divided(at - column, h)] * (double)x[at];
    });
}

// out (h) = or, with `onto`, += the partial sums (slabs, h), added in order
KERNEL(256) fold_columns(const double* partial, int slabs, i64 h, int onto, float* out) {
    i64 column = (i64)blockIdx.x * 256 + threadIdx.x;
    if (column >= h) return;
    double sum = onto ? (double)out[column] : 0.0;
    for (int slab = 0; slab < slabs; slab++) sum += partial[slab * h + column];
    out[column] = (float)sum;
}
