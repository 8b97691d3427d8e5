// Vectors of sixteen floats, and what they are loaded from: fp32, bf16 and int8 numbers.
//
// GCC's and Clang's vector types; the operators +, *, < work lane by lane. With AVX-512 a vector is
// one register, otherwise the compiler splits it.
// Previous: __init__.py.  Next: tiles.h.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;  // floats in a vector
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Bits __attribute__((vector_size(64)));
typedef uint16_t BFloats __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t bfloat;  // bf16: the upper half of a float

template <class Out, class In> inline Out bit_cast(In in) {
    Out out;
    static_assert(sizeof out == sizeof in);
    std::memcpy(&out, &in, sizeof out);
    return out;
}
template <class T> inline T read(const void* address) {  // which need not be aligned
    T value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

inline Floats load(const float* from) { return read<Floats>(from); }
#ifdef __AVX512F__  // g++ takes three times as many instructions for the general form
inline Floats load(const bfloat* from) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(read<__m256i>(from)), 16);
}
inline Floats load(const int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(read<__m128i>(from)));
}
#else
inline Floats load(const bfloat* from) {
    return bit_cast<Floats>(__builtin_convertvector(read<BFloats>(from), Bits) << 16);
}
inline Floats load(const int8_t* from) {
    return __builtin_convertvector(__builtin_convertvector(read<Bytes>(from), Ints), Floats);
}
#endif
inline void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

inline float to_float(float x) { return x; }
inline float to_float(bfloat x) { return bit_cast<float>(uint32_t(x) << 16); }
inline float to_float(int8_t x) { return x; }

inline void round_to(float& to, float x) { to = x; }
inline void round_to(bfloat& to, float x) {  // to the nearest bf16, of two to the even one
    uint32_t bits = bit_cast<uint32_t>(x);
    to = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline float sum(Floats x) {  // in halves: fewer additions that wait for each other
    typedef float Eight __attribute__((vector_size(32)));
    typedef float Four __attribute__((vector_size(16)));
    struct { Eight low, high; } halves = bit_cast<decltype(halves)>(x);
    struct { Four low, high; } quarters = bit_cast<decltype(quarters)>(halves.low + halves.high);
    Four rest = quarters.low + quarters.high;
    return (rest[0] + rest[2]) + (rest[1] + rest[3]);
}

// exp(x) = 2^n exp(r), |r| <= ln 2 / 2, with exp(r) by its series; relative error at most 2e-7.
inline Floats exponential(Floats x) {
    const Floats low = Floats{} - 87.0f, high = Floats{} + 88.0f, shift = Floats{} + 12582912.0f;
    x = x < low ? low : x > high ? high : x;
    Floats shifted = x * 1.44269504f + shift;  // adding 1.5 * 2^23 rounds to a whole number
    Floats n = shifted - shift;
    Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats series = Floats{} + 1.0f / 5040;
    for (float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        series = series * r + term;
    Bits power = (bit_cast<Bits>(shifted) - bit_cast<Bits>(shift) + 127) << 23;
    return series * bit_cast<Floats>(power);
}

}  // namespace
