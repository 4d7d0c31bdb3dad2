// Products with chosen animals' packed genotypes in single precision: a thread makes a number.
#include "decode.cuh"

// The value of an animal's SNP; a missing call has its own.
DEVICE float value_of(const u8* codes, i64 pitch, const double* table, i64 animal, i64 snp) {
    u32 byte = codes[animal * pitch + snp / 4];
    return (float)table[snp * 4 + (byte >> (2 * (snp % 4)) & 3)];
}

// out (b, h) = Z[rows] W: codes (n, pitch), table (m, 4), rows (b), w (m, h)
KERNEL(256) gather_times(const u8* codes, i64 pitch, const double* table, i64 m, const u32* rows, i64 b, const float* w,
                         i64 h, float* out) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= b * h) return;
    i64 row = at / h, column = at % h;
    float sum = 0.0f;
    for (i64 snp = 0; snp < m; snp++) sum = fmaf(value_of(codes, pitch, table, rows[row], snp), w[snp * h + column], sum);
    out[at] = sum;
}

// out (m, h) = or, with `onto`, += Z[rows]' D: d (b, h)
KERNEL(256) gather_transposed_times(const u8* codes, i64 pitch, const double* table, i64 m, const u32* rows, i64 b,
                                    const float* d, i64 h, int onto, float* out) {
    i64 at = (i64)blockIdx.x * 256 + threadIdx.x;
    if (at >= m * h) return;
    i64 snp = at / h, column = at % h;
    float sum = 0.0f;
    for (i64 row = 0; row < b; row++)
        sum = fmaf(value_of(codes, pitch, table, rows[row], snp), d[row * h + column], sum);
    out[at] = onto ? out[at] + sum : sum;
}
