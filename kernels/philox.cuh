// The very words of rng::Stream::block: Philox4x32-10 (Salmon et al. 2011), named by (seed, purpose, index) and the block.
#pragma once
#include "common.cuh"

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

// Which words the entries of a part of a matrix take: that of (row, column) is number first + row columns + column.
struct Noise {
    u64 seed;
    u32 purpose;
    u64 index;
    i64 first, columns;
};
#define NOISE u64 seed, u32 purpose, u64 index, i64 first, i64 columns
#define GIVEN_NOISE Noise{seed, purpose, index, first, columns}

// The words 4 `block` to 4 `block` + 3.
DEVICE Words words_of(const Noise& noise, i64 block) {
    return philox((u32)block, noise.purpose, (u32)noise.index, (u32)(noise.index >> 32), (u32)noise.seed,
                  (u32)(noise.seed >> 32));
}

// The uniforms of COUNT neighbours, at most 8, from `number` on.
template <int COUNT> DEVICE void neighbours(float (&uniforms)[COUNT], const Noise& noise, i64 number) {
    constexpr int BLOCKS = (COUNT + 6) / 4;
    const int past = (int)(number & 3);
    u32 words[BLOCKS * 4];
    UNROLL for (int block = 0; block < BLOCKS; block++) {
        // The last one only where so many words are past its beginning.
        Words four = {};
        if (block == 0 || block * 4 < past + COUNT) four = words_of(noise, (number >> 2) + block);
        UNROLL for (int i = 0; i < 4; i++) words[block * 4 + i] = four.of[i];
    }
    UNROLL for (int i = 0; i + 1 < BLOCKS * 4; i++) words[i] = past & 1 ? words[i + 1] : words[i];
    UNROLL for (int i = 0; i + 2 < BLOCKS * 4; i++) words[i] = past & 2 ? words[i + 2] : words[i];
    UNROLL for (int i = 0; i < COUNT; i++) uniforms[i] = uniform(words[i]);
}
