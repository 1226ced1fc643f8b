// What surrounds the products of a block, a row at a time: causal convolution with SiLU, gated norm, SwiGLU.
//
// Arrays are [images, rows, channels] with adjacent channels; *_image and *_row are strides in elements. K taps of the
// convolution, the last one for the present row. Compiled by patchscale.mixers.native_build.

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace {

template <class T> inline T exp_of(T x) { return std::exp(x); }

// One vector's worth of channels, or one channel where the rest of a row is shorter.
template <class T> struct Wide {
    typedef typename Simd<T>::V V;
    static constexpr int W = Simd<T>::W;
    static V get(const T* p) { return load(p); }
    static void put(T* p, V v) { store(p, v); }
    static V decay(V x) { return vexp(x); }
    static T total(V v) { return sum<T>(v); }
};
template <class T> struct Single {
    typedef T V;
    static constexpr int W = 1;
    static V get(const T* p) { return *p; }
    static void put(T* p, V v) { *p = v; }
    static V decay(V x) { return exp_of(x); }
    static T total(V v) { return v; }
};

template <class L> inline typename L::V sigmoid(typename L::V x) {
    const typename L::V e = L::decay(x < 0 ? x : -x);
    return (x < 0 ? e : e - e + 1) / (1 + e);
}
// derivative of x sigmoid(x)
template <class L> inline typename L::V silu_slope(typename L::V x, typename L::V s) { return s * (1 + x * (1 - s)); }

// Calls f(lanes, channel) for all channels of [from, to).
template <class T, class F> inline void channels(long from, long to, F f) {
    for (; from + Wide<T>::W <= to; from += Wide<T>::W) f(Wide<T>(), from);
    for (; from < to; from++) f(Single<T>(), from);
}

struct Strides { long image, row; };

// act = silu(pre), pre = bias + sum_k taps[k] x[row + k - K + 1]; `halo` rows of x lie before its first row.
template <class T>
void conv_forward(long images, long rows, long width, long taps, long halo, const T* x, Strides xs, const T* weight,
                  const T* bias, T* pre, T* act, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long at = 0; at < images * rows; at++) {
        const long image = at / rows, row = at % rows;
        const T* here = x + image * xs.image + (row + halo - taps + 1) * xs.row;
        const long first = std::max(0L, taps - 1 - halo - row);
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            auto p = L::get(bias + c);
            for (long k = first; k < taps; k++) p += L::get(weight + k * width + c) * L::get(here + k * xs.row + c);
            L::put(pre + at * width + c, p), L::put(act + at * width + c, p * sigmoid<L>(p));
        });
    }
}

// d_pre [images, rows + K - 1, width]: its last K - 1 rows come from what follows, the others are made here.
template <class T>
void conv_backward(long images, long rows, long width, long taps, long halo, const T* d_act, const T* pre, const T* x,
                   Strides xs, const T* weight, T* d_pre, T* dx, Strides ds, T* d_weight, T* d_bias, long threads) {
    constexpr long BLOCK = 64;  // channels of a thread's turn: sums over rows never cross threads
    const long blocks = (width + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long block = 0; block < blocks; block++) {
        const long from = block * BLOCK, to = std::min(width, from + BLOCK);
        for (long image = 0; image < images; image++) {
            T* d = d_pre + image * (rows + taps - 1) * width;
            for (long row = rows - 1; row >= 0; row--) {
                const T* here = x + image * xs.image + (row + halo - taps + 1) * xs.row;
                const long at = (image * rows + row) * width, first = std::max(0L, taps - 1 - halo - row);
                channels<T>(from, to, [&](auto lanes, long c) {
                    typedef decltype(lanes) L;
                    const auto p = L::get(pre + at + c), g = L::get(d_act + at + c) * silu_slope<L>(p, sigmoid<L>(p));
                    L::put(d + row * width + c, g), L::put(d_bias + c, L::get(d_bias + c) + g);
                    auto into = g * L::get(weight + (taps - 1) * width + c);
                    for (long k = 1; k < taps; k++)
                        into += L::get(d + (row + k) * width + c) * L::get(weight + (taps - 1 - k) * width + c);
                    L::put(dx + image * ds.image + row * ds.row + c, into);
                    for (long k = first; k < taps; k++) {
                        T* sum = d_weight + k * width + c;
                        L::put(sum, L::get(sum) + g * L::get(here + k * xs.row + c));
                    }
                });
            }
        }
    }
}

