# Copies a strip (the piece of an input that a block of outputs reads, see strip.pxd) to a thread's buffer.

from cconv.kernels.conv.strip cimport Axis, Strip
from cconv.kernels.core.simd cimport real
from cconv.kernels.core.tile cimport split_pixels, zero_pixels


cdef inline Py_ssize_t first_inside(Py_ssize_t start, Py_ssize_t step) noexcept nogil:
    """The smallest i >= 0 with start + i * step >= 0."""
    return 0 if start >= 0 else (-start + step - 1) // step


cdef inline Py_ssize_t end_inside(Py_ssize_t start, Py_ssize_t step, Py_ssize_t size, Py_ssize_t count) noexcept nogil:
    """Number of i < count with start + i * step < size, at least 0."""
    if start >= size:
        return 0
    return min(count, (size - start + step - 1) // step)


cdef inline void load_strip(
    const Strip* s, const real* x, real* buffer, Py_ssize_t image, Py_ssize_t images, Py_ssize_t depth,
    Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns, Py_ssize_t channel,
    Py_ssize_t channels
) noexcept nogil:
    """Copy the input pixels and zero padding that a block of outputs reads to the buffer.

    The block begins at output (image, depth, row, column). Channels channel..channel+channels-1 are copied.
    """
    cdef const Axis* d = &s.axis[0]
    cdef const Axis* h = &s.axis[1]
    cdef const Axis* w = &s.axis[2]
    cdef Py_ssize_t n, plane, r, z, y, lo, hi, begin, end, c, count
    cdef Py_ssize_t needed_rows = (rows - 1) * h.strip_step + h.span
    cdef Py_ssize_t needed_columns = (columns - 1) * w.strip_step + w.span
    cdef Py_ssize_t x0 = column * w.step - w.pad
    cdef const real* source
    cdef real* target
    lo = min(first_inside(x0, w.load_step), needed_columns)
    hi = max(lo, end_inside(x0, w.load_step, w.input, needed_columns))
    for n in range(images):
        for plane in range(s.plane_count):
            z = depth * d.step - d.pad + s.planes[plane]
            for r in range(needed_rows):
                y = row * h.step - h.pad + r * h.load_step
                target = buffer + ((n * s.plane_count + plane) * s.rows + r) * s.columns * s.pixel_stride
                begin = end = needed_columns
                if 0 <= z < d.input and 0 <= y < h.input:
                    begin, end = lo, hi
                    source = x + s.input_stride * (
                        (((image + n) * d.input + z) * h.input + y) * w.input + x0 + lo * w.load_step) + channel
                    split_pixels(source, w.load_step * s.input_stride, target + lo * s.pixel_stride, s.pixel_stride,
                                 hi - lo, channels, s.panel, s.panel_size)
                c = 0
                while c < channels:
                    count = min(s.panel, channels - c)
                    zero_pixels(target, s.pixel_stride, begin, count)
                    zero_pixels(target + end * s.pixel_stride, s.pixel_stride, needed_columns - end, count)
                    target += s.panel_size
                    c += count
