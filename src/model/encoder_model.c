/* encoder_model.c: an encoder as a model: what dw_model_open does for a file that only embeds. */
#include <stdio.h>

#include "model/model_internal.h"

dw_status dw_model_open_encoder(dw_model *model, const dw_model_options *options, dw_error *err) {
    dw_model_info *info = &model->info;
    dw_status status = dw_encoder_open(model->gguf, model->device, &model->encoder, err);
    if (status != DW_OK) return status;
    const dw_encoder_hyperparameters *hp = dw_encoder_hyperparameters_view(model->encoder);
    const dw_encoder_weights *weights = dw_encoder_weights_view(model->encoder);
    snprintf(info->architecture, sizeof info->architecture, "bert");
    info->kind = DW_MODEL_ENCODER;
    info->pooling = hp->pooling;
    info->n_layers = hp->n_layers;
    info->n_vocab = hp->n_vocab;
    info->n_embedding = hp->n_embedding;
    info->n_heads = info->n_heads_kv = hp->n_heads;
    info->head_dim = hp->head_dim;
    info->context_train_tokens = hp->context;
    info->context_tokens = options != NULL && options->context_tokens != 0
                               ? (uint32_t)dw_min_u64(options->context_tokens, hp->context)
                               : hp->context;
    info->weights_wrapped_bytes = weights->placed.wrapped_bytes;
    info->weights_copied_bytes = weights->placed.copied_bytes;
    info->weights = "mapped";
    return dw_vocab_create(model->gguf, &model->vocab, err);
}
