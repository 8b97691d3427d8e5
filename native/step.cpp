// One decode step of GPT-2 in C++: new tokens of a few texts, from embeddings to logits.
//
//     for each block:  x = x + Attention(LayerNorm(x))
//                      x = x + FeedForward(LayerNorm(x))
//     logits = LayerNorm(x) E^T
//
// Decoding reads every weight once per step, and for few tokens that is what a step costs. So a
// weight is fetched once for all M tokens, and the threads, each with its own rows of a matrix,
// meet five times in a block and do nothing else. Weights are fp32, bf16, or int8 with a scale for
// each row; all sums are fp32. gpt2.py says the same in PyTorch; a test compares the two.
// Previous: tiles.h.  Next: compiled.py.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tiles.h"
#include "vectors.h"

#ifdef _OPENMP
#include <omp.h>
#else  // without OpenMP the pragmas below mean nothing, and one thread does everything
static int omp_get_thread_num() { return 0; }
static int omp_get_num_threads() { return 1; }
#endif

namespace {

// The arguments from Python: compiled.py has the same fields in the same order --------------------

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
    void* keys;    // (B, H, capacity, D)
    void* values;  // (B, H, capacity, D)
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
    const int64_t* rows;       // (M,) the row of the batch that each token belongs to
    const int64_t* positions;  // (M,) its position in that row
    float* x;                  // (M, C) embeddings, overwritten
    float* logits;             // (M, V)
    int64_t n_tokens, capacity;
};

// The layers ---------------------------------------------------------------------------------

struct Range {
    int64_t start, stop;
};

// The part of n rows, or heads, that this thread computes, in whole groups.
Range thread_range(int64_t n, int64_t group = 1) {
    int64_t groups = (n + group - 1) / group, threads = omp_get_num_threads();
    int64_t thread = omp_get_thread_num();
    int64_t stop = groups * (thread + 1) / threads * group;
    return {groups * thread / threads * group, std::min(n, stop)};
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
            for (; j + LANES <= K; j += LANES)
                all += load(weight + r * K + j) * load(x + m * K + j);
            y[r][m] = sum(all);
            for (; j < K; j++) y[r][m] += to_float(weight[r * K + j]) * x[m * K + j];
        }
}

// Calls output(m, n, y[m][n]) for R rows of the matrix from n on and M columns from `first` on.
template <int R, int M, class W, class Output>
inline void multiply_rows(const Linear& layer, const float* x, int64_t first, int64_t n, int64_t K,
                          Output& output) {
    float y[R][M];
    tile<R, M>((const W*)layer.weight + n * K, x + first * K, K, y);
    for (int r = 0; r < R; r++) {
        float scale = layer.scale ? layer.scale[n + r] : 1;
        float bias = layer.bias ? layer.bias[n + r] : 0;
        for (int m = 0; m < M; m++) output(first + m, n + r, y[r][m] * scale + bias);
    }
}

// The same for every column, in groups that fit into the registers.
template <int R, class W, class Output>
inline void multiply_all_columns(const Linear& layer, const float* x, int64_t M, int64_t n,
                                 int64_t K, Output& output) {
    int64_t m = 0;
    for (; m + 4 <= M; m += 4) multiply_rows<R, 4, W>(layer, x, m, n, K, output);
    for (; m + 2 <= M; m += 2) multiply_rows<R, 2, W>(layer, x, m, n, K, output);
    for (; m < M; m++) multiply_rows<R, 1, W>(layer, x, m, n, K, output);
}

// y = W x + b: (M, K) -> output(m, n, y[m][n]) for the rows n of N that this thread computes.
// Several rows at a time share the numbers fetched of x; where there is one column, memory is the
// limit, and one row is read to its end.
template <class W, class Output>
void multiply(const Tiles& tiles, const Linear& layer, const float* x, int64_t M, int64_t N,
              int64_t K, Output output) {
    constexpr int R = 6;
    Range mine = thread_range(N, LANES);
    int64_t n = mine.start;
    std::vector<float> rounded;
    if (std::is_same<W, bfloat>::value) {  // a bf16 matrix multiplies bf16 numbers, as in PyTorch
        rounded.resize(M * K);
        for (int64_t i = 0; i < M * K; i++) {
            bfloat narrow;
            round_to(narrow, x[i]);
            rounded[i] = to_float(narrow);
        }
        x = rounded.data();
        auto add_bias = [&](int64_t m, int64_t row, float y) {
            output(m, row, y + (layer.bias ? layer.bias[row] : 0));
        };
        if (tiles.available)
            n = multiply_tiles((const bfloat*)layer.weight, x, M, n, mine.stop, K, add_bias);
    }
    for (; M > 1 && n + R <= mine.stop; n += R)
        multiply_all_columns<R, W>(layer, x, M, n, K, output);
    for (; n < mine.stop; n++) multiply_all_columns<1, W>(layer, x, M, n, K, output);
}

