/* model_internal.h: a model from inside, for this room and for the engine, which evaluates with it. */
#ifndef DW_MODEL_MODEL_INTERNAL_H
#define DW_MODEL_MODEL_INTERNAL_H

#include "model/graph/graph.h"
#include "model/model.h"
#include "model/session/session_internal.h"
#include "model/weights/weights.h"
#include "os/os.h"

/* Logits of at most so many rows are held at a time (32 x 262,144 floats = 32 MiB). */
enum { DW_HEAD_ROWS_MAX = 32 };

struct dw_model {
    dw_model_info info;
    dw_device *device;
    dw_gguf *gguf;
    dw_vocab *vocab;
    const dw_family *family;
    dw_hyperparameters hp;
    dw_weights weights;
    dw_bits bits;
    dw_encoder *encoder;     /* NULL of a decoder; an encoder has neither family, weights here, decoder nor pool */
    dw_session_pool *pool;   /* retained; NULL: none */
    /* The evaluating thread's. */
    dw_decoder *decoder;
    dw_sampler *sampler;
    float *logits;           /* [logits_rows, n_vocab] for results that nobody gave memory for */
    uint32_t logits_rows;
    float *hidden;           /* [hidden_rows, n_embedding] */
    uint32_t hidden_rows;
    /* Once asked for, under the lock. */
    dw_os_mutex *lock;
    bool has_fingerprint[2]; /* by kind */
    dw_model_fingerprint fingerprints[2];
};

/* Room for n rows of `width` values in the model's logits or hidden rows, kept for later. The evaluating thread's; what lies there may
 * move. */
dw_status dw_model_room(float **memory, uint32_t *have, uint32_t n, uint32_t width, dw_error *err) DW_MUST_USE;

/* encoder_model.c: the part of dw_model_open that is an encoder's: weights, graph, and what the model says about itself. */
dw_status dw_model_open_encoder(dw_model *model, const dw_model_options *options, dw_error *err) DW_MUST_USE;

/* bits_find.c: finds out what bits depend on here and fills model->bits; with the pool attached and the decoder ready. */
dw_status dw_bits_find(dw_model *model, dw_error *err) DW_MUST_USE;
/* bits_note.c. The path is "" where no note can be kept. */
enum { DW_BITS_NOTE_PATH_BYTES = 768 };
void dw_bits_note_path(const dw_model *model, char out[DW_BITS_NOTE_PATH_BYTES]);
bool dw_bits_read_note(const char *path, dw_bits *bits);
void dw_bits_write_note(const char *path, const dw_bits *bits);

#endif
