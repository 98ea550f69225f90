/* The wave generator, codec/wavegen.py, of one run of frames. Time goes down the rows and channels lie together, so
   that every convolution is a product of rows, each computed by the same instructions wherever it is. */

#include <stdint.h>
#include <string.h>

#include "team.h"

#define HALO 27   /* rows of zeros before and after: what the widest convolution reaches, dilated */
#define CELLS 24576 /* numbers that go through a residual unit at once, about, so that they stay in the cache */
#define MOST_RATE 16

/* Weights as panels of 64, 32 or 16 columns, the widest first, each [taps][in][columns]; `out` is a multiple of 16. */
typedef struct {
    const float *panels, *bias;
    int64_t taps, in, out;
} Convolution;

/* x + sin(alpha x)^2 / alpha, by channel. */
typedef struct {
    const float *alpha, *inverse;
} Snake;

typedef struct {
    Snake before, between;
    Convolution mix, project;
    int64_t dilation;
} Unit;

/* A transposed convolution is one convolution for each of its `rate` phases; `first` is its first tap's row. */
typedef struct {
    Snake before;
    Convolution phases[MOST_RATE];
    int64_t first[MOST_RATE];
    int64_t rate;
    Unit units[3];
} Stage;

typedef struct {
    Convolution begin, end; /* of the last, column 0 counts */
    Snake before_end;
    const Stage *stages;
    int64_t depth;
} Generator;

/* here, there: rows of any stage with HALO rows on both sides; active, mixed: those of a chunk, of any width, for each
   member of the team, `seat` numbers apart. */
typedef struct {
    float *here, *there, *active, *mixed;
    int64_t seat;
    Team *team;
} Room;

/* Rows x [n, channels] become out, chunk by chunk of `most` rows, by `what`. */
typedef struct {
    const void *what;
    const float *x;
    int64_t n, channels, most;
    const Room *room;
    float *out;
} Pass;

/* Rows at once. */
static int64_t chunk(int64_t channels) { return CELLS / channels < 64 ? 64 : CELLS / channels; }

static void run(Work work, const void *what, const float *x, int64_t n, int64_t channels, const Room *room, float *out) {
    Pass pass = {what, x, n, channels, chunk(channels), room, out};
    team_run(room->team, work, &pass, (n + pass.most - 1) / pass.most);
}

/* How many rows from t on are in a pass's chunk. */
static int64_t rows_of(const Pass *pass, int64_t t) { return pass->n - t < pass->most ? pass->n - t : pass->most; }

#define CODE "waves.inc"
#include "widths.inc"
