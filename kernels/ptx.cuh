// The only file with inline PTX. Each wrapper has a twin for the processor, written from the fragment layouts of the
// PTX ISA (section "Warp Level Matrix Multiply-Accumulate Instructions"), so the kernels above run in tests too.
#pragma once
#include "common.cuh"

#if !defined(__CUDACC__)
#include <cmath>

// c + the sum of `n` products as Hopper's tensor cores add up: all are cut off two bits behind the last one that a float
// of the largest's exponent has, and so is their sum behind its own last one (Fasi et al. 2021; Khattak & Mikaitis 2025).
inline float cut_off_sum(float c, const double* products, int n) {
    double largest = std::fabs((double)c), all = c;
    for (int i = 0; i < n; i++) largest = std::fmax(largest, std::fabs(products[i])), all += products[i];
    if (largest == 0 || !std::isfinite(all)) return (float)all;
    int exponent;
    std::frexp(largest, &exponent);
    const double unit = std::ldexp(1.0, exponent - 26), units = std::ldexp(1.0, 26 - exponent);
    double sum = std::trunc(c * units);
    for (int i = 0; i < n; i++) sum += std::trunc(products[i] * units);
    sum *= unit;
    float nearest = (float)sum;
    return std::fabs((double)nearest) > std::fabs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}
#endif

// d += a b, double precision. a (8, 4): row lane/4, column lane%4. b (4, 8): row lane%4, column lane/4.
// d (8, 8): row lane/4, columns 2 (lane%4) + {0, 1}.
DEVICE void mma_f64_m8n8k4(double (&d)[2], double a, double b) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};\n"
                 : "+d"(d[0]), "+d"(d[1]) : "d"(a), "d"(b));
#else
    struct Operands { double a, b; };
    shim::exchange(Operands{a, b}, [&](auto of_lane) {
        int row = shim::lane() / 4, pair = shim::lane() % 4 * 2;
        for (int i = 0; i < 2; i++)
            for (int k = 0; k < 4; k++)
                d[i] = fma(of_lane(row * 4 + k).a, of_lane((pair + i) * 4 + k).b, d[i]);
    });
#endif
}

// As the one above for rows lane/4 (`low`) and lane/4 + 8 (`high`) of a: one instruction where there is one, twice as fast.
DEVICE void mma_f64_m16n8k4(double (&low)[2], double (&high)[2], const double (&a)[2], double b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\n"
                 : "+d"(low[0]), "+d"(low[1]), "+d"(high[0]), "+d"(high[1]) : "d"(a[0]), "d"(a[1]), "d"(b));
#else
    mma_f64_m8n8k4(low, a[0], b);
    mma_f64_m8n8k4(high, a[1], b);
#endif
}

// d += a b, signed bytes with exact sums of 32 bits. a (16, 32): register i holds row lane/4 + 8 (i%2), columns
// 4 (lane%4) + 16 (i/2) + {0..3}. b (32, 8): register i holds rows 4 (lane%4) + 16 i + {0..3}, column lane/4.
// d (16, 8): rows lane/4 + 8 (i/2), columns 2 (lane%4) + i%2.
DEVICE void mma_s8_m16n8k32(int (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    struct Operands { u32 a[4], b[2]; };
    shim::exchange(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, [&](auto of_lane) {
        for (int i = 0; i < 4; i++) {
            int row = shim::lane() / 4, column = shim::lane() % 4 * 2 + i % 2;
            for (int k = 0; k < 32; k += 4) {
                int from = k % 16 / 4, half = k / 16;
                u32 x = of_lane(row * 4 + from).a[i / 2 + 2 * half], y = of_lane(column * 4 + from).b[half];
                for (int s = 0; s < 32; s += 8) d[i] += int((signed char)(x >> s)) * int((signed char)(y >> s));
            }
        }
    });
#endif
}

// The two bfloat16 of a register as floats.
DEVICE float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
DEVICE float bf16_high(u32 pair) { return __uint_as_float(pair & 0xFFFF0000u); }

// d += a b, bfloat16 with sums in single precision. a (16, 16): register i holds row lane/4 + 8 (i%2), columns
// 2 (lane%4) + 8 (i/2) + {0, 1}. b (16, 8): register i holds rows 2 (lane%4) + 8 i + {0, 1}, column lane/4.
// d (16, 8): rows lane/4 + 8 (i/2), columns 2 (lane%4) + i%2.
DEVICE void mma_bf16_m16n8k16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    struct Operands { u32 a[4], b[2]; };
    shim::exchange(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, [&](auto of_lane) {
        for (int i = 0; i < 4; i++) {
            int row = shim::lane() / 4, column = shim::lane() % 4 * 2 + i % 2;
            double products[16];
            for (int k = 0; k < 16; k += 2) {
                int from = k % 8 / 2, half = k / 8;
                u32 x = of_lane(row * 4 + from).a[i / 2 + 2 * half], y = of_lane(column * 4 + from).b[half];
                products[k] = (double)bf16_low(x) * bf16_low(y);
                products[k + 1] = (double)bf16_high(x) * bf16_high(y);
            }
            d[i] = cut_off_sum(d[i], products, 16);
        }
    });
#endif
}

