// Products of matrices of parts (tiles.cuh): X W and X'D, X (b, m) in as few parts as its numbers need, and the writing of
// such matrices.
#include "fours.cuh"
#include "tiles.cuh"

// to (lines, pitch), parts = from (rows, columns), its lines `width` apart; rows times `scale` where that is given. A thread
// writes eight neighbours.
KERNEL(256) turn(const float* from, i64 width, i64 rows, i64 columns, const float* scale, int parts, u16* to, i64 lines,
                 int pitch, int apart) {
    const i64 at = (i64)blockIdx.x * 256 + threadIdx.x, line = divided(at, pitch / 8), column = (at - line * (pitch / 8)) * 8;
    if (line >= lines) return;
    float x[8] = {};
    if (line < rows) {
        const float by = scale ? scale[line] : 1.0f;
        UNROLL for (int half = 0; half < 2; half++) {
            const Four four = load_four(from + line * width, column + half * 4, columns);
            UNROLL for (int i = 0; i < 4; i++) x[half * 4 + i] = four.of[i] * by;
        }
    }
    store_parts(to + line * pitch + column, x, parts, apart);
}

// sum = X right or, if ACROSS, X' right over `stages` stages: x from its number `first` on, the tile's first row and term. `fetch` brings a
// stage of what is right, a tile B, into the shared memory that it is given, and `ready` tells where the stage lies once
// this thread's copies have come.
template <int LEFT, int RIGHT, bool ACROSS, class Fetch, class Ready>
DEVICE void add_up(float (&sum)[4][4][4], const u16* x, int first, int pitch, int apart, int stages, Fetch fetch, Ready ready) {
    constexpr int TERMS = TERMS_OF<LEFT>;
    using A = Tile<LEFT, ACROSS ? TERMS : SIDE, ACROSS ? SIDE : TERMS>;
    using B = Tile<RIGHT, TERMS, SIDE>;
    SHARED_BYTES(shared);
    u16* left = (u16*)shared;
    u16* right = left + BUFFERS * A::NUMBERS;
    auto both = [&](int stage) {
        if (stage < stages) {
            A::fetch(left + stage % BUFFERS * A::NUMBERS, x + first, stage * (ACROSS ? TERMS * pitch : TERMS), pitch, apart);
            fetch(right, stage);
        }
        copies_end();
    };
    both(0), both(1);
    for (int stage = 0; stage < stages; stage++) {
        copies_left<1>();
        const u16* there = ready(right, stage);
        __syncthreads();
        both(stage + 2);
        multiply<A, B, LEFT, RIGHT, TERMS, ACROSS>(sum, left + stage % BUFFERS * A::NUMBERS, there);
    }
}

// The same with parts right, (terms, columns), y from its number `y_first` on.
template <int LEFT, int RIGHT, bool ACROSS>
DEVICE void add_up_parts(float (&sum)[4][4][4], const u16* x, int first, int pitch, int apart, int stages, const u16* y,
                         int y_first, int y_pitch, int y_apart) {
    constexpr int TERMS = TERMS_OF<LEFT>;
    using B = Tile<RIGHT, TERMS, SIDE>;
    auto buffer = [](u16* right, int stage) { return right + stage % BUFFERS * B::NUMBERS; };
    add_up<LEFT, RIGHT, ACROSS>(
        sum, x, first, pitch, apart, stages,
        [=](u16* right, int stage) {
            B::fetch(buffer(right, stage), y + y_first, stage * TERMS * y_pitch, y_pitch, y_apart);
        },
        buffer);
}

// Where a block of X W begins: terms of a share of `each` stages.
struct Share { int row, column, term, stages; };
template <int TERMS> DEVICE Share own_share(int each, int pitch) {
    const int term = blockIdx.z * each * TERMS;
    return {(int)blockIdx.y * SIDE, (int)blockIdx.x * SIDE, term, least(each, (pitch - term) / TERMS)};
}

// out (shares, b, h) of a block's share.
DEVICE void store_share(const float (&sum)[4][4][4], i64 b, i64 h, float* out) {
    each_sum(sum, [&](int r, int c, float x) {
        const i64 row = (i64)blockIdx.y * SIDE + r, column = (i64)blockIdx.x * SIDE + c;
        if (row < b && column < h) out[((i64)blockIdx.z * b + row) * h + column] = x;
    });
}

// out (shares, b, h) = X W over each share of `each` stages of terms: x parts (b, m), w parts (m, h).
// grid: tiles of columns, tiles of rows, shares.
template <int LEFT, int RIGHT>
DEVICE void times(const u16* x, int pitch, int apart, i64 b, const u16* w, int w_pitch, int w_apart, i64 h, int each,
                  float* out) {
    const Share own = own_share<TERMS_OF<LEFT>>(each, pitch);
    float sum[4][4][4] = {};
    add_up_parts<LEFT, RIGHT, false>(sum, x, own.row * pitch + own.term, pitch, apart, own.stages, w,
                                     own.term * w_pitch + own.column, w_pitch, w_apart);
    store_share(sum, b, h, out);
}
#define TIMES_ARGUMENTS const u16 *x, int pitch, int apart, i64 b, const u16 *w, int w_pitch, int w_apart, i64 h, int each, float *out
#define TIMES(LEFT, RIGHT) times<LEFT, RIGHT>(x, pitch, apart, b, w, w_pitch, w_apart, h, each, out)
KERNEL(256, 2) times_1_1(TIMES_ARGUMENTS) { TIMES(1, 1); }
KERNEL(256, 2) times_1_3(TIMES_ARGUMENTS) { TIMES(1, 3); }
KERNEL(256, 2) times_3_3(TIMES_ARGUMENTS) { TIMES(3, 3); }

