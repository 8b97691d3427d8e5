// One step of GPT-2 written out in C++: new tokens of a few texts, from embeddings to logits.
//
//     for each block:  x = x + Attention(LayerNorm(x))
//                      x = x + FeedForward(LayerNorm(x))
//     logits = LayerNorm(x) E^T
//
// Writing reads every weight once for each token, and for few tokens that is what it costs. So a
// weight is fetched once for all M of them, and the threads, each with its own rows of a matrix,
// meet five times in a block and do nothing else. Weights are fp32, bf16, or int8 with a scale for
// each row; whatever they are, all sums are fp32. gpt2.py says the same in PyTorch; a test holds
// the two against each other.
// Previous: ../gpt2.py.  Next: compiled.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
#define TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else  // without OpenMP the pragmas below mean nothing, and one thread does everything
static int omp_get_thread_num() { return 0; }
static int omp_get_num_threads() { return 1; }
#endif

namespace {

// Sixteen numbers at a time ------------------------------------------------------------------

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Bits __attribute__((vector_size(64)));
typedef uint16_t BFloats __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t bfloat;  // the upper half of a float

template <class Out, class In> inline Out as(In in) {
    Out out;
    static_assert(sizeof out == sizeof in);
    std::memcpy(&out, &in, sizeof out);
    return out;
}
template <class T> inline T at(const void* place) {
    T value;
    std::memcpy(&value, place, sizeof value);
    return value;
}
inline Floats load(const float* from) { return at<Floats>(from); }
#ifdef __AVX512F__  // g++ takes three times as many instructions for the general form
inline Floats load(const bfloat* from) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(at<__m256i>(from)), 16);
}
inline Floats load(const int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(at<__m128i>(from)));
}
#else
inline Floats load(const bfloat* from) {
    return as<Floats>(__builtin_convertvector(at<BFloats>(from), Bits) << 16);
}
inline Floats load(const int8_t* from) {
    return __builtin_convertvector(__builtin_convertvector(at<Bytes>(from), Ints), Floats);
}
#endif
inline void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

inline float value(float x) { return x; }
inline float value(bfloat x) { return as<float>(uint32_t(x) << 16); }
inline float value(int8_t x) { return x; }

