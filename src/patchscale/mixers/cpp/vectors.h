// Vectors of float or double as wide as the processor's registers, and exp of numbers that are not positive.

#pragma once
#include <cmath>
#include <cstdint>
#include <utility>

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
template <class T> inline void copy(const T* from, T* to, long count) {  // for rows: short, so without a call
    long i = 0;
    for (; i + Simd<T>::W <= count; i += Simd<T>::W) store(to + i, load(from + i));
    for (; i < count; i++) to[i] = from[i];
}
template <int BY, class V, size_t... K> inline V rotate(V v, std::index_sequence<K...>) {
    return __builtin_shufflevector(v, v, ((K + BY) % sizeof...(K))...);
}
template <class T, int HALF = Simd<T>::W / 2> inline T sum(typename Simd<T>::V v) {  // in a fixed order
    v += rotate<HALF>(v, std::make_index_sequence<Simd<T>::W>());
    if constexpr (HALF > 1) return sum<T, HALF / 2>(v);
    else return v[0];
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