// The same for w (m, h) in single precision, its rows times `scale` where that is given; h a multiple of 4, w on a border of
// 16 bytes. A thread turns what it has fetched itself, four columns of every eighth row. That is half again as many
// instructions a stage as the product of parts has, which gain where one tile of rows reads W: as parts it would be written
// and read again, three times the memory traffic of a product that is bound by it.
template <int LEFT, int RIGHT>
DEVICE void raw_times(const u16* x, int pitch, int apart, i64 b, const float* w, i64 m, i64 h, const float* scale, int each,
                      float* out) {
    constexpr int TERMS = TERMS_OF<LEFT>, ACROSS = SIDE / 4, DOWN = THREADS / ACROSS, RAW = TERMS * SIDE;
    using B = Tile<RIGHT, TERMS, SIDE>;
    const Share own = own_share<TERMS>(each, pitch);
    const int line = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS * 4;
    const int lines = own.column + column < h ? (int)least(m - own.term, (i64)each * TERMS) : 0;
    w += (i64)own.term * h + own.column;
    if (scale) scale += own.term;
    auto place = [=](u16* right, int stage) { return (float*)right + stage % 2 * RAW + line * SIDE + column; };
    auto fetch = [=](u16* right, int stage) {
        const float* from = w + (i64)stage * TERMS * h;
        UNROLL for (int i = line; i < line + TERMS; i += DOWN) {
            const bool inside = stage * TERMS + i < lines;
            copy_async<16>(place(right, stage) + (i - line) * SIDE, from + (inside ? i * (u32)h + column : 0), inside);
        }
    };
    auto ready = [=](u16* right, int stage) {
        const float* from = place(right, stage);
        u16* turned = right + 4 * RAW + stage % 2 * B::NUMBERS;
        u16* to = turned + line * B::PITCH + column;
        UNROLL for (int i = 0; i < TERMS; i += DOWN) {
            float4 four = *(const float4*)(from + i * SIDE);
            const int at = stage * TERMS + line + i;
            const float by = scale && at < lines ? scale[at] : 1.0f;
            u32 low[RIGHT], high[RIGHT];
            split<RIGHT>(four.x * by, four.y * by, low);
            split<RIGHT>(four.z * by, four.w * by, high);
            UNROLL for (int p = 0; p < RIGHT; p++)
                *(uint2*)(to + p * B::PART + i * B::PITCH) = make_uint2(low[p], high[p]);
        }
        return turned;
    };
    float sum[4][4][4] = {};
    add_up<LEFT, RIGHT, false>(sum, x, own.row * pitch + own.term, pitch, apart, own.stages, fetch, ready);
    store_share(sum, b, h, out);
}
#define RAW_ARGUMENTS const u16 *x, int pitch, int apart, i64 b, const float *w, i64 m, i64 h, const float *scale, int each, float *out
#define RAW_TIMES(LEFT, RIGHT) raw_times<LEFT, RIGHT>(x, pitch, apart, b, w, m, h, scale, each, out)
KERNEL(256, 2) raw_times_1_1(RAW_ARGUMENTS) { RAW_TIMES(1, 1); }
KERNEL(256, 2) raw_times_1_3(RAW_ARGUMENTS) { RAW_TIMES(1, 3); }
KERNEL(256, 2) raw_times_3_3(RAW_ARGUMENTS) { RAW_TIMES(3, 3); }

// out (rows, h) = or, with `onto`, += X'D, x parts (b, rows), d parts (b, h); where `scale` is given, row j of X'D is first
// scaled by it and gets `shift` times `sums` (h) more.
// grid: tiles of columns, tiles of rows.
template <int LEFT, int RIGHT>
DEVICE void transposed(const u16* x, int pitch, int apart, i64 rows, const u16* d, int d_pitch, int d_apart, i64 b, i64 h,
                       const float* scale, const float* shift, const float* sums, int onto, float* out) {
    constexpr int TERMS = TERMS_OF<LEFT>;
    const int row = blockIdx.y * SIDE, column = blockIdx.x * SIDE, stages = (int)((b + TERMS - 1) / TERMS);
    float sum[4][4][4] = {};
    add_up_parts<LEFT, RIGHT, true>(sum, x, row, pitch, apart, stages, d, column, d_pitch, d_apart);
    const int rows_left = (int)least(rows - row, (i64)SIDE), columns_left = (int)least(h - column, (i64)SIDE);
    out += (i64)row * h + column;
    each_sum(sum, [&](int r, int c, float s) {
        if (r >= rows_left || c >= columns_left) return;
        if (LEFT == 1 && scale) s = scale[row + r] * s + shift[row + r] * sums[column + c];
        float* at = out + r * h + c;
        *at = onto ? *at + s : s;
    });
}
#define TRANSPOSED_ARGUMENTS const u16 *x, int pitch, int apart, i64 rows, const u16 *d, int d_pitch, int d_apart, i64 b, i64 h, const float *scale, const float *shift, const float *sums, int onto, float *out
#define TRANSPOSED(LEFT, RIGHT) transposed<LEFT, RIGHT>(x, pitch, apart, rows, d, d_pitch, d_apart, b, h, scale, shift, sums, onto, out)
KERNEL(256, 2) transposed_1_1(TRANSPOSED_ARGUMENTS) { TRANSPOSED(1, 1); }
KERNEL(256, 2) transposed_1_3(TRANSPOSED_ARGUMENTS) { TRANSPOSED(1, 3); }
KERNEL(256, 2) transposed_3_3(TRANSPOSED_ARGUMENTS) { TRANSPOSED(3, 3); }
