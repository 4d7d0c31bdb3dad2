// What chosen animals' packed genotypes stand for, written as parts (tiles.cuh) for the products of the SNP-facing layer.
#include "tiles.cuh"

// Animals of a thread.
constexpr int ANIMALS = 16;

// to (lines, pitch), parts = what `table` (m, 4) says of the codes (n, code_pitch) of `rows` (b), SNPs from `snp` on. A thread
// writes eight SNPs of some animals. grid: pitch, lines.
KERNEL(256) decode(const u8* codes, i64 code_pitch, const float* table, i64 snp, const u32* rows, i64 b, int parts, u16* to,
                   i64 lines, int pitch, int apart) {
    const int column = (blockIdx.x * 256 + threadIdx.x) * 8;
    if (column >= pitch) return;
    float4 values[8];
    UNROLL for (int j = 0; j < 8; j++) values[j] = ((const float4*)table)[snp + column + j];
    codes += (snp + column) / 4;
    const i64 first = (i64)blockIdx.y * ANIMALS, end = least(first + ANIMALS, lines);
    for (i64 line = first; line < end; line++) {
        float x[8] = {};
        if (line < b) {
            const u32 eight = *(const u16*)(codes + rows[line] * code_pitch);
            UNROLL for (int j = 0; j < 8; j++) {
                const u32 code = eight >> (2 * j);
                const float low = code & 1 ? values[j].y : values[j].x, high = code & 1 ? values[j].w : values[j].z;
                x[j] = code & 2 ? high : low;
            }
        }
        store_parts(to + line * pitch + column, x, parts, apart);
    }
}
