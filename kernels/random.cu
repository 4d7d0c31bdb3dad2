// Random numbers named by (seed, purpose, index, place), the very words of rng::Stream::block: Philox4x32-10 (Salmon et
// al. 2011). An entry gets the same number however a matrix is shared out over cards, blocks and threads.
#include "fours.cuh"

struct Words { u32 of[4]; };

// Ten rounds (section 4.3).
DEVICE Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
    UNROLL for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)c0 * 0xD2511F53u, p1 = (u64)c2 * 0xCD9E8D57u;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0, c1 = (u32)p1, c2 = (u32)(p0 >> 32) ^ c3 ^ k1, c3 = (u32)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// The word's upper 23 bits and a half, times 2^-23: exact in single precision.
DEVICE float uniform(u32 word) { return ((float)(word >> 9) + 0.5f) * 0x1p-23f; }

// to (rows, width) = make(what stands there, words, which of the EACH entries that these words serve) for each entry of a
// part of a matrix whose rows are `columns` apart; `first` is the number of the part's first entry. Threads take the
// blocks of four words that a row touches: at most (width + EACH - 1)/EACH + 1.
template <int EACH, class Make>
DEVICE void draw(u64 seed, u32 purpose, u64 index, i64 first, i64 columns, i64 rows, i64 width, float* to, Make make) {
    const i64 of_row = (width + EACH - 1) / EACH + 1;
    const i64 own = (i64)blockIdx.x * 256 + threadIdx.x;
    const i64 row = divided(own, of_row);
    if (row >= rows) return;
    const i64 begin = first + row * columns;
    const i64 block = begin / EACH + (own - row * of_row);
    const i64 column = block * EACH - begin, at = row * width + column;
    const Words words = philox((u32)block, purpose, (u32)index, (u32)(index >> 32), (u32)seed, (u32)(seed >> 32));
    if (EACH == 4 && column >= 0 && column + 4 <= width) {
        Four four = load_four(to, at, at + 4);
        UNROLL for (int i = 0; i < 4; i++) four.of[i] = make(four.of[i], words, i);
        store_four(to, at, at + 4, four);
    } else {
        UNROLL for (int i = 0; i < EACH; i++)
            if (column + i >= 0 && column + i < width) to[at + i] = make(to[at + i], words, i);
    }
}

KERNEL(256) uniforms(u64 seed, u32 purpose, u64 index, i64 first, i64 columns, i64 rows, i64 width, float* out) {
    draw<4>(seed, purpose, index, first, columns, rows, width, out,
            [=](float, const Words& words, int i) { return uniform(words.of[i]); });
}

// √(−2 ln u₁) cos(2π u₂) (Box & Muller 1958)
KERNEL(256) normals(u64 seed, u32 purpose, u64 index, i64 first, i64 columns, i64 rows, i64 width, float* out) {
    draw<2>(seed, purpose, index, first, columns, rows, width, out, [=](float, const Words& words, int i) {
        float u = uniform(words.of[2 * i]), v = uniform(words.of[2 * i + 1]);
        return sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
    });
}

// x (rows, width) becomes 0 where the upper 23 bits of its word are below `limit`, and `factor` x elsewhere
KERNEL(256) dropout(u64 seed, u32 purpose, u64 index, i64 first, i64 columns, i64 rows, i64 width, u32 limit,
                    float factor, float* x) {
    draw<4>(seed, purpose, index, first, columns, rows, width, x, [=](float old, const Words& words, int i) {
        return words.of[i] >> 9 < limit ? 0.0f : old * factor;
    });
}