// LayerNorm: (M, C) -> (M, C)
void normalize(const Norm& norm, const float* x, float* y, int64_t M, int64_t C, float eps) {
    for (int64_t m = 0; m < M; m++, x += C, y += C) {
        float mean = 0, variance = 0;
        for (int64_t c = 0; c < C; c++) mean += x[c];
        mean /= C;
        for (int64_t c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean);
        float rstd = 1 / std::sqrt(variance / C + eps);
        for (int64_t c = 0; c < C; c++)
            y[c] = (x[c] - mean) * rstd * norm.weight[c] + (norm.bias ? norm.bias[c] : 0);
    }
}

// As in gelu.py: x / 2 (1 + tanh(inner)) = x sigmoid(2 inner),
// inner = sqrt(2 / pi) (x + 0.044715 x^3).
inline Floats gelu(Floats x) {
    Floats twice_inner = x * (1.59576912f + 0.0713548162f * (x * x));
    return x / (1.0f + exponential(-twice_inner));
}

// One query against the keys of its row: (D,) -> (D,)
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
        for (int64_t d = 0; d < D; d++) y[d] += weight * to_float(values[s * D + d]);
    }
}

// The heads of this thread: it stores the new keys and values, then attends.
template <class K>
void attention(const Model& model, const Tokens& tokens, const Cache& cache, const float* qkv,
               float* heads, float* scores) {
    int64_t C = model.n_embd, D = C / model.n_head;
    Range mine = thread_range(model.n_head);
    for (int64_t h = mine.start; h < mine.stop; h++) {
        auto head_of = [&](void* cached, int64_t m) {  // position 0 in the row of token m
            return (K*)cached + (tokens.rows[m] * model.n_head + h) * tokens.capacity * D;
        };
        for (int64_t m = 0; m < tokens.n_tokens; m++)
            for (int64_t d = 0; d < D; d++) {
                const float* new_key = qkv + m * 3 * C + C + h * D;
                round_to(head_of(cache.keys, m)[tokens.positions[m] * D + d], new_key[d]);
                round_to(head_of(cache.values, m)[tokens.positions[m] * D + d], new_key[C + d]);
            }
        for (int64_t m = 0; m < tokens.n_tokens; m++)
            attend<K>(qkv + m * 3 * C + h * D, head_of(cache.keys, m), head_of(cache.values, m),
                      tokens.positions[m] + 1, D, scores, heads + m * C + h * D);
    }
}

template <class W, class K> void step(const Model& model, const Tokens& tokens, int n_threads) {
    const int64_t M = tokens.n_tokens, C = model.n_embd, F = 4 * C;
    float* x = tokens.x;
    std::vector<float> qkv(M * 3 * C), heads(M * C), wide(M * F);
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<float> normed(M * C), scores(tokens.capacity + LANES);  // each thread its own
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
            Range mine = thread_range(F, LANES);
            for (int64_t m = 0; m < M; m++)
                for (int64_t n = m * F + mine.start; n < m * F + mine.stop; n += LANES)
                    store(&wide[n], gelu(load(&wide[n])));
#pragma omp barrier
            multiply<W>(tiles, block.narrow_proj, wide.data(), M, C, F, add_to_x);
#pragma omp barrier
        }
        normalize(model.final_norm, x, normed.data(), M, C, model.eps);
        const int64_t V = model.vocab_size;
        multiply<W>(tiles, model.lm_head, normed.data(), M, V, C,
                    [&](int64_t m, int64_t n, float y) { tokens.logits[m * V + n] = y; });
    }
}

}  // namespace

#ifdef _OPENMP
extern "C" int has_threads() { return 1; }
#else
extern "C" int has_threads() { return 0; }
#endif
extern "C" void step_fp32(const Model* model, const Tokens* tokens, int n_threads) {
    step<float, float>(*model, *tokens, n_threads);
}
extern "C" void step_bf16(const Model* model, const Tokens* tokens, int n_threads) {
    step<bfloat, bfloat>(*model, *tokens, n_threads);
}
extern "C" void step_int8(const Model* model, const Tokens* tokens, int n_threads) {
    step<int8_t, float>(*model, *tokens, n_threads);
}
