/* update.h: one line for each rule by which an optimizer moves a weight; update_loops.pyx compiles the table.
 *
 *     F(name, slots, prepare, update)
 *
 * `slots` is the number of arrays that the rule keeps for each weight.
 *
 * `prepare` runs once a step, in double. It reads the options o[0], o[1], ... in the order in which the optimizer gives
 * them, the learning rate `rate` and the number `t` of the update, 1 for the first. It writes what does not depend on the
 * element to c[0], c[1], ...
 *
 * `update` runs for each element, in one pass over memory. `w` is the weight, `s0`, `s1`, `s2` are the slots; all are read
 * and written. `g` is the gradient, already multiplied by the factor that clips it. The c of `prepare` come as `c0`, `c1`, ...
 * rounded to `real`.
 *
 * The compiler may turn a product and a sum into one FMA. Which ones it takes follows from how a line is written, so a line
 * that is rewritten may change the last bit of a result.
 */
#ifndef CCONV_UPDATE_H
#define CCONV_UPDATE_H

#include "simd.h"

#ifdef CCONV_FLOAT64
#define SQRT sqrt
#else
#define SQRT sqrtf
#endif

enum { MOST_SLOTS = 3, MOST_CONSTANTS = 8 };

/* Stochastic gradient descent, as torch.optim.SGD with dampening 0. o: weight decay, momentum. */
#define SGD_CONSTANTS (c[0] = rate, c[1] = o[0], c[2] = o[1])
/* Adam (Kingma and Ba, 2015, algorithm 1) and AdamW (Loshchilov and Hutter, 2019, algorithm 2), as torch.optim has them.
 * o: beta1, beta2, eps, weight decay. 1 - beta is taken in double: float 1 - 0.999f is off by 5e-5 of itself. */
#define ADAM_CONSTANTS                                                                                              \
    (c[0] = rate / (1 - pow(o[0], t)), c[1] = 1 / sqrt(1 - pow(o[1], t)), c[2] = o[1], c[3] = 1 - o[0],             \
     c[4] = 1 - o[1], c[5] = o[2])
#define ADAM_UPDATE                                                                                                 \
    s0 += c3 * (g - s0);                                                                                            \
    s1 = c2 * s1 + c4 * g * g;                                                                                      \
    w = w - c0 * s0 / (SQRT(s1) * c1 + c5);
/* RMSprop (Hinton, 2012) as torch.optim.RMSprop. o: alpha, eps, weight decay, momentum. Slots: mean square, mean if
 * centered, momentum. */
#define RMSPROP_CONSTANTS                                                                                           \
    (c[0] = rate, c[1] = o[0], c[2] = 1 - o[0], c[3] = o[1], c[4] = o[2], c[5] = o[3])
#define RMSPROP_UPDATE                                                                                              \
    g += c4 * w;                                                                                                    \
    s0 = c1 * s0 + c2 * g * g;
#define RMSPROP_CENTERED_UPDATE                                                                                     \
    RMSPROP_UPDATE                                                                                                  \
    s1 += c2 * (g - s1);
/* A variance that rounding has made negative. */
#define POSITIVE(v) ((v) > 0 ? (v) : 0)

#define UPDATE_RULES(F)                                                                                             \
    F(sgd, 0, SGD_CONSTANTS, w -= c0 * (g + c1 * w);)                                                               \
    F(sgd_momentum, 1, SGD_CONSTANTS, s0 = c2 * s0 + (g + c1 * w); w -= c0 * s0;)                                   \
    F(sgd_nesterov, 1, SGD_CONSTANTS, g += c1 * w; s0 = c2 * s0 + g; w -= c0 * (g + c2 * s0);)                      \
    F(adam, 2, (ADAM_CONSTANTS, c[6] = o[3]), g += c6 * w; ADAM_UPDATE)                                             \
    F(adamw, 2, (ADAM_CONSTANTS, c[6] = rate * o[3]), w -= c6 * w; ADAM_UPDATE)                                     \
    F(rmsprop, 1, RMSPROP_CONSTANTS, RMSPROP_UPDATE w -= c0 * (g / (SQRT(s0) + c3));)                               \
    F(rmsprop_momentum, 2, RMSPROP_CONSTANTS, RMSPROP_UPDATE                                                        \
      s1 = c5 * s1 + g / (SQRT(s0) + c3); w -= c0 * s1;)                                                            \
    F(rmsprop_centered, 2, RMSPROP_CONSTANTS, RMSPROP_CENTERED_UPDATE                                               \
      w -= c0 * (g / (SQRT(POSITIVE(s0 - s1 * s1)) + c3));)                                                                   \
    F(rmsprop_centered_momentum, 3, RMSPROP_CONSTANTS, RMSPROP_CENTERED_UPDATE                                      \
      s2 = c5 * s2 + g / (SQRT(POSITIVE(s0 - s1 * s1)) + c3); w -= c0 * s2;)

typedef void (*update_prepare)(const double *o, double rate, double t, double *c);
typedef void (*update_loop)(const double *constants, double factor, const real *gradient, real *weight,
                            real *const *slots, ptrdiff_t n);

/* Unused constants and slots cost nothing: the compiler drops what a rule does not name. */
#define DEFINE_UPDATE(name, slots, prepare, update)                                                                 \
    static void prepare_##name(const double *o, double rate, double t, double *c)                                   \
    {                                                                                                               \
        (void)o, (void)t;                                                                                           \
        prepare;                                                                                                    \
    }                                                                                                               \
    static void update_##name(const double *constants, double factor, const real *restrict gradient,                \
                              real *restrict weight, real *const *slot, ptrdiff_t n)                                \
    {                                                                                                               \
        const real scale = (real)factor;                                                                            \
        const real c0 = (real)constants[0], c1 = (real)constants[1], c2 = (real)constants[2];                       \
        const real c3 = (real)constants[3], c4 = (real)constants[4], c5 = (real)constants[5];                       \
        const real c6 = (real)constants[6], c7 = (real)constants[7];                                                \
        real *restrict first = slots > 0 ? slot[0] : weight, *restrict second = slots > 1 ? slot[1] : weight;       \
        real *restrict third = slots > 2 ? slot[2] : weight;                                                        \
        (void)c0, (void)c1, (void)c2, (void)c3, (void)c4, (void)c5, (void)c6, (void)c7;                             \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                         \
            real g = scale * gradient[i], w = weight[i], s0 = 0, s1 = 0, s2 = 0;                                    \
            if (slots > 0) s0 = first[i];                                                                           \
            if (slots > 1) s1 = second[i];                                                                          \
            if (slots > 2) s2 = third[i];                                                                           \
            update;                                                                                                 \
            weight[i] = w;                                                                                          \
            if (slots > 0) first[i] = s0;                                                                           \
            if (slots > 1) second[i] = s1;                                                                          \
            if (slots > 2) third[i] = s2;                                                                           \
        }                                                                                                           \
    }
UPDATE_RULES(DEFINE_UPDATE)

typedef struct {
    const char *name;
    int slots;
    update_prepare prepare;
    update_loop loop;
} update_rule;

#define UPDATE_ROW(name, slots, prepare, update) {#name, slots, prepare_##name, update_##name},
static const update_rule update_rules[] = {UPDATE_RULES(UPDATE_ROW)};
static const int update_count = sizeof update_rules / sizeof *update_rules;

#endif
