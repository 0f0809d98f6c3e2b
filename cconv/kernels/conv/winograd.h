/* winograd.h: the tile transforms of Winograd convolution for 3x3 kernels. Vector lanes are channels.
 *
 * F(4x4, 3x3) computes a tile of 4x4 outputs from 6x6 inputs with 36 multiplications per channel pair instead of
 * 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015):
 *
 *     Y = A^T [ (G g G^T) . (B^T d B) ] A
 *
 * Here d is the input tile, g the kernel and Y the output tile. The interpolation points are 0, 1, -1, 1/2, -2 and
 * infinity. Their rms error is half that of the usual points 0, 1, -1, 2 and -2, because their powers grow less
 * (compare Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
 * Networks", 2020). Each function below multiplies by one of the matrices and reuses common subexpressions. The 36
 * elements of a transformed tile are called planes: plane xi holds element xi of every tile.
 */
#ifndef CCONV_WINOGRAD_H
#define CCONV_WINOGRAD_H

#include "simd.h"
#include "turn.h"

enum { WINOGRAD_OUT = 4, WINOGRAD_IN = 6, WINOGRAD_PLANES = 36 };

/* Input transform in one dimension, r = B^T d: 6 values to 6. Results are stored `stride` vectors apart. */
INLINE void winograd_bt(vf d0, vf d1, vf d2, vf d3, vf d4, vf d5, vf *r, const int stride)
{
    const vf p = d3 - d1, q = d4 - d2;
    r[0] = (d0 - d2) + (q + (real)1.5 * p);
    r[stride] = (q + p) + (real)1.5 * (d2 + d3);
    r[2 * stride] = (q - p) + (real)1.5 * (d3 - d2);
    r[3 * stride] = q + (real)2 * p;
    r[4 * stride] = q - (real)0.5 * p;
    r[5 * stride] = (d5 - d3) + ((real)1.5 * q - p);
}

/* Output transform in one dimension, y = A^T m: 6 products to 4 outputs, stored `stride` vectors apart. */
INLINE void winograd_at(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5, vf *y, const int stride)
{
    const vf s = m1 + m2, d = m1 - m2;
    y[0] = (m0 + s) + (m3 + m4);
    y[stride] = d + ((real)0.5 * m3 - (real)2 * m4);
    y[2 * stride] = s + ((real)0.25 * m3 + (real)4 * m4);
    y[3 * stride] = (d + m5) + ((real)0.125 * m3 - (real)8 * m4);
}

/* Kernel transform in one dimension, u = G g: 3 taps to 6 values, stored `stride` vectors apart. */
INLINE void winograd_g(vf a, vf b, vf c, vf *u, const int stride)
{
    const vf s = a + c;
    u[0] = a;
    u[stride] = (s + b) * (real)(1. / 3);
    u[2 * stride] = (b - s) * (real)(1. / 3);
    u[3 * stride] = ((real)4 * a + (real)2 * b + c) * (real)(-4. / 15);
    u[4 * stride] = (a - (real)2 * b + (real)4 * c) * (real)(1. / 15);
    u[5 * stride] = c;
}

/* Find the addresses of a window of size x size pixels: p[row * size + column] is the address of pixel
 * (y + row, x + column) of the image, or `zeros` if the pixel lies outside. */
INLINE void winograd_pixels(const real *image, ptrdiff_t height, ptrdiff_t width, ptrdiff_t pixel, ptrdiff_t y,
                            ptrdiff_t x, const int size, const real *zeros, const real **p)
{
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            const int inside = y + i >= 0 && y + i < height && x + j >= 0 && x + j < width;
            p[i * size + j] = inside ? image + ((y + i) * width + x + j) * pixel : zeros;
        }
}

/* Input transform B^T d B of one tile of 6x6 pixels. Pixel (row, column) is at p[row * 6 + column]; `channels`, a
 * multiple of VL, are transformed. Plane xi of the result is at v + xi * plane. Also prefetches the pixels of these
 * rows that the tile after next reads. */
