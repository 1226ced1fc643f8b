// Products and transposes of matrices small enough to stay in cache, rows of padded width.

#pragma once
#include <algorithm>

#include "vectors.h"

namespace {

// One factor pair of a product: a element (m, k) at a[m * am + k * ak], b rows of padded width.
template <class T> struct Factors { const T* a; long am, ak; const T* b; long ldb, k0, k1; };

template <class T, int ROWS, int VECS>
inline void tile(const Factors<T>* f, int pairs, long m, long col, T* out, long ldo, const T* base, T scale) {
    typedef typename Simd<T>::V V;
    constexpr int W = Simd<T>::W;
    V acc[ROWS][VECS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECS; v++) acc[r][v] = base ? load(base + (m + r) * ldo + col + v * W) * scale : V{};
    for (; pairs--; f++) {
        const T *a = f->a + m * f->am + f->k0 * f->ak, *b = f->b + f->k0 * f->ldb + col;
        const long am = f->am, ak = f->ak, ldb = f->ldb;
        for (long k = f->k0; k < f->k1; k++, a += ak, b += ldb) {
            V bv[VECS];
            for (int v = 0; v < VECS; v++) bv[v] = load(b + v * W);
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECS; v++) acc[r][v] += a[r * am] * bv[v];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECS; v++) store(out + (m + r) * ldo + col + v * W, acc[r][v]);
}

template <class T, int ROWS>
inline void strip(const Factors<T>* f, int pairs, long m, long cols, T* out, long ldo, const T* base, T scale) {
    constexpr int W = Simd<T>::W;
    long col = 0;
    for (; col + 2 * W <= cols; col += 2 * W) tile<T, ROWS, 2>(f, pairs, m, col, out, ldo, base, scale);
    if (col < cols) tile<T, ROWS, 1>(f, pairs, m, col, out, ldo, base, scale);
}

// What is known to be zero: nothing, out above the diagonal (not computed), a above it, or a below it.
enum class Zero { None, OutAbove, AAbove, ABelow };

// out [rows, cols] = scale * base + sum over pairs of a b; base may be out, or null for zeros. The zeros concern the first
// pair. cols: padded width; base has out's row length.
template <class T>
void product(const Factors<T>* given, int pairs, long rows, long cols, T* out, long ldo, Zero zero = Zero::None,
             const T* base = nullptr, T scale = 1) {
    Factors<T> f[2] = {given[0], given[pairs - 1]};
    for (long m = 0; m < rows;) {
        const long left = rows - m, take = left >= MR ? MR : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const long width = zero == Zero::OutAbove ? std::min(cols, padded<T>(m + take)) : cols;
        if (zero == Zero::AAbove) f[0].k1 = std::min(given[0].k1, m + take);
        if (zero == Zero::ABelow) f[0].k0 = m;
        if (take == MR) strip<T, MR>(f, pairs, m, width, out, ldo, base, scale);
        else if (take == 4) strip<T, 4>(f, pairs, m, width, out, ldo, base, scale);
        else if (take == 2) strip<T, 2>(f, pairs, m, width, out, ldo, base, scale);
        else strip<T, 1>(f, pairs, m, width, out, ldo, base, scale);
        m += take;
    }
}

template <class V, size_t... K> inline void interleave(V a, V b, V& low, V& high, std::index_sequence<K...>) {
    constexpr int W = sizeof...(K);
    low = __builtin_shufflevector(a, b, (K / 2 + (K % 2) * W)...);
    high = __builtin_shufflevector(a, b, (W / 2 + K / 2 + (K % 2) * W)...);
}

// dst [cols, padded rows] = src [rows, padded cols]^T; rows of src up to the next multiple of W must be readable.
template <class T> void transpose(const T* src, long lds, long rows, long cols, T* dst, long ldd) {
    typedef typename Simd<T>::V V;
    constexpr int W = Simd<T>::W;
    for (long i = 0; i < rows; i += W)
        for (long j = 0; j < cols; j += W) {
            V r[W], s[W];
            for (int k = 0; k < W; k++) r[k] = load(src + (i + k) * lds + j);
            for (int half = 1; half < W; half *= 2) {
                for (int k = 0; k < W / 2; k++)
                    interleave(r[k], r[k + W / 2], s[2 * k], s[2 * k + 1], std::make_index_sequence<W>());
                for (int k = 0; k < W; k++) r[k] = s[k];
            }
            for (int k = 0; k < W; k++) store(dst + (j + k) * ldd + i, r[k]);
        }
}

}  // namespace
