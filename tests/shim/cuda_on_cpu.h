// CUDA's language on the processor, for tests: what kernels/*.cu need of it, each CUDA thread a fiber (fibers.h).
#pragma once
#include "fibers.h"
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define KERNEL(...) extern "C" void
#define DEVICE static inline
#define SHARED_BYTES(name) unsigned char* const name = shim::shared_bytes()
#define UNROLL
#define ROLLED
#define __restrict__ __restrict
#define __align__(n) alignas(n)
// One block runs at a time; its variables are filled with NaN before.
#define __shared__ static __attribute__((section("shim_shared")))

#define threadIdx (shim::thread_index())
#define blockIdx (shim::block_index())
#define blockDim (shim::block_size())
#define gridDim (shim::grid_size())
#define __syncthreads() shim::barrier(__FILE__, __LINE__)

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace shim {

inline int lane() { return current->lane; }

// Lanes that `mask` names meet, each gives `mine`, and `use` sees what every lane gave.
template <class T, class Use> inline void exchange(const T& mine, Use use, unsigned mask = ~0u) {
    static_assert(sizeof(T) <= SLOT && std::is_trivially_copyable<T>::value, "what lanes exchange");
    Slots& slots = meet(mask, __PRETTY_FUNCTION__);
    std::memcpy(slots.of[lane()], &mine, sizeof(T));
    wait();
    use([&](int lane) -> const T& { return *reinterpret_cast<const T*>(slots.of[lane]); });
}

// The value of the lane `from`, own value where the segment of `width` lanes does not hold it.
template <class T> inline T shuffle(unsigned mask, T value, int from, int width) {
    int first = lane() & ~(width - 1);
    T out = value;
    exchange(value, [&](auto of_lane) {
        if (from >= first && from < first + width) {
            if (!(mask >> from & 1)) fail("a shuffle reads a lane that its mask leaves out");
            out = of_lane(from);
        }
    }, mask);
    return out;
}

template <class T, class Fold> inline T reduce(unsigned mask, T value, Fold fold) {
    T out = value;
    exchange(value, [&](auto of_lane) {
        bool first = true;
        for (int i = 0; i < 32; i++) {
            if (!(mask >> i & 1)) continue;
            out = first ? of_lane(i) : fold(out, of_lane(i));
            first = false;
        }
    }, mask);
    return out;
}

template <class T, class Next> inline T update(T* at, Next next) {
    T old, made;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    do made = next(old);
    while (!__atomic_compare_exchange(at, &old, &made, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

template <class To, class From> inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}

}  // namespace shim

template <class T> static inline T __shfl_sync(unsigned m, T v, int from, int width = 32) {
    return shim::shuffle(m, v, (shim::lane() & ~(width - 1)) + (from & (width - 1)), width);
}
template <class T> static inline T __shfl_xor_sync(unsigned m, T v, int with, int width = 32) {
    return shim::shuffle(m, v, shim::lane() ^ with, width);
}
template <class T> static inline T __shfl_down_sync(unsigned m, T v, unsigned by, int width = 32) {
    return shim::shuffle(m, v, shim::lane() + int(by), width);
}
template <class T> static inline T __shfl_up_sync(unsigned m, T v, unsigned by, int width = 32) {
    return shim::shuffle(m, v, shim::lane() - int(by), width);
}
static inline void __syncwarp(unsigned m = ~0u) { shim::exchange(0, [](auto) {}, m); }
static inline unsigned __ballot_sync(unsigned m, int p) {
    return shim::reduce(m, p ? 1u << shim::lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, !p) == 0; }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T> static inline T atomicAdd(T* at, T by) {
    return shim::update(at, [by](T old) { return T(old + by); });
}
template <class T> static inline T atomicMax(T* at, T with) {
    return shim::update(at, [with](T old) { return old < with ? with : old; });
}
template <class T> static inline T atomicExch(T* at, T with) {
    return shim::update(at, [with](T) { return with; });
}
template <class T> static inline T atomicCAS(T* at, T from, T to) {
    return shim::update(at, [from, to](T old) { return old == from ? to : old; });
}

template <class T> static inline T __ldg(const T* at) { return *at; }
static inline unsigned __float_as_uint(float x) { return shim::bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return shim::bits<float>(x); }
static inline double __longlong_as_double(long long x) { return shim::bits<double>(x); }
static inline int __float_as_int(float x) { return shim::bits<int>(x); }
static inline float __int_as_float(int x) { return shim::bits<float>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select) {
    unsigned char bytes[8];
    std::memcpy(bytes, &a, 4);
    std::memcpy(bytes + 4, &b, 4);
    unsigned out = 0;
    for (int i = 0; i < 4; i++) out |= unsigned(bytes[select >> 4 * i & 7]) << 8 * i;
    return out;
}
// Rounds to nearest even and stays within 64 bits, as cvt.rni.s64.f64 does.
static inline long long __double2ll_rn(double x) {
    if (!(x > -0x1p63)) return INT64_MIN;  // NaN too
    return x >= 0x1p63 ? INT64_MAX : std::llrint(x);
}
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline float cospif(float x) { return float(std::cos(3.14159265358979323846 * x)); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }

// For the generated list of entries: calls KERNEL `f` with the addresses of its arguments, as the driver gets them.
namespace shim {
template <class... A, size_t... I>
inline void call(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
    f(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
}
template <auto F> struct Entry;
template <class... A, void (*F)(A...)> struct Entry<F> {
    static void run(void** arguments) { call(F, arguments, std::index_sequence_for<A...>{}); }
};
}  // namespace shim
#define REGISTER(name, threads) static const shim::Registered registered_##name{#name, &shim::Entry<&name>::run, threads};
