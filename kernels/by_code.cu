// Sums of bytes by the code of a genotype, S_c = sum of 1[x = c] v over the animals of a sample for the codes 1, 2 and
// missing: what trees choose their splits by. Exact in 32 bits: int8 tensor cores (mma m16n8k32).
//
// Animals lie in lines of 256 SNPs, 64 bytes. A warp takes 128 SNPs: each of its lanes reads a word of 16 SNPs of eight
// animals and turns it in registers, so that four animals' codes of a SNP lie in one. Row lane/4 of product t is SNP t of
// the lane's word, row lane/4 + 8 SNP t + 8. Low bit, high bit and both are multiplied with up to eight columns of bytes;
// the sums by code follow from them.
//
// Lines of animals are read wherever the sample's numbers say. Blocks add to sums that others add to as well: whole
// numbers, so in any order.
#include "ptx.cuh"

constexpr int ITEM = 8;  // numbers of an item

// Four words of 16 codes to 16 registers: those of SNP s hold the codes of the four animals.
DEVICE void turn(const u32 (&words)[4], u32 (&turned)[16]) {
    UNROLL for (int s = 0; s < 4; s++) {
        u32 x[4];
        UNROLL for (int k = 0; k < 4; k++) x[k] = words[k] >> (2 * s) & 0x03030303u;
        u32 first = __byte_perm(x[0], x[1], 0x5140), second = __byte_perm(x[2], x[3], 0x5140);
        turned[s] = __byte_perm(first, second, 0x5410);
        turned[s + 4] = __byte_perm(first, second, 0x7632);
        first = __byte_perm(x[0], x[1], 0x7362), second = __byte_perm(x[2], x[3], 0x7362);
        turned[s + 8] = __byte_perm(first, second, 0x5410);
        turned[s + 12] = __byte_perm(first, second, 0x7632);
    }
}

// lines (blocks of SNPs, n, CHUNK_BYTES), m SNPs; animals: those of all samples, each filled up to whole 128 with animals
// whose bytes are zeros. An item is a stretch of a sample and up to eight of its columns: first animal, last, the first
// byte of column 0, bytes from one column to the next, columns, the first sum of out, sums of a SNP.
// grid: halves of blocks of SNPs, items.
KERNEL(128) sums_by_code(const u8* lines, i64 n, i64 m, const u32* animals, const signed char* bytes, const i64* items,
                         int* out) {
    const i64* item = items + (i64)blockIdx.y * ITEM;
    const i64 begin = item[0], end = item[1], pitch = item[3], columns = item[4], width = item[6];
    const int warp = threadIdx.x / 32, word = threadIdx.x % 32 / 4, quarter = threadIdx.x % 4;
    const u8* own = lines + (i64)(blockIdx.x / 2) * n * CHUNK_BYTES + blockIdx.x % 2 * (CHUNK_BYTES / 2) + word * 4;
    const signed char* column = bytes + item[2] + (word < columns ? word * pitch : 0);

    int sum[8][3][4] = {};  // product, plane, fragment
    ROLLED for (i64 at = begin + warp * 32; at < end; at += 128) {
        u32 codes[2][16], right[2];
        UNROLL for (int half = 0; half < 2; half++) {
            const i64 first = at + 16 * half + 4 * quarter;
            u32 words[4];
            UNROLL for (int k = 0; k < 4; k++) words[k] = *(const u32*)(own + (i64)animals[first + k] * CHUNK_BYTES);
            turn(words, codes[half]);
            right[half] = word < columns ? *(const u32*)(column + (first - begin)) : 0;
        }
        UNROLL for (int t = 0; t < 8; t++) {
            const u32 of[4] = {codes[0][t], codes[0][t + 8], codes[1][t], codes[1][t + 8]};
            u32 low[4], high[4], both[4];
            UNROLL for (int i = 0; i < 4; i++) {
                low[i] = of[i] & 0x01010101u, high[i] = of[i] >> 1 & 0x01010101u;
                both[i] = low[i] & high[i];
            }
            mma_s8_m16n8k32(sum[t][0], low, right);
            mma_s8_m16n8k32(sum[t][1], high, right);
            mma_s8_m16n8k32(sum[t][2], both, right);
        }
    }
    const i64 first = (i64)blockIdx.x * (CHUNK / 2) + word * 16;
    UNROLL for (int t = 0; t < 8; t++) UNROLL for (int i = 0; i < 4; i++) {
        const i64 snp = first + t + i / 2 * 8;
        const int of = quarter * 2 + i % 2;
        if (snp < m && of < columns) {
            int* to = out + item[5] + snp * width + 3 * of;
            const int both = sum[t][2][i];
            atomicAdd(to, sum[t][0][i] - both);
            atomicAdd(to + 1, sum[t][1][i] - both);
            atomicAdd(to + 2, both);
        }
    }
}