static void winograd_input(const real *const *p, ptrdiff_t channels, ptrdiff_t pixel, real *v, ptrdiff_t plane)
{
    for (ptrdiff_t c = 0; c < channels; c += VL) {
        vf m[36];
        UNROLL for (int i = 0; i < 6; i++)
            UNROLL for (int j = 0; j < 4; j++) __builtin_prefetch(p[i * 6 + 3] + c + (7 + j) * pixel);
        UNROLL for (int j = 0; j < 6; j++)
            winograd_bt(vload(p[j] + c), vload(p[6 + j] + c), vload(p[12 + j] + c), vload(p[18 + j] + c),
                        vload(p[24 + j] + c), vload(p[30 + j] + c), m + j, 6);
        UNROLL for (int i = 0; i < 6; i++) {
            vf o[6];
            winograd_bt(m[i * 6], m[i * 6 + 1], m[i * 6 + 2], m[i * 6 + 3], m[i * 6 + 4], m[i * 6 + 5], o, 1);
            UNROLL for (int j = 0; j < 6; j++) vstore(v + (i * 6 + j) * plane + c, o[j]);
        }
    }
}

/* Epilogue of the convolution: bias, residual and clamp, applied to a tile's outputs before they are stored. */
typedef struct {
    const real *bias;   /* bias of the first channel, or NULL */
    ptrdiff_t residual; /* bytes from an output to the residual that is added to it */
    int add_residual, clamped, stream;
    real low, high;
} winograd_epilogue;

/* Output transform A^T M A of one tile, followed by the epilogue. The products of plane xi are at m + xi * plane.
 * Stores rows x columns (at most 4x4) output pixels of `channels` channels each. */
static void winograd_output(const real *m, ptrdiff_t plane, ptrdiff_t channels, real *y, ptrdiff_t row,
                            ptrdiff_t pixel, int rows, int columns, const winograd_epilogue *e)
{
    for (ptrdiff_t c = 0; c < channels; c += VL) {
        vf a[24], b[16];
        UNROLL for (int j = 0; j < 6; j++)
            winograd_at(vload(m + j * plane + c), vload(m + (6 + j) * plane + c), vload(m + (12 + j) * plane + c),
                        vload(m + (18 + j) * plane + c), vload(m + (24 + j) * plane + c),
                        vload(m + (30 + j) * plane + c), a + j, 6);
        UNROLL for (int i = 0; i < 4; i++)
            winograd_at(a[i * 6], a[i * 6 + 1], a[i * 6 + 2], a[i * 6 + 3], a[i * 6 + 4], a[i * 6 + 5], b + i * 4, 1);
        const vf bias = e->bias ? vload(e->bias + c) : vzero(), low = vset(e->low), high = vset(e->high);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) {
                real *q = y + i * row + j * pixel + c;
                vf value = b[i * 4 + j] + bias;
                if (e->add_residual) value += vload((const real *)((const char *)q + e->residual));
                if (e->clamped) value = vclamp(value, low, high);
                if (e->stream) vstream(q, value);
                else vstore(q, value);
            }
    }
}

/* Kernel transform G g G^T for VL output channels and one input channel. Tap t of the kernels is at g + t * tap; plane
 * xi of the result is stored at u + xi * plane. */
INLINE void winograd_weights(const real *g, ptrdiff_t tap, real *u, ptrdiff_t plane)
{
    vf a[18];
    UNROLL for (int j = 0; j < 3; j++)
        winograd_g(vload(g + j * tap), vload(g + (3 + j) * tap), vload(g + (6 + j) * tap), a + j, 3);
    UNROLL for (int i = 0; i < 6; i++) {
        vf o[6];
        winograd_g(a[i * 3], a[i * 3 + 1], a[i * 3 + 2], o, 1);
        UNROLL for (int j = 0; j < 6; j++) vstore(u + (i * 6 + j) * plane, o[j]);
    }
}

/* Weight gradient, F(3x3, 4x4), with the interpolation points above. The 3x3 outputs are the gradients of the taps, and
 * the 4x4 kernel is a tile of dy:
 *
 *     dg = A3^T [ sum over tiles of (G4 dy G4^T) . (B^T d B) ] A3
 */

