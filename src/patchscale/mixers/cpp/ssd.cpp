// The SSD on a CPU, forward and backward: all that belongs to one chunk and one head stays in the processor's cache.
//
// Letters: Q rows of a chunk, P head width, N state width, H heads; i, j rows of a chunk with j <= i. Per head, with c_i
// the running sum of dt A within the chunk, w_j = exp(c_Q - c_j) dt_j, and h the state before the chunk:
//     M_ij = (C_i . B_j) exp(c_i - c_j) dt_j  (+ D for i = j),   y = M x + exp(c) C h^T,   h' = exp(c_Q) h + x^T (w B).
// Decays are taken pairwise, so no exponent is ever positive. Inner widths are padded to whole vectors in scratch memory.
// Work is shared out as tasks of one image and a group of heads; a task walks the sequence alone, so that nothing
// depends on the order in which tasks run. Compiled by patchscale.mixers.native; "Transformers are SSMs", section 6.

#include <cstring>
#include <new>
#include <vector>

#include "products.h"

namespace {

template <class T> struct Call {  // mirrored by patchscale.mixers.native.Call
    int64_t batch, length, heads, width, state, chunk, segment, groups, threads;
    const T *x, *dt, *a, *b, *c, *d, *first, *dy, *dlast;
    T *y, *last, *kept, *dx, *ddt, *da, *db, *dc, *dd, *dfirst;
    int64_t x_image, x_row, dt_image, dt_row, b_image, b_row, c_image, c_row, y_image, y_row, dx_image, dx_row;
};

template <class T> class Arena {  // aligned scratch memory, zeroed once
    std::vector<T*> blocks;

  public:
    T* take(long count) {
        const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        T* block = (T*)::operator new(bytes, std::align_val_t(64));
        std::memset(block, 0, bytes);
        blocks.push_back(block);
        return block;
    }
    ~Arena() {
        for (T* block : blocks) ::operator delete(block, std::align_val_t(64));
    }
};

template <class T> class Task {
    typedef typename Simd<T>::V V;
    typedef typename Simd<T>::I I;
    typedef typename Lanes<T>::Int Int;
    static constexpr int W = Simd<T>::W;
    const Call<T>& call;
    Arena<T> arena;
    const long image, head0, heads, P, N, Q, Pw, Nw, Qw;
    T *b, *c, *bt, *scores, *x, *mix, *fade, *scaled_b, *scaled_c, *y;
    T *dt, *cum, *grow, *tail, *write;  // of one head: dt, c, exp(c), exp(c_Q - c), w
    T decay = 1;
    long start = 0, rows = 0;

  public:
    Task(const Call<T>& call, long image, long head0, long heads)
        : call(call), image(image), head0(head0), heads(heads), P(call.width), N(call.state), Q(call.chunk),
          Pw(padded<T>(P)), Nw(padded<T>(N)), Qw(padded<T>(Q)) {
        b = arena.take(Qw * Nw), c = arena.take(Qw * Nw), bt = arena.take(Nw * Qw), scores = arena.take(Qw * Qw);
        x = arena.take(Qw * Pw), mix = arena.take(Qw * Qw), fade = arena.take(Qw * Qw), y = arena.take(Qw * Pw);
        scaled_b = arena.take(Qw * Nw), scaled_c = arena.take(Qw * Nw);
        dt = arena.take(Qw), cum = arena.take(Qw), grow = arena.take(Qw);
        tail = arena.take(Qw), write = arena.take(Qw);
    }

    void forward() {
        T* states = arena.take(heads * N * Pw);  // h^T of each head
        if (call.first)
            for (long h = 0; h < heads; h++) turn(state_of(call.first, h), states + h * N * Pw);
        for (long k = 0; begin(k); k++) {
            if (call.kept && k % call.segment == 0)
                for (long h = 0; h < heads; h++) turn_back(states + h * N * Pw, kept_of(k, h));
            share();
            for (long h = 0; h < heads; h++) {
                T* state = states + h * N * Pw;
                head(h);
                read(call.x + (head0 + h) * P, call.x_image, call.x_row, P, x, Pw);
                mixing(h);
                const Factors<T> out[2] = {{mix, Qw, 1, x, Pw, 0, rows}, {scaled_c, Nw, 1, state, Pw, 0, N}};
                product(out, 2, rows, Pw, y, Pw, Zero::AAbove);
                put(y, call.y + image * call.y_image + start * call.y_row + (head0 + h) * P, call.y_row);
                const Factors<T> add = {scaled_b, 1, Nw, x, Pw, 0, rows};
                product(&add, 1, N, Pw, state, Pw, Zero::None, state, decay);
            }
        }
        if (call.last)
            for (long h = 0; h < heads; h++) turn_back(states + h * N * Pw, state_of(call.last, h));
    }

    void backward(long group) {
        const long chunks = (call.length + Q - 1) / Q, size = P * Nw;
        T* states = arena.take((call.segment + 1) * heads * size);  // before each chunk of a segment
        T *ends = arena.take(heads * size + (Pw - P) * Nw), *end_t = arena.take(Nw * Pw);
        T *dy = arena.take(Qw * Pw), *xt = arena.take(Pw * Qw), *d_mix = arena.take(Qw * Qw);
        T *d_scores = arena.take(Qw * Qw), *d_b = arena.take(Qw * Nw), *d_c = arena.take(Qw * Nw);
        T *from = arena.take(Qw * Nw);
        T *up = arena.take(Qw), *down = arena.take(Qw), *own = arena.take(Qw);
        for (long h = 0; h < heads; h++) {
            call.da[image * call.heads + head0 + h] = call.dd[image * call.heads + head0 + h] = 0;
            if (call.dlast) fill(state_of(call.dlast, h), ends + h * size);
        }
        for (long first = (chunks - 1) / call.segment * call.segment; first >= 0; first -= call.segment) {
            const long last = std::min(first + call.segment, chunks);
            for (long h = 0; h < heads; h++) {
                const T* from_where = call.kept ? kept_of(first, h) : call.first ? state_of(call.first, h) : nullptr;
                if (from_where) fill(from_where, states + h * size);
                else std::memset(states + h * size, 0, size * sizeof(T));
            }
            for (long k = first; k + 1 < last; k++) {
                begin(k), read(call.b, call.b_image, call.b_row, N, b, Nw);
                for (long h = 0; h < heads; h++) {
                    T *old = states + ((k - first) * heads + h) * size, *next = old + heads * size;
                    head(h), weigh(b, write, scaled_b);
                    read(call.x + (head0 + h) * P, call.x_image, call.x_row, P, x, Pw);
                    const Factors<T> add = {x, 1, Pw, scaled_b, Nw, 0, rows};
                    product(&add, 1, P, Nw, next, Nw, Zero::None, old, decay);
                }
            }
            for (long k = last - 1; k >= first; k--) {
                begin(k), share();
                std::memset(d_scores, 0, Qw * Qw * sizeof(T));
                std::memset(d_b, 0, Qw * Nw * sizeof(T)), std::memset(d_c, 0, Qw * Nw * sizeof(T));
                for (long h = 0; h < heads; h++) {
                    const T* state = states + ((k - first) * heads + h) * size;
                    T* end = ends + h * size;
                    head(h);
                    read(call.x + (head0 + h) * P, call.x_image, call.x_row, P, x, Pw);
                    read(call.dy + (head0 + h) * P, call.y_image, call.y_row, P, dy, Pw);
                    mixing(h);
                    // through M: own_j = sum_i K_ij, up_i and down_j its sums off the diagonal, K = dM * decay * scores
                    transpose(x, Pw, rows, P, xt, Qw);
                    const Factors<T> outer = {dy, Pw, 1, xt, Qw, 0, P};
                    product(&outer, 1, rows, Qw, d_mix, Qw, Zero::OutAbove);
                    call.dd[image * call.heads + head0 + h] += pairs(d_mix, d_scores, up, down, own);
                    // through the states
                    const Factors<T> out_of = {dy, Pw, 1, state, Nw, 0, P};
                    product(&out_of, 1, rows, Nw, from, Nw);
                    for (long i = 0; i < rows; i++)
                        up[i] += grow[i] * gather(from + i * Nw, c + i * Nw, grow[i], d_c + i * Nw);
                    const Factors<T> into = {x, Pw, 1, end, Nw, 0, P};
                    product(&into, 1, rows, Nw, from, Nw);
                    T total = decay * dot(end, state, size);
                    for (long j = 0; j < rows; j++) {
                        const T raw = tail[j] * gather(from + j * Nw, b + j * Nw, write[j], d_b + j * Nw);
                        own[j] += raw, down[j] += dt[j] * raw, total += dt[j] * raw;
                    }
                    transpose(end, Nw, P, N, end_t, Pw);
                    const Factors<T> to_x[2] = {{mix, 1, Qw, dy, Pw, 0, rows}, {scaled_b, Nw, 1, end_t, Pw, 0, N}};
                    product(to_x, 2, rows, Pw, y, Pw, Zero::ABelow);
                    put(y, call.dx + image * call.dx_image + start * call.dx_row + (head0 + h) * P, call.dx_row);
                    const Factors<T> add = {dy, 1, Pw, scaled_c, Nw, 0, rows};
                    product(&add, 1, P, Nw, end, Nw, Zero::None, end, decay);
                    steps(h, up, down, own, total);
                }
                const Factors<T> to_c = {d_scores, Qw, 1, b, Nw, 0, rows}, to_b = {d_scores, 1, Qw, c, Nw, 0, rows};
                product(&to_c, 1, rows, Nw, d_c, Nw, Zero::AAbove, d_c);
                product(&to_b, 1, rows, Nw, d_b, Nw, Zero::ABelow, d_b);
                const long at = ((group * call.batch + image) * call.length + start) * N;
                for (long i = 0; i < rows; i++) {
                    copy(d_b + i * Nw, call.db + at + i * N, N);
                    copy(d_c + i * Nw, call.dc + at + i * N, N);
                }
            }
        }
        if (call.dfirst)
            for (long h = 0; h < heads; h++)
                for (long p = 0; p < P; p++)
                    copy(ends + h * size + p * Nw, state_of(call.dfirst, h) + p * N, N);
    }

  private:
    template <class S> S* state_of(S* states, long h) const { return states + (image * call.heads + head0 + h) * P * N; }
    T* kept_of(long chunk, long h) const {
        const long segments = ((call.length + Q - 1) / Q + call.segment - 1) / call.segment;
        return call.kept + ((image * segments + chunk / call.segment) * call.heads + head0 + h) * P * N;
    }
    void turn(const T* state, T* turned) const {  // [P, N] to [N, padded P]
        for (long p = 0; p < P; p++)
            for (long n = 0; n < N; n++) turned[n * Pw + p] = state[p * N + n];
    }
    void turn_back(const T* turned, T* state) const {
        for (long p = 0; p < P; p++)
            for (long n = 0; n < N; n++) state[p * N + n] = turned[n * Pw + p];
    }
    void fill(const T* state, T* wide) const {  // [P, N] to [P, padded N]
        for (long p = 0; p < P; p++) copy(state + p * N, wide + p * Nw, N);
    }

    bool begin(long chunk) {
        start = chunk * Q;
        rows = std::min(Q, (long)call.length - start);
        return rows > 0;
    }

    // rows of this chunk into scratch, rows beyond the chunk's end zero
    void read(const T* from, long image_stride, long row_stride, long width, T* to, long wide) const {
        from += image * image_stride + start * row_stride;
        for (long i = 0; i < rows; i++) copy(from + i * row_stride, to + i * wide, width);
        if (rows < Q) std::memset(to + rows * wide, 0, (Q - rows) * wide * sizeof(T));
    }
    void put(const T* from, T* to, long row_stride) const {
        for (long i = 0; i < rows; i++) copy(from + i * Pw, to + i * row_stride, P);
    }

    // what all heads of a chunk share: B, C and C B^T
    void share() {
        read(call.b, call.b_image, call.b_row, N, b, Nw);
        read(call.c, call.c_image, call.c_row, N, c, Nw);
        transpose(b, Nw, rows, N, bt, Qw);
        const Factors<T> f = {c, Nw, 1, bt, Qw, 0, N};
        product(&f, 1, rows, Qw, scores, Qw, Zero::OutAbove);
    }

    // dt, its running sum times A, and their exponentials
    void head(long h) {
        const T a = call.a[head0 + h];
        const T* from = call.dt + image * call.dt_image + start * call.dt_row + head0 + h;
        T total = 0;
        for (long i = 0; i < rows; i++) dt[i] = from[i * call.dt_row], cum[i] = total += dt[i] * a;
        for (long i = rows; i < Qw; i++) dt[i] = 0, cum[i] = total;
        for (long i = 0; i < Qw; i += W) {
            store(grow + i, vexp(load(cum + i)));
            store(tail + i, vexp(total - load(cum + i)));
            store(write + i, load(tail + i) * load(dt + i));
        }
        decay = vexp(V{} + total)[0];
    }

    void weigh(const T* from, const T* factor, T* to) const {
        for (long i = 0; i < rows; i++)
            for (long n = 0; n < Nw; n += W) store(to + i * Nw + n, load(from + i * Nw + n) * factor[i]);
    }

    // M and the decays in it, exp(c) C and w B of one head
    void mixing(long h) {
        weigh(c, grow, scaled_c), weigh(b, write, scaled_b);
        const I lane = iota<T>();
        for (long i = 0; i < rows; i++) {
            const T* s = scores + i * Qw;
            for (long j = 0; j <= i; j += W) {
                const I above = lane > (Int)(i - j);
                const V f = vexp(above ? V{} : cum[i] - load(cum + j)), m = load(s + j) * load(dt + j) * f;
                store(fade + i * Qw + j, f), store(mix + i * Qw + j, above ? V{} : m);
            }
            if (call.d) mix[i * Qw + i] += call.d[head0 + h];
        }
    }

    // From dM: adds to the shared gradient of C B^T, gives the sums of K, returns the trace of dM.
    T pairs(const T* d_mix, T* d_scores, T* up, T* down, T* own) const {
        const I lane = iota<T>();
        T trace = 0;
        std::memset(down, 0, Qw * sizeof(T)), std::memset(own, 0, Qw * sizeof(T));
        for (long i = 0; i < rows; i++) {
            V row = {};
            for (long j = 0; j <= i; j += W) {
                const Int here = i - j;
                const I above = lane > here;
                const V dt_j = load(dt + j), de = above ? V{} : load(d_mix + i * Qw + j) * load(fade + i * Qw + j);
                const V k = above ? V{} : de * load(scores + i * Qw + j);
                const V off = (lane == here ? V{} : k) * dt_j;
                store(d_scores + i * Qw + j, load(d_scores + i * Qw + j) + de * dt_j);
                store(own + j, load(own + j) + k), store(down + j, load(down + j) + off);
                row += off;
            }
            up[i] = sum<T>(row), trace += d_mix[i * Qw + i];
        }
        return trace;
    }

    T dot(const T* u, const T* v, long count) const {
        V total = {};
        for (long i = 0; i < count; i += W) total += load(u + i) * load(v + i);
        return sum<T>(total);
    }
    // to += factor * from; returns from . with
    T gather(const T* from, const T* with, T factor, T* to) const {
        V total = {};
        for (long n = 0; n < Nw; n += W) {
            const V f = load(from + n);
            store(to + n, load(to + n) + f * factor), total += f * load(with + n);
        }
        return sum<T>(total);
    }

    // gradients of dt and A from those of the running sums
    void steps(long h, const T* up, const T* down, const T* own, T total) {
        const T a = call.a[head0 + h];
        T* out = call.ddt + (image * call.length + start) * call.heads + head0 + h;
        T log = total, d_a = 0;
        for (long i = rows - 1; i >= 0; i--) {
            log += up[i] - down[i], d_a += log * dt[i];
            out[i * call.heads] = own[i] + log * a;
        }
        call.da[image * call.heads + head0 + h] += d_a;
    }
};

template <class T> void run(const Call<T>& call, bool back) {
    const long tasks = call.batch * call.groups;
#pragma omp parallel for schedule(dynamic) num_threads(call.threads) if (tasks > 1 && call.threads > 1)
    for (long t = 0; t < tasks; t++) {
        const long group = t % call.groups;
        const long from = call.heads * group / call.groups, to = call.heads * (group + 1) / call.groups;
        Task<T> task(call, t / call.groups, from, to - from);
        back ? task.backward(group) : task.forward();
    }
}

}  // namespace

extern "C" {
void ssd_forward_float(const Call<float>* call) { run(*call, false); }
void ssd_backward_float(const Call<float>* call) { run(*call, true); }
void ssd_forward_double(const Call<double>* call) { run(*call, false); }
void ssd_backward_double(const Call<double>* call) { run(*call, true); }
}
