// Vectors of float or double as wide as the processor's registers, and exp of numbers that are not positive.

#pragma once
#include <cmath>
#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64, MR = 8;
#elif defined(__AVX__)
constexpr int BYTES = 32, MR = 4;
#else
constexpr int BYTES = 16, MR = 4;
#endif

template <class T> struct Lanes;
template <> struct Lanes<float> { typedef int32_t Int; };
template <> struct Lanes<double> { typedef int64_t Int; };
template <class T> struct Simd {
    static constexpr int W = BYTES / sizeof(T);
    typedef T V __attribute__((vector_size(BYTES)));
    typedef T U __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
    typedef typename Lanes<T>::Int I __attribute__((vector_size(BYTES)));
};

template <class T> inline typename Simd<T>::V load(const T* p) { return *(const typename Simd<T>::U*)p; }
template <class T> inline void store(T* p, typename Simd<T>::V v) { *(typename Simd<T>::U*)p = v; }
template <class T> inline T sum(typename Simd<T>::V v) {
    T s = 0;
    for (int i = 0; i < Simd<T>::W; i++) s += v[i];
    return s;
}
template <class T> inline typename Simd<T>::I iota() {
    typename Simd<T>::I v;
    for (int i = 0; i < Simd<T>::W; i++) v[i] = i;
    return v;
}
template <class T> long padded(long n) { return (n + Simd<T>::W - 1) / Simd<T>::W * Simd<T>::W; }

inline Simd<double>::V vexp(Simd<double>::V x) {
    for (int i = 0; i < Simd<double>::W; i++) x[i] = std::exp(x[i]);
    return x;
}
// exp for x <= 0, relative error about 1e-7; NaN stays NaN
inline Simd<float>::V vexp(Simd<float>::V x) {
    typedef Simd<float>::I I;
    x = x < -87.0f ? Simd<float>::V{} - 87.0f : x;
    Simd<float>::V shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    Simd<float>::V r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Simd<float>::V p = r * (1.0f / 720) + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    I power = ((I)shifted - 0x4B400000 + 127) << 23;
    return p * (Simd<float>::V)power;
}

}  // namespace
