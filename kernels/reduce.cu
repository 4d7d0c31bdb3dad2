// Sums over all of a vector, in f64 and in an order that depends on nothing but its length.
#include "fours.cuh"
#include "sums.cuh"

// partial (blocks) = Σ x² of every block's share
KERNEL(256) squares(const float* x, i64 length, double* partial) {
    double sum = 0.0;
    for (i64 at = own_four(); at < length; at += (i64)gridDim.x * 1024) {
        Four four = load_four(x, at, length);
        UNROLL for (int i = 0; i < 4; i++) sum += (double)four.of[i] * (double)four.of[i];
    }
    sum = sum_of_block<256>(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// out (1) = Σ partial (count), by one block
KERNEL(256) fold(const double* partial, int count, float* out) {
    double sum = 0.0;
    for (int at = threadIdx.x; at < count; at += 256) sum += partial[at];
    sum = sum_of_block<256>(sum);
    if (threadIdx.x == 0) *out = (float)sum;
}
