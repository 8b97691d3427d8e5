// AMX: a bf16 matrix times bf16 columns by the processor's matrix tiles, where it has them.
//
// One instruction multiplies sixteen rows of the matrix, 32 numbers of each, by the same 32 numbers
// of up to sixteen columns, and adds the products to sixteen times sixteen sums in fp32. Tiles 0 to
// 2 hold the sums, 3 to 5 rows of the matrix, 6 the columns, whose numbers stand in pairs.
// Previous: vectors.h.  Next: step.cpp.

#pragma once

#include <vector>

#include "vectors.h"

#if defined(__AMX_BF16__) && defined(__linux__)
#define HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#ifdef HAS_TILES
constexpr int ARCH_REQ_XCOMP_PERM = 0x1023;  // asks Linux for a processor state (asm/prctl.h) ...
constexpr int XFEATURE_XTILEDATA = 18;       // ... of this number: the contents of tiles
constexpr int TILE_ROWS = 16;
constexpr int TILE_DEPTH = 32;  // bf16 numbers in a row of a tile
constexpr int TILE_ROW_BYTES = 2 * TILE_DEPTH;
constexpr int N_TILES = 7;  // their numbers below are literals, since the intrinsics take no others

// Configures the tiles of this thread for n_columns columns, as long as the object lives.
struct Tiles {
    bool available;

    explicit Tiles(int64_t n_columns) {
        static const bool allowed =
            syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
        available = allowed && 0 < n_columns && n_columns <= TILE_ROWS;
        if (!available) return;
        struct {
            uint8_t palette = 1, start = 0, none[14] = {};
            uint16_t bytes[16] = {};  // of a row
            uint8_t rows[16] = {};
        } shape;
        for (int i = 0; i < N_TILES; i++) {
            shape.bytes[i] = 3 <= i && i < 6 ? TILE_ROW_BYTES : 4 * n_columns;
            shape.rows[i] = TILE_ROWS;
        }
        _tile_loadconfig(&shape);
    }
    ~Tiles() { if (available) _tile_release(); }
};

// Calls output(m, n, y[m][n]) for M columns x[m] and rows n to stop of the matrix, as many as whole
// tiles hold. Returns the first row that is left.
template <class Output>
int64_t multiply_tiles(const bfloat* matrix, const float* x, int64_t M, int64_t n, int64_t stop,
                       int64_t K, Output& output) {
    if (K % TILE_DEPTH) return n;
    std::vector<bfloat> pairs(M * K);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) round_to(pairs[(k / 2 * M + m) * 2 + k % 2], x[m * K + k]);
    float sums[3 * TILE_ROWS * TILE_ROWS];
    while (n + TILE_ROWS <= stop) {
        const bfloat* rows = matrix + n * K;
        int64_t n_tiles = n + 3 * TILE_ROWS <= stop ? 3 : 1;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        for (int64_t k = 0; k < K; k += TILE_DEPTH) {
            _tile_loadd(6, &pairs[k * M], 4 * M);
            _tile_loadd(3, rows + k, 2 * K);
            _tile_dpbf16ps(0, 3, 6);
            if (n_tiles == 1) continue;
            _tile_loadd(4, rows + TILE_ROWS * K + k, 2 * K);
            _tile_loadd(5, rows + 2 * TILE_ROWS * K + k, 2 * K);
            _tile_dpbf16ps(1, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
        }
        _tile_stored(0, sums, 4 * M);
        _tile_stored(1, sums + TILE_ROWS * M, 4 * M);
        _tile_stored(2, sums + 2 * TILE_ROWS * M, 4 * M);
        for (int64_t r = 0; r < n_tiles * TILE_ROWS; r++)
            for (int64_t m = 0; m < M; m++) output(m, n + r, sums[r * M + m]);
        n += n_tiles * TILE_ROWS;
    }
    return n;
}
#else
struct Tiles {
    static constexpr bool available = false;
    explicit Tiles(int64_t) {}
};
template <class Output>
int64_t multiply_tiles(const bfloat*, const float*, int64_t, int64_t n, int64_t, int64_t, Output&) {
    return n;
}
#endif

}  // namespace