inline void put(float& to, float x) { to = x; }
inline void put(bfloat& to, float x) {  // to the nearest, of two to the even
    uint32_t bits = as<uint32_t>(x);
    to = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline float sum(Floats x) {  // in halves: fewer steps that wait for each other
    typedef float Eight __attribute__((vector_size(32)));
    typedef float Four __attribute__((vector_size(16)));
    struct { Eight low, high; } halves = as<decltype(halves)>(x);
    struct { Four low, high; } quarters = as<decltype(quarters)>(halves.low + halves.high);
    Four rest = quarters.low + quarters.high;
    return (rest[0] + rest[2]) + (rest[1] + rest[3]);
}

// exp(x) = 2^n exp(r), |r| <= ln 2 / 2, with exp(r) by its series; off by 2e-7 of itself at most.
inline Floats exponential(Floats x) {
    const Floats low = Floats{} - 87.0f, high = Floats{} + 88.0f, shift = Floats{} + 12582912.0f;
    x = x < low ? low : x > high ? high : x;
    Floats shifted = x * 1.44269504f + shift;  // adding 1.5 * 2^23 rounds to a whole number
    Floats n = shifted - shift;
    Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats series = Floats{} + 1.0f / 5040;
    for (float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        series = series * r + term;
    Bits power = (as<Bits>(shifted) - as<Bits>(shift) + 127) << 23;
    return series * as<Floats>(power);
}

// What Python hands over: compiled.py has the same fields in the same order -----------------------

struct Linear {
    const void* weight;  // (N, K)
    const float* scale;  // (N,) of int8 weights, else null
    const float* bias;   // (N,) or null
};
struct Norm {
    const float* weight;  // (C,)
    const float* bias;    // (C,) or null
};
struct Block {
    Norm attention_norm;
    Linear qkv_proj, out_proj;
    Norm feedforward_norm;
    Linear widen_proj, narrow_proj;
};
struct Cache {
    void* keys;    // (B, H, room, D)
    void* values;  // (B, H, room, D)
};
struct Model {
    const Block* blocks;
    Norm final_norm;
    Linear lm_head;
    int64_t n_layer, n_head, n_embd, vocab_size;
    float eps;
};
struct Tokens {
    const Cache* caches;       // of each block
    const int64_t* rows;       // (M,) the text that each token belongs to
    const int64_t* positions;  // (M,) where it stands in it
    float* x;                  // (M, C) embeddings, overwritten
    float* logits;             // (M, V)
    int64_t n_tokens, room;
};

// The layers ---------------------------------------------------------------------------------

struct Range {
    int64_t start, stop;
};

// This thread's share of n things, in whole groups.
Range share(int64_t n, int64_t group = 1) {
    int64_t groups = (n + group - 1) / group, threads = omp_get_num_threads();
    int64_t thread = omp_get_thread_num();
    return {groups * thread / threads * group, std::min(n, groups * (thread + 1) / threads * group)};
}

// R rows of a matrix times M columns, each K long: y[r][m] = sum_k weight[r][k] x[m][k]
template <int R, int M, class W>
inline void tile(const W* weight, const float* x, int64_t K, float (&y)[R][M]) {
    constexpr int CHAINS = R * M == 1 ? 8 : 1;  // sums that do not wait for each other
    Floats sums[CHAINS][R][M] = {};
    int64_t k = 0;
    for (; k + CHAINS * LANES <= K; k += CHAINS * LANES)
        for (int c = 0; c < CHAINS; c++) {
            Floats w[R];
            for (int r = 0; r < R; r++) w[r] = load(weight + r * K + k + c * LANES);
            for (int m = 0; m < M; m++) {
                Floats column = load(x + m * K + k + c * LANES);
                for (int r = 0; r < R; r++) sums[c][r][m] += w[r] * column;
            }
        }
    for (int r = 0; r < R; r++)
        for (int m = 0; m < M; m++) {
            Floats all = sums[0][r][m];
            for (int c = 1; c < CHAINS; c++) all += sums[c][r][m];
            int64_t j = k;
            for (; j + LANES <= K; j += LANES) all += load(weight + r * K + j) * load(x + m * K + j);
            y[r][m] = sum(all);
            for (; j < K; j++) y[r][m] += value(weight[r * K + j]) * x[m * K + j];
        }
}

template <int R, int M, class W, class Then>
inline void rows_times(const Linear& layer, const float* x, int64_t first, int64_t n, int64_t K,
                       Then& then) {
    float y[R][M];
    tile<R, M>((const W*)layer.weight + n * K, x + first * K, K, y);
    for (int r = 0; r < R; r++) {
        float scale = layer.scale ? layer.scale[n + r] : 1;
        float bias = layer.bias ? layer.bias[n + r] : 0;
        for (int m = 0; m < M; m++) then(first + m, n + r, y[r][m] * scale + bias);
    }
}

// R rows of the matrix and every column, in groups that fit into the registers.
template <int R, class W, class Then>
inline void rows_times_all(const Linear& layer, const float* x, int64_t M, int64_t n, int64_t K,
                           Then& then) {
    int64_t m = 0;
    for (; m + 4 <= M; m += 4) rows_times<R, 4, W>(layer, x, m, n, K, then);
    for (; m + 2 <= M; m += 2) rows_times<R, 2, W>(layer, x, m, n, K, then);
    for (; m < M; m++) rows_times<R, 1, W>(layer, x, m, n, K, then);
}

// Tiles, where the processor has them (AMX): sixteen rows of a bf16 matrix, 32 numbers of each, times
// the same 32 of up to sixteen columns, in one instruction. Tiles 0 to 2 are sums, 3 to 5 rows of the
// matrix, 6 the columns, whose numbers stand in pairs.
#ifdef TILES
struct Tiles {
    static constexpr int ROWS = 16, DEPTH = 32;
    bool here;
    explicit Tiles(int64_t n_columns) {
        static const bool allowed = syscall(SYS_arch_prctl, 0x1023, 18) == 0;  // asks Linux for them
        here = allowed && 0 < n_columns && n_columns <= ROWS;
        if (!here) return;
        struct {
            uint8_t palette = 1, start = 0, none[14] = {};
            uint16_t bytes[16] = {};  // of a row
            uint8_t rows[16] = {};
        } shape;
        for (int i = 0; i < 7; i++) {
            shape.bytes[i] = 3 <= i && i < 6 ? 64 : 4 * n_columns;
            shape.rows[i] = ROWS;
        }
        _tile_loadconfig(&shape);
    }
    ~Tiles() { if (here) _tile_release(); }
};

// Rows n to stop, as many as whole tiles hold -> the first row that is left.
template <class Then>
int64_t multiply_tiles(const Linear& layer, const float* x, int64_t M, int64_t n, int64_t stop,
                       int64_t K, Then& then) {
    constexpr int64_t ROWS = Tiles::ROWS, DEPTH = Tiles::DEPTH;
    if (K % DEPTH) return n;
    std::vector<bfloat> pairs(M * K);
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < K; k++) put(pairs[(k / 2 * M + m) * 2 + k % 2], x[m * K + k]);
    float sums[3 * ROWS * ROWS];
    while (n + ROWS <= stop) {
        const bfloat* rows = (const bfloat*)layer.weight + n * K;
        int64_t n_tiles = n + 3 * ROWS <= stop ? 3 : 1;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        for (int64_t k = 0; k < K; k += DEPTH) {
            _tile_loadd(6, &pairs[k * M], 4 * M);
            _tile_loadd(3, rows + k, 2 * K);
            _tile_dpbf16ps(0, 3, 6);
            if (n_tiles == 1) continue;
            _tile_loadd(4, rows + ROWS * K + k, 2 * K);
            _tile_loadd(5, rows + 2 * ROWS * K + k, 2 * K);
            _tile_dpbf16ps(1, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
        }
        _tile_stored(0, sums, 4 * M);
        _tile_stored(1, sums + ROWS * M, 4 * M);
        _tile_stored(2, sums + 2 * ROWS * M, 4 * M);
        for (int64_t r = 0; r < n_tiles * ROWS; r++)
            for (int64_t m = 0; m < M; m++)
                then(m, n + r, sums[r * M + m] + (layer.bias ? layer.bias[n + r] : 0));
        n += n_tiles * ROWS;
    }
    return n;
}
#else
struct Tiles {
    static constexpr bool here = false;
    explicit Tiles(int64_t) {}
};
template <class Then>
int64_t multiply_tiles(const Linear&, const float*, int64_t, int64_t n, int64_t, int64_t, Then&) {
    return n;
}
#endif

// (M, K) -> then(m, n, y[m][n]) for this thread's n of N. Several rows at a time share what is
// fetched of x; where there is one column, memory is the limit, and one row is read to its end.
template <class W, class Then>
void multiply(const Tiles& tiles, const Linear& layer, const float* x, int64_t M, int64_t N,
              int64_t K, Then then) {
    constexpr int R = 6;
    Range mine = share(N, LANES);
    int64_t n = mine.start;
    std::vector<float> rounded;
    if (std::is_same<W, bfloat>::value) {  // a bf16 matrix multiplies bf16 numbers, as in PyTorch
        rounded.resize(M * K);
        for (int64_t i = 0; i < M * K; i++) {
            bfloat narrow;
            put(narrow, x[i]);
            rounded[i] = value(narrow);
        }
        x = rounded.data();
        if (tiles.here) n = multiply_tiles(layer, x, M, n, mine.stop, K, then);
    }
    for (; M > 1 && n + R <= mine.stop; n += R) rows_times_all<R, W>(layer, x, M, n, K, then);
    for (; n < mine.stop; n++) rows_times_all<1, W>(layer, x, M, n, K, then);
}

// (M, C) -> (M, C)
void normalize(const Norm& norm, const float* x, float* y, int64_t M, int64_t C, float eps) {
    for (int64_t m = 0; m < M; m++, x += C, y += C) {
        float mean = 0, variance = 0;
        for (int64_t c = 0; c < C; c++) mean += x[c];
        mean /= C;
        for (int64_t c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean);
        float factor = 1 / std::sqrt(variance / C + eps);
        for (int64_t c = 0; c < C; c++)
            y[c] = (x[c] - mean) * factor * norm.weight[c] + (norm.bias ? norm.bias[c] : 0);
    }
}

// x / 2 (1 + tanh(z)) = x sigmoid(2 z), z = sqrt(2 / pi) (x + 0.044715 x^3)
inline Floats gelu(Floats x) {
    Floats twice_z = x * (1.59576912f + 0.0713548162f * (x * x));
    return x / (1.0f + exponential(-twice_z));
}

// One query against the keys of its text: (D,) -> (D,)
template <class K>
void attend(const float* q, const K* keys, const K* values, int64_t n_keys, int64_t D,
            float* scores, float* y) {
    float largest = -INFINITY, total = 0;
    for (int64_t s = 0; s < n_keys; s++) {
        float score[1][1];
        tile<1, 1>(keys + s * D, q, D, score);
        scores[s] = score[0][0] / std::sqrt(float(D));
        largest = std::max(largest, scores[s]);
    }
    for (int64_t s = 0; s < n_keys; s += LANES) {  // scores has room for whole groups
        store(scores + s, exponential(load(scores + s) - largest));
        for (int64_t i = s; i < std::min(s + LANES, n_keys); i++) total += scores[i];
    }
    std::fill(y, y + D, 0.0f);
    for (int64_t s = 0; s < n_keys; s++) {
        float weight = scores[s] / total;
        for (int64_t d = 0; d < D; d++) y[d] += weight * value(values[s * D + d]);
    }
}

// The heads of this thread: stores the new keys and values, then attends.
template <class K>
void attention(const Model& model, const Tokens& tokens, const Cache& cache, const float* qkv,
               float* heads, float* scores) {
    int64_t C = model.n_embd, D = C / model.n_head;
    Range mine = share(model.n_head);
    for (int64_t h = mine.start; h < mine.stop; h++) {
        auto place = [&](void* of, int64_t m) {  // of position 0 in the text of token m
            return (K*)of + (tokens.rows[m] * model.n_head + h) * tokens.room * D;
        };
        for (int64_t m = 0; m < tokens.n_tokens; m++)
            for (int64_t d = 0; d < D; d++) {
                const float* new_key = qkv + m * 3 * C + C + h * D;
                put(place(cache.keys, m)[tokens.positions[m] * D + d], new_key[d]);
                put(place(cache.values, m)[tokens.positions[m] * D + d], new_key[C + d]);
            }
        for (int64_t m = 0; m < tokens.n_tokens; m++)
            attend<K>(qkv + m * 3 * C + h * D, place(cache.keys, m), place(cache.values, m),
                      tokens.positions[m] + 1, D, scores, heads + m * C + h * D);
    }
}

template <class W, class K> void step(const Model& model, const Tokens& tokens, int n_threads) {
    const int64_t M = tokens.n_tokens, C = model.n_embd, F = 4 * C;
    float* x = tokens.x;
    std::vector<float> qkv(M * 3 * C), heads(M * C), wide(M * F);
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<float> normed(M * C), scores(tokens.room + LANES);  // each thread its own
        const Tiles tiles(std::is_same<W, bfloat>::value ? M : 0);
        auto add_to_x = [&](int64_t m, int64_t n, float y) { x[m * C + n] += y; };
        for (int64_t i = 0; i < model.n_layer; i++) {
            const Block& block = model.blocks[i];
            normalize(block.attention_norm, x, normed.data(), M, C, model.eps);
            multiply<W>(tiles, block.qkv_proj, normed.data(), M, 3 * C, C,
                        [&](int64_t m, int64_t n, float y) { qkv[m * 3 * C + n] = y; });
#pragma omp barrier
            attention<K>(model, tokens, tokens.caches[i], qkv.data(), heads.data(), scores.data());
#pragma omp barrier
            multiply<W>(tiles, block.out_proj, heads.data(), M, C, C, add_to_x);
#pragma omp barrier
            normalize(block.feedforward_norm, x, normed.data(), M, C, model.eps);
            multiply<W>(tiles, block.widen_proj, normed.data(), M, F, C,
                        [&](int64_t m, int64_t n, float y) { wide[m * F + n] = y; });
            Range mine = share(F, LANES);
            for (int64_t m = 0; m < M; m++)
                for (int64_t n = m * F + mine.start; n < m * F + mine.stop; n += LANES)
                    store(&wide[n], gelu(load(&wide[n])));
#pragma omp barrier
            multiply<W>(tiles, block.narrow_proj, wide.data(), M, C, F, add_to_x);
#pragma omp barrier
        }
        normalize(model.final_norm, x, normed.data(), M, C, model.eps);
        multiply<W>(tiles, model.lm_head, normed.data(), M, model.vocab_size, C,
                    [&](int64_t m, int64_t n, float y) { tokens.logits[m * model.vocab_size + n] = y; });
    }
}

}  // namespace

#ifdef _OPENMP
extern "C" int has_threads() { return 1; }
#else
extern "C" int has_threads() { return 0; }
#endif
extern "C" void step_fp32(const Model* m, const Tokens* t, int n) { step<float, float>(*m, *t, n); }
extern "C" void step_bf16(const Model* m, const Tokens* t, int n) { step<bfloat, bfloat>(*m, *t, n); }
extern "C" void step_int8(const Model* m, const Tokens* t, int n) { step<int8_t, float>(*m, *t, n); }
