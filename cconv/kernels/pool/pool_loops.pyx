"""Loops of pooling; pool.pyx describes the tables that they walk."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

from cconv.kernels.core.simd cimport (
    VL, ceil_div, load_part, real, store_part, vf, vload, vload_n, vset, vstore, vstore_n, vzero,
)
from cconv.kernels.pool.pool cimport BLOCK, PART, global_arguments, sliding_arguments, winner_arguments

cdef extern from *:
    """
    #include <float.h>
    /* What a window without any tap yields, the same as in onnxruntime. */
    #ifdef CCONV_FLOAT64
    #define LOWEST (-DBL_MAX)
    #else
    #define LOWEST (-FLT_MAX)
    #endif

    /* best = max(best, x), where = at for the lanes that changed. The first of equals stays; a NaN is taken and
       kept, so that it shows in the output, as in PyTorch. */
    INLINE void keep_max(vf x, lane at, vf *best, vi *where)
    {
        vi take = (x > *best) | (x != x);
        *best = vselect(take, x, *best);
        *where = (at & take) | (*where & ~take);
    }
    INLINE vi lanes_of(lane at) { return (vi){0} + at; }
    INLINE vf bits_of(vi v) { return (vf)v; }

    /* value where winner == at, else 0. The winners come through vload, as bits. */
    INLINE vf if_winner(vf winner, lane at, vf value) { return (vf)(((vi)winner == at) & (vi)value); }
    """
    ctypedef int lane "lane"     # integer as wide as `real`: int32, in the float64 build int64
    ctypedef int vi
    const real LOWEST
    void keep_max(vf x, lane at, vf* best, vi* where) nogil
    vi lanes_of(lane at) nogil
    vf bits_of(vi v) nogil
    vf if_winner(vf winner, lane at, vf value) nogil

# Target pixels t.., which are (d, h, w..stop-1) of their image; the source image begins at pixel `source`.
ctypedef void (*row_body)(const sliding_arguments* s, char** operand, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h,
                          Py_ssize_t w, Py_ssize_t stop, Py_ssize_t t) noexcept nogil


cdef inline void each_row(row_body row, const void* arguments, char** operand, Py_ssize_t i) noexcept nogil:
    """Rows of target pixels of chunk i."""
    cdef const sliding_arguments* s = <const sliding_arguments*>arguments
    cdef Py_ssize_t t = i * s.per_chunk
    cdef Py_ssize_t end = min(t + s.per_chunk, s.pixels)
    cdef Py_ssize_t w = t % s.target_size[2]
    cdef Py_ssize_t h = t // s.target_size[2] % s.target_size[1]
    cdef Py_ssize_t d = t // (s.target_size[2] * s.target_size[1]) % s.target_size[0]
    cdef Py_ssize_t image = t // s.target_pixels, stop
    while t < end:
        stop = min(s.target_size[2], w + end - t)
        row(s, operand, image * s.source_pixels, d, h, w, stop, t)
        t += stop - w
        w = 0
        h += 1
        if h == s.target_size[1]:
            h = 0
            d += 1
            if d == s.target_size[0]:
                d = 0
                image += 1


cdef inline const real* divisors(const sliding_arguments* s, int axis) noexcept nogil:
    return <const real*>s.divisor[axis]


cdef void max_pool_row(const sliding_arguments* s, char** operand, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                       Py_ssize_t stop, Py_ssize_t t) noexcept nogil:
    # Sizes are copied to variables: a store to y might change *s for all that the compiler knows, and it would load them
    # again in the inner loop.
    cdef Py_ssize_t channels = s.channels
    cdef const real* image = <real*>operand[0] + source * channels
    cdef real* y = <real*>operand[1] + t * channels
    cdef real* winner = <real*>operand[2]
    cdef const Py_ssize_t* first = s.first[2]
    cdef const Py_ssize_t* count = s.count[2]
    cdef Py_ssize_t deep = s.count[0][d], high = s.count[1][h], wide
    cdef Py_ssize_t line = (s.first[0][d] * s.source_size[1] + s.first[1][h]) * s.source_size[2]
    cdef Py_ssize_t across = s.step[2], down = s.step[1] * s.source_size[2]
    cdef Py_ssize_t deeper = s.step[0] * s.source_size[1] * s.source_size[2] - high * down
    cdef Py_ssize_t begin, at, pixel, n, v, i, j, k
    cdef const real* x
    cdef bint floored = s.floored
    cdef vf floor = vset(<real>s.floor), best
    cdef vi where
    if winner != NULL:
        winner += t * channels
    for w in range(w, stop):
        wide = count[w]
        begin = line + first[w]
        v = 0
        while v < channels:
            n = min(<Py_ssize_t>VL, channels - v)
            if deep > 0 and high > 0 and wide > 0:
                best = floor
                where = lanes_of(<lane>-1 if floored else <lane>begin)
            else:
                best = vset(LOWEST)
                where = lanes_of(-1)
            at = begin
            for i in range(deep):
                for j in range(high):
                    pixel = at
                    x = image + at * channels + v
                    for k in range(wide):
                        keep_max(load_part(x, n), <lane>pixel, &best, &where)
                        pixel += across
                        x += across * channels
                    at += down
                at += deeper
            store_part(y + v, best, n)
            if winner != NULL:
                store_part(winner + v, bits_of(where), n)
            v += VL
        y += channels
        if winner != NULL:
            winner += channels


cdef void max_pool_gradient_row(const sliding_arguments* s, char** operand, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                                Py_ssize_t stop, Py_ssize_t t) noexcept nogil:
    cdef Py_ssize_t deep = s.count[0][d], high = s.count[1][h], wide
    cdef Py_ssize_t line = (s.first[0][d] * s.source_size[1] + s.first[1][h]) * s.source_size[2]
    cdef const real* dy = <const real*>operand[0] + (source + line) * s.channels
    cdef const real* winner = <const real*>operand[1] + (source + line) * s.channels
    cdef real* dx = <real*>operand[2] + t * s.channels
    cdef Py_ssize_t here = (d * s.target_size[1] + h) * s.target_size[2]
    cdef Py_ssize_t at, n, v, i, j, k
    cdef vf total
    if s.single:
        pass_on(s, dy, winner, dx, <lane>here, w, stop)
        return
    for w in range(w, stop):
        wide = s.count[2][w]
        for v in range(ceil_div(s.channels, VL)):
            n = min(<Py_ssize_t>VL, s.channels - v * VL)
            total = vzero()
            for i in range(deep):
                for j in range(high):
                    at = (i * s.step[0] * s.source_size[1] + j * s.step[1]) * s.source_size[2]
                    at = (at + s.first[2][w]) * s.channels + v * VL
                    for k in range(wide):
                        total = total + if_winner(load_part(winner + at, n), <lane>(here + w), load_part(dy + at, n))
                        at += s.step[2] * s.channels
            store_part(dx + v * VL, total, n)
        dx += s.channels


cdef void pass_on(const sliding_arguments* s, const real* dy, const real* winner, real* dx, lane here, Py_ssize_t w,
                  Py_ssize_t stop) noexcept nogil:
    """A row of pixels that are in one window each: nothing is summed. Windows side by side are the most common
    ones, and this takes less than half as long as the loops over taps."""
    cdef const Py_ssize_t* first = s.first[2]
    cdef Py_ssize_t channels = s.channels, at, v, n
    for w in range(w, stop):
        at = first[w] * channels
        v = 0
        while v + VL <= channels:
            vstore(dx + v, if_winner(vload(winner + at + v), here + <lane>w, vload(dy + at + v)))
            v += VL
        if v < channels:
            n = channels - v
            vstore_n(dx + v, if_winner(vload_n(winner + at + v, n), here + <lane>w, vload_n(dy + at + v, n)), n)
        dx += channels


cdef void average_pool_row(const sliding_arguments* s, char** operand, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                           Py_ssize_t stop, Py_ssize_t t) noexcept nogil:
    cdef real* y = <real*>operand[1] + t * s.channels
    cdef Py_ssize_t deep = s.count[0][d], high = s.count[1][h], wide
    cdef Py_ssize_t line = (s.first[0][d] * s.source_size[1] + s.first[1][h]) * s.source_size[2]
    cdef const real* image = <const real*>operand[0] + (source + line) * s.channels
    cdef real outer = divisors(s, 0)[d] * divisors(s, 1)[h]
    cdef Py_ssize_t at, n, v, i, j, k
    cdef const real* x
    cdef vf total, divisor
    for w in range(w, stop):
        wide = s.count[2][w]
        divisor = vset(outer * divisors(s, 2)[w])
        for v in range(ceil_div(s.channels, VL)):
            n = min(<Py_ssize_t>VL, s.channels - v * VL)
            total = vzero()
            for i in range(deep):
                for j in range(high):
                    at = (i * s.step[0] * s.source_size[1] + j * s.step[1]) * s.source_size[2]
                    x = image + (at + s.first[2][w]) * s.channels + v * VL
                    for k in range(wide):
                        total = total + load_part(x, n)
                        x += s.step[2] * s.channels
            store_part(y + v * VL, total / divisor, n)
        y += s.channels


cdef void average_pool_gradient_row(const sliding_arguments* s, char** operand, Py_ssize_t source, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                                    Py_ssize_t stop, Py_ssize_t t) noexcept nogil:
    cdef real* dx = <real*>operand[1] + t * s.channels
    cdef Py_ssize_t i, j, k, od, oh, ow
    cdef const real* dy
    cdef real outer
    memset(dx, 0, (stop - w) * s.channels * sizeof(real))
    for w in range(w, stop):
        for i in range(s.count[0][d]):
            od = s.first[0][d] + i * s.step[0]
            for j in range(s.count[1][h]):
                oh = s.first[1][h] + j * s.step[1]
                outer = divisors(s, 0)[od] * divisors(s, 1)[oh]
                for k in range(s.count[2][w]):
                    ow = s.first[2][w] + k * s.step[2]
                    dy = <const real*>operand[0] + s.channels * (
                        source + (od * s.source_size[1] + oh) * s.source_size[2] + ow)
                    add_scaled(s, dx, dy, outer * divisors(s, 2)[ow])
        dx += s.channels


cdef inline void add_scaled(const sliding_arguments* s, real* dx, const real* dy, real factor) noexcept nogil:
    """dx += dy * factor, for the channels of a pixel."""
    cdef Py_ssize_t v, n
    for v in range(ceil_div(s.channels, VL)):
        n = min(<Py_ssize_t>VL, s.channels - v * VL)
        store_part(dx + v * VL, load_part(dx + v * VL, n) + load_part(dy + v * VL, n) * vset(factor), n)


cdef void max_pool(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(max_pool_row, arguments, operand, i)


cdef void max_pool_gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(max_pool_gradient_row, arguments, operand, i)


cdef void average_pool(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(average_pool_row, arguments, operand, i)


cdef void average_pool_gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    each_row(average_pool_gradient_row, arguments, operand, i)


cdef void winner_index(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const winner_arguments* s = <const winner_arguments*>arguments
    cdef const lane* winner = <const lane*>operand[0]
    cdef int64_t* index = <int64_t*>operand[1]
    cdef Py_ssize_t pixel, c, place, rest, image
    for pixel in range(i * s.per_chunk, min((i + 1) * s.per_chunk, s.pixels)):
        image = pixel // s.window_count
        for c in range(s.channels):
            place = winner[pixel * s.channels + c]
            if s.column_major and place >= 0:
                rest = place // s.size[2]
                place = place % s.size[2] * s.size[1] + rest % s.size[1]
                place = place * s.size[0] + rest // s.size[1]
            index[pixel * s.channels + c] = (image * s.channels + c) * s.pixel_count + place


cdef void global_average(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const global_arguments* s = <const global_arguments*>arguments
    cdef Py_ssize_t image = i // s.blocks, begin = i % s.blocks * BLOCK
    cdef Py_ssize_t n = min(<Py_ssize_t>BLOCK, s.channels - begin)
    cdef double* total = <double*>scratch
    cdef real* part = <real*>(total + BLOCK)
    cdef const real* x = <const real*>operand[0] + image * s.pixels * s.channels + begin
    cdef real* y = <real*>operand[1] + image * s.channels + begin
    cdef Py_ssize_t group, pixel, c
    memset(total, 0, n * sizeof(double))
    for group in range((s.pixels + PART - 1) // PART):
        memset(part, 0, n * sizeof(real))
        for pixel in range(min(<Py_ssize_t>PART, s.pixels - group * PART)):
            for c in range(n):
                part[c] += x[c]
            x += s.channels
        for c in range(n):
            total[c] += part[c]
    for c in range(n):
        y[c] = <real>(total[c] / s.pixels)


cdef void global_average_gradient(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    cdef const global_arguments* s = <const global_arguments*>arguments
    cdef Py_ssize_t image = i // s.ranges, begin = i % s.ranges * s.per_chunk
    cdef const real* dy = <const real*>operand[0] + image * s.channels
    cdef real* dx = <real*>operand[1] + (image * s.pixels + begin) * s.channels
    cdef real scale = <real>1 / <real>s.pixels
    cdef Py_ssize_t pixel, c
    for pixel in range(min(s.per_chunk, s.pixels - begin)):
        for c in range(s.channels):
            dx[c] = dy[c] * scale
        dx += s.channels



LOOPS = {
    "max_pool": <uintptr_t>max_pool,
    "max_pool_gradient": <uintptr_t>max_pool_gradient,
    "average_pool": <uintptr_t>average_pool,
    "average_pool_gradient": <uintptr_t>average_pool_gradient,
    "winner_index": <uintptr_t>winner_index,
    "global_average": <uintptr_t>global_average,
    "global_average_gradient": <uintptr_t>global_average_gradient,
}
