/* RWKV-7's forward over rows of tokens, and its head: what model/rwkv7.py does, in one call.

   Every number of a row is computed by the same instructions in the same order, whatever runs beside it, so that
   no row depends on its batch mates, nor on which thread computes it. forward.inc holds the code; it is compiled once
   for each width of vectors that the processor's family may have, and the caller says which to take. */

#include <stdint.h>
#include <string.h>

#include "team.h"

#define PANEL 64 /* columns of a matrix that lie together */
#define HEAD 64  /* width of a head */
#define TILE 6   /* rows that are multiplied at once, at most */
#define AHEAD 32 /* rows of a panel that are fetched before they are needed */
#define BLOCK 96 /* tokens that go through the layers at once, at most: 16 tiles */
#define SHARED (1 << 18) /* numbers of a matrix, by tiles of rows, for which a team is worth asking */
#define SHARED_HEADS 8   /* heads, by tokens, likewise */
#define LAYER_NORM_EPS 1e-5f
#define GROUP_NORM_EPS (HEAD * 1e-5f)
#define DECAY_SCALE 0.60653065971263342f /* exp(-1/2) */
#define SMALLEST_NORM 1e-12f

/* A matrix [in, out] of 16-bit numbers as panels [ceil(out / PANEL)][in][PANEL], filled up with zeros. */
typedef struct {
    const uint16_t *panels;
    int64_t in, out;
} Matrix;

typedef struct {
    Matrix down, up;
} Lora;

/* Vectors are [width]; mix is [6, width] in the order r, w, k, v, a, g. Layer 0 has no v_gate. */
typedef struct {
    const float *ln1_weight, *ln1_bias, *ln2_weight, *ln2_bias, *mix, *w_bias, *a_bias, *v_bias;
    const float *k_k, *k_a, *r_k, *norm_weight, *norm_bias, *ffn_mix;
    Matrix receptance, key, value, output, ffn_key, ffn_value;
    Lora w, a, v, g;
} Layer;

/* The embedding [vocabulary, width] is normalised already. */
typedef struct {
    const float *embedding, *out_weight, *out_bias;
    const Layer *layers;
    Matrix head;
    int64_t depth, width, vocabulary;
} Model;

/* The pools [layers, slots, ...] that hold every row's state. */
typedef struct {
    float *wkv, *att_shift, *ffn_shift;
    int64_t slots;
} State;

/* Where a block of tokens is worked on, and who helps; every array is [BLOCK, its width rounded up to PANEL]. */
typedef struct Scratch {
    float *x, *y, *first_value, *mixed, *r, *k, *v, *decay, *rate, *gate, *out, *low, *inner;
    Team *team;
} Scratch;

/* Tokens of one row that lie together in a block. */
typedef struct {
    int64_t slot, begin, count;
} Run;

/* x [n, stride] times a matrix into out [n, out_stride]. */
typedef struct {
    int64_t n, stride, out_stride;
    const float *x;
    const Matrix *matrix;
    float *out;
} Product;

/* The recurrence of runs of tokens, with the states of a layer. */
typedef struct {
    const Layer *layer;
    const struct Scratch *at;
    const Run *runs;
    int64_t width;
    float *wkv;
} Recurrence;

typedef enum { NONE, TANH, SIGMOID } Activation;

static int64_t panels(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

#define CODE "forward.inc"
#include "widths.inc"