/* Transform of dy in one dimension, u = G4 g: 4 values to 6, stored `stride` vectors apart. */
INLINE void winograd_g4(vf a, vf b, vf c, vf d, vf *u, const int stride)
{
    const vf s = a + c, t = b + d;
    u[0] = a;
    u[stride] = (s + t) * (real)(1. / 3);
    u[2 * stride] = (t - s) * (real)(1. / 3);
    u[3 * stride] = ((real)8 * a + (real)4 * b + (real)2 * c + d) * (real)(-2. / 15);
    u[4 * stride] = ((a + (real)4 * c) - ((real)2 * b + (real)8 * d)) * (real)(1. / 15);
    u[5 * stride] = d;
}

/* Inverse transform of the weight gradient in one dimension, y = A3^T m: 6 sums of products to 3 taps. */
INLINE void winograd_at3(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5, vf *y, const int stride)
{
    const vf s = m1 + m2, d = m1 - m2;
    y[0] = (m0 + s) + (m3 + m4);
    y[stride] = d + ((real)0.5 * m3 - (real)2 * m4);
    y[2 * stride] = (s + m5) + ((real)0.25 * m3 + (real)4 * m4);
}

/* Transform G4 dy G4^T of one tile of 4x4 pixels of dy. Pixel (row, column) is at p[row * 4 + column]; `channels`
 * channels are transformed. Each plane is stored in blocks of `columns` channels: channel c goes to block c / columns,
 * which begins at y + (c - c % columns) * tiles. Each tile is one row of a block, `columns` elements wide. In the last
 * block the rows may be narrower. */
static void winograd_gradient(const real *const *p, ptrdiff_t channels, ptrdiff_t pixel, real *y, ptrdiff_t plane,
                              ptrdiff_t columns, ptrdiff_t tiles, ptrdiff_t tile)
{
    for (ptrdiff_t c = 0; c < channels; c += VL) {
        const ptrdiff_t first = c - c % columns, rest = channels - first;
        real *q = y + first * tiles + tile * (rest < columns ? rest : columns) + c % columns;
        vf a[24];
        UNROLL for (int i = 0; i < 4; i++)
            UNROLL for (int j = 0; j < 4; j++) __builtin_prefetch(p[i * 4] + c + (8 + j) * pixel);
        UNROLL for (int j = 0; j < 4; j++)
            winograd_g4(vload(p[j] + c), vload(p[4 + j] + c), vload(p[8 + j] + c), vload(p[12 + j] + c), a + j, 4);
        UNROLL for (int i = 0; i < 6; i++) {
            vf o[6];
            winograd_g4(a[i * 4], a[i * 4 + 1], a[i * 4 + 2], a[i * 4 + 3], o, 1);
            UNROLL for (int j = 0; j < 6; j++) vstore(q + (i * 6 + j) * plane, o[j]);
        }
    }
}

/* Inverse transform of the weight gradient for VL output channels and one input channel: from 36 planes of sums, plane
 * xi at m + xi * plane, to 9 taps g[tap]. */
INLINE void winograd_taps(const real *m, ptrdiff_t plane, vf *g)
{
    vf a[18];
    UNROLL for (int j = 0; j < 6; j++)
        winograd_at3(vload(m + j * plane), vload(m + (6 + j) * plane), vload(m + (12 + j) * plane),
                     vload(m + (18 + j) * plane), vload(m + (24 + j) * plane), vload(m + (30 + j) * plane), a + j, 6);
    UNROLL for (int i = 0; i < 3; i++)
        winograd_at3(a[i * 6], a[i * 6 + 1], a[i * 6 + 2], a[i * 6 + 3], a[i * 6 + 4], a[i * 6 + 5], g + i * 3, 1);
}

/* Call winograd_taps, then transpose and store: tap t of output channel `lane` goes to dw[lane * output + t]. */
static void winograd_store_taps(const real *m, ptrdiff_t plane, real *dw, ptrdiff_t output)
{
    enum { TAPS = 9 };
    vf g[(TAPS + LANES - 1) / LANES * LANES] = {{0}};
    winograd_taps(m, plane, g);
    for (int t = 0; t < TAPS; t += LANES) store_turned(g + t, LANES, TAPS - t, dw + t, output);
}

#endif
