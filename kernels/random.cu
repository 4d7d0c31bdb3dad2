// Random numbers named by (seed, purpose, index, place): an entry gets the same number however a matrix is shared out over
// GPUs, blocks and threads.
#include "fours.cuh"
#include "philox.cuh"

// to (rows, width) = make(what stands there, words, which of the EACH entries that these words serve) for each entry of a
// part of a matrix. Threads take the blocks of four words that a row touches: at most (width + EACH - 1)/EACH + 1.
template <int EACH, class Make> DEVICE void draw(const Noise& noise, i64 rows, i64 width, float* to, Make make) {
    const i64 of_row = (width + EACH - 1) / EACH + 1;
    const i64 own = (i64)blockIdx.x * 256 + threadIdx.x;
    const i64 row = divided(own, of_row);
    if (row >= rows) return;
    const i64 begin = noise.first + row * noise.columns;
    const i64 block = begin / EACH + (own - row * of_row);
    const i64 column = block * EACH - begin, at = row * width + column;
    const Words words = words_of(noise, block);
    if (EACH == 4 && column >= 0 && column + 4 <= width) {
        Four four = load_four(to, at, at + 4);
        UNROLL for (int i = 0; i < 4; i++) four.of[i] = make(four.of[i], words, i);
        store_four(to, at, at + 4, four);
    } else {
        UNROLL for (int i = 0; i < EACH; i++)
            if (column + i >= 0 && column + i < width) to[at + i] = make(to[at + i], words, i);
    }
}

KERNEL(256) uniforms(NOISE, i64 rows, i64 width, float* out) {
    draw<4>(GIVEN_NOISE, rows, width, out,
            [=](float, const Words& words, int i) { return uniform(words.of[i]); });
}

// √(−2 ln u₁) cos(2π u₂) (Box & Muller 1958)
KERNEL(256) normals(NOISE, i64 rows, i64 width, float* out) {
    draw<2>(GIVEN_NOISE, rows, width, out, [=](float, const Words& words, int i) {
        float u = uniform(words.of[2 * i]), v = uniform(words.of[2 * i + 1]);
        return sqrtf(-2.0f * logf(u)) * cospif(2.0f * v);
    });
}

// x (rows, width) becomes 0 where the upper 23 bits of its word are below `limit`, and `factor` x elsewhere
KERNEL(256) dropout(NOISE, i64 rows, i64 width, u32 limit, float factor, float* x) {
    draw<4>(GIVEN_NOISE, rows, width, x, [=](float old, const Words& words, int i) {
        return words.of[i] >> 9 < limit ? 0.0f : old * factor;
    });
}
