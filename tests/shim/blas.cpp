// libcublasLt.so for tests: products of matrices of floats in the processor's memory, numbers cut to tf32 as rounded ones
// are, in the order of columns. What a caller promises is looked at: that addresses are as aligned as the algorithm was
// chosen for, and that the leading dimension is one. SHIM_BLAS=none finds no algorithm.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <tuple>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { TRANSPOSE_A = 3, TRANSPOSE_B = 4 };
enum { WORKSPACE = 1, ALIGNED_A = 5, ALIGNED_D = 8 };
constexpr int FLOATS = 0, FAST_TF32 = 77;

struct Layout { uint64_t rows, columns; int64_t leading; };
struct Description { int transposed[2]; };
struct Preference { uint64_t workspace; uint32_t aligned[4]; };
struct Algorithm { uint64_t aligned[4], workspace, unused[3]; };
struct Heuristic { Algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; };

float tf32(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits = (bits + 0x1000u) & 0xFFFFE000u;
    std::memcpy(&x, &bits, 4);
    return x;
}

// Element (row, column) of op(X).
float element(const float* x, const Layout& of, bool transposed, uint64_t row, uint64_t column) {
    return tf32(transposed ? x[row * of.leading + column] : x[column * of.leading + row]);
}

}  // namespace

extern "C" {
int cublasLtCreate(void** handle) { *handle = std::malloc(1); return SUCCESS; }
int cublasLtDestroy(void* handle) { std::free(handle); return SUCCESS; }

int cublasLtMatrixLayoutCreate(void** out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (type != FLOATS || leading < int64_t(rows)) return INVALID_VALUE;
    *out = new Layout{rows, columns, leading};
    return SUCCESS;
}
int cublasLtMatrixLayoutDestroy(void* layout) { delete static_cast<Layout*>(layout); return SUCCESS; }

int cublasLtMatmulDescCreate(void** out, int compute, int scale) {
    if (compute != FAST_TF32 || scale != FLOATS) return INVALID_VALUE;
    *out = new Description{};
    return SUCCESS;
}
int cublasLtMatmulDescSetAttribute(void* description, int which, const void* value, size_t bytes) {
    if (bytes != 4 || (which != TRANSPOSE_A && which != TRANSPOSE_B)) return INVALID_VALUE;
    static_cast<Description*>(description)->transposed[which - TRANSPOSE_A] = *static_cast<const int*>(value);
    return SUCCESS;
}
int cublasLtMatmulDescDestroy(void* description) { delete static_cast<Description*>(description); return SUCCESS; }

int cublasLtMatmulPreferenceCreate(void** out) { *out = new Preference{0, {256, 256, 256, 256}}; return SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(void* preference, int which, const void* value, size_t bytes) {
    auto& of = *static_cast<Preference*>(preference);
    if (which == WORKSPACE && bytes == 8) return of.workspace = *static_cast<const uint64_t*>(value), SUCCESS;
    if (which < ALIGNED_A || which > ALIGNED_D || bytes != 4) return INVALID_VALUE;
    of.aligned[which - ALIGNED_A] = *static_cast<const uint32_t*>(value);
    return SUCCESS;
}
int cublasLtMatmulPreferenceDestroy(void* preference) { delete static_cast<Preference*>(preference); return SUCCESS; }

int cublasLtMatmulAlgoGetHeuristic(void*, void* description, void* a, void* b, void* c, void* d, void* preference, int,
                                   Heuristic* out, int* count) {
    auto& of = *static_cast<Preference*>(preference);
    auto [x, y, z, w] = std::make_tuple(static_cast<Layout*>(a), static_cast<Layout*>(b), static_cast<Layout*>(c), d);
    auto& [transposed] = *static_cast<Description*>(description);
    uint64_t rows = transposed[0] ? x->columns : x->rows, inner = transposed[0] ? x->rows : x->columns;
    uint64_t other = transposed[1] ? y->columns : y->rows, columns = transposed[1] ? y->rows : y->columns;
    if (c != w || inner != other || z->rows != rows || z->columns != columns) return INVALID_VALUE;
    const char* wanted = std::getenv("SHIM_BLAS");
    *count = !(wanted && !std::strcmp(wanted, "none"));
    *out = Heuristic{};
    for (int i = 0; i < 4; i++) out->algorithm.aligned[i] = of.aligned[i];
    out->algorithm.workspace = of.workspace;
    return SUCCESS;
}

int cublasLtMatmul(void*, void* description, const void* factor, const void* a, void* of_a, const void* b, void* of_b,
                   const void* keep, const void* c, void*, void* d, void* of_d, const Algorithm* algorithm, void* workspace,
                   size_t bytes, void*) {
    const void* addresses[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if (uintptr_t(addresses[i]) % algorithm->aligned[i]) return INVALID_VALUE;
    if (bytes < algorithm->workspace || !workspace || c != d) return INVALID_VALUE;
    auto &x = *static_cast<Layout*>(of_a), &y = *static_cast<Layout*>(of_b), &z = *static_cast<Layout*>(of_d);
    auto& [transposed] = *static_cast<Description*>(description);
    const uint64_t inner = transposed[0] ? x.rows : x.columns;
    const float times = *static_cast<const float*>(factor), kept = *static_cast<const float*>(keep);
    for (uint64_t column = 0; column < z.columns; column++)
        for (uint64_t row = 0; row < z.rows; row++) {
            double sum = 0.0;
            for (uint64_t k = 0; k < inner; k++)
                sum += double(element(static_cast<const float*>(a), x, transposed[0], row, k)) *
                       element(static_cast<const float*>(b), y, transposed[1], k, column);
            float& at = static_cast<float*>(d)[column * z.leading + row];
            at = float(times * sum + (kept != 0.0f ? kept * at : 0.0f));
        }
    return SUCCESS;
}
}