// d += a b, tf32 (single precision without its last 13 bits, which are ignored) with sums in single precision. a (16, 8):
// register i holds row lane/4 + 8 (i%2), column lane%4 + 4 (i/2). b (8, 8): register i holds row lane%4 + 4 i, column
// lane/4. d (16, 8): rows lane/4 + 8 (i/2), columns 2 (lane%4) + i%2.
DEVICE void mma_tf32_m16n8k8(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    struct Operands { u32 a[4], b[2]; };
    shim::exchange(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, [&](auto of_lane) {
        auto value = [](u32 bits) { return __uint_as_float(bits & 0xFFFFE000u); };
        for (int i = 0; i < 4; i++) {
            int row = shim::lane() / 4, column = shim::lane() % 4 * 2 + i % 2;
            double products[8];
            for (int k = 0; k < 8; k++) {
                int half = k / 4;
                u32 x = of_lane(row * 4 + k % 4).a[i / 2 + 2 * half], y = of_lane(column * 4 + k % 4).b[half];
                products[k] = (double)value(x) * value(y);
            }
            d[i] = cut_off_sum(d[i], products, 8);
        }
    });
#endif
}

// Two floats as bfloat16, rounded to nearest even: `low` in the lower half.
DEVICE u32 bf16_pair(float low, float high) {
#if defined(__CUDACC__)
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    auto rounded = [](float x) {
        u32 bits = __float_as_uint(x);
        return x != x ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    };
    return rounded(low) | rounded(high) << 16;
#endif
}

#if defined(__CUDACC__)
// Where `p` points to in shared memory, as instructions for it want to be told.
DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
#endif

// Four matrices of 8 x 8 numbers of 16 bits out of shared memory: lane l tells where row l%8 of matrix l/8 begins, a multiple
// of 16 bytes. Register i holds row lane/4, columns 2 (lane%4) + {0, 1} of matrix i; or, `transposed`, rows and columns
// exchanged.
template <bool TRANSPOSED> DEVICE void load_matrices(u32 (&to)[4], const u16* row) {
#if defined(__CUDACC__)
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
#else
    if ((u64)row % 16 != 0) shim::fail("a row of a matrix begins at no multiple of 16 bytes");
    shim::exchange(row, [&](auto of_lane) {
        const int line = shim::lane() / 4, pair = shim::lane() % 4 * 2;
        for (int i = 0; i < 4; i++) {
            auto at = [&](int r, int c) { return TRANSPOSED ? of_lane(i * 8 + c)[r] : of_lane(i * 8 + r)[c]; };
            to[i] = at(line, pair) | (u32)at(line, pair + 1) << 16;
        }
    });
#endif
}

// Copies 16, 8 or 4 bytes from global to shared memory in the background; zeros instead where `wanted` is false, and then
// `from` is not read. Both addresses are multiples of BYTES. Sixteen pass by the nearest cache.
template <int BYTES> DEVICE void copy_async(void* to, const void* from, bool wanted = true) {
#if defined(__CUDACC__)
    const int read = wanted ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" :: "r"(shared_address(to)), "l"(from), "r"(read));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;\n"
                     :: "r"(shared_address(to)), "l"(from), "r"(read), "n"(BYTES));
#else
    shim::copy_async(to, from, BYTES, wanted);
#endif
}
// Ends a group of copies; `copies_left<N>` waits until at most N groups of this thread are under way.
DEVICE void copies_end() {
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#else
    shim::copies_end();
#endif
}
template <int N> DEVICE void copies_left() {
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;\n" :: "n"(N) : "memory");
#else
    shim::copies_left(N);
#endif
}