// g = y silu(z), factor = 1 / sqrt(mean(g^2) + eps) per row; y and g are contiguous.
template <class T>
void gate_forward(long images, long rows, long width, const T* y, const T* z, Strides zs, T eps, T* g, T* factor,
                  long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long at = 0; at < images * rows; at++) {
        const T* zr = z + at / rows * zs.image + at % rows * zs.row;
        T total = 0;
        typename Simd<T>::V wide = {};
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            const auto v = L::get(zr + c), out = L::get(y + at * width + c) * v * sigmoid<L>(v);
            L::put(g + at * width + c, out);
            if constexpr (L::W > 1) wide += out * out;
            else total += out * out;
        });
        factor[at] = 1 / std::sqrt((total + sum<T>(wide)) / width + eps);
    }
}

// From dg, the gradient of g times factor: with g, y, z as above, d_y (over dg) and d_z.
template <class T>
void gate_backward(long images, long rows, long width, T* dg, const T* y, const T* z, Strides zs, const T* g,
                   const T* factor, T* dz, Strides ds, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long at = 0; at < images * rows; at++) {
        const long image = at / rows, row = at % rows, first = at * width;
        const T *zr = z + image * zs.image + row * zs.row, *yr = y + first, *gr = g + first;
        T *dzr = dz + image * ds.image + row * ds.row, *dgr = dg + first, inner = 0;
        typename Simd<T>::V wide = {};
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            const auto product = L::get(gr + c) * L::get(dgr + c);
            if constexpr (L::W > 1) wide += product;
            else inner += product;
        });
        inner = (inner + sum<T>(wide)) / width * factor[at] * factor[at];
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            const auto v = L::get(zr + c), s = sigmoid<L>(v), d = L::get(dgr + c) - L::get(gr + c) * inner;
            L::put(dzr + c, d * L::get(yr + c) * silu_slope<L>(v, s)), L::put(dgr + c, d * v * s);
        });
    }
}

// h [rows, 2 width] = (u, v); act = silu(u) v.
template <class T> void swiglu_forward(long rows, long width, const T* h, T* act, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++)
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            const auto u = L::get(h + 2 * row * width + c), v = L::get(h + (2 * row + 1) * width + c);
            L::put(act + row * width + c, u * sigmoid<L>(u) * v);
        });
}

// h becomes its gradient.
template <class T> void swiglu_backward(long rows, long width, const T* d_act, T* h, long threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++)
        channels<T>(0, width, [&](auto lanes, long c) {
            typedef decltype(lanes) L;
            T *first = h + 2 * row * width + c, *second = first + width;
            const auto u = L::get(first), s = sigmoid<L>(u), d = L::get(d_act + row * width + c);
            L::put(first, d * L::get(second) * silu_slope<L>(u, s)), L::put(second, d * u * s);
        });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                                  \
    void conv_forward_##NAME(long images, long rows, long width, long taps, long halo, const T* x, long xi, long xr,     \
                             const T* weight, const T* bias, T* pre, T* act, long threads) {                             \
        conv_forward(images, rows, width, taps, halo, x, {xi, xr}, weight, bias, pre, act, threads);                     \
    }                                                                                                                    \
    void conv_backward_##NAME(long images, long rows, long width, long taps, long halo, const T* d_act, const T* pre,    \
                              const T* x, long xi, long xr, const T* weight, T* d_pre, T* dx, long di, long dr,          \
                              T* d_weight, T* d_bias, long threads) {                                                    \
        conv_backward(images, rows, width, taps, halo, d_act, pre, x, {xi, xr}, weight, d_pre, dx, {di, dr}, d_weight,   \
                      d_bias, threads);                                                                                  \
    }                                                                                                                    \
    void gate_forward_##NAME(long images, long rows, long width, const T* y, const T* z, long zi, long zr, double eps,   \
                             T* g, T* factor, long threads) {                                                            \
        gate_forward<T>(images, rows, width, y, z, {zi, zr}, eps, g, factor, threads);                                   \
    }                                                                                                                    \
    void gate_backward_##NAME(long images, long rows, long width, T* dg, const T* y, const T* z, long zi, long zr,       \
                              const T* g, const T* factor, T* dz, long di, long dr, long threads) {                      \
        gate_backward(images, rows, width, dg, y, z, {zi, zr}, g, factor, dz, {di, dr}, threads);                        \
    }                                                                                                                    \
    void swiglu_forward_##NAME(long rows, long width, const T* h, T* act, long threads) {                                \
        swiglu_forward(rows, width, h, act, threads);                                                                    \
    }                                                                                                                    \
    void swiglu_backward_##NAME(long rows, long width, const T* d_act, T* h, long threads) {                             \
        swiglu_backward(rows, width, d_act, h, threads);                                                                 \
    }

extern "C" {
EXPORT(float, float)
EXPORT(double, double)
}
