/* fits.c: does a session of a checkpoint belong to a model that is open here? */
#include <inttypes.h>
#include <string.h>

#include "checkpoint/drift.h"

/* Enough digits of a hash to tell two apart and to find a file by. */
static const char *short_hash(const dw_hash *hash, char out[DW_HASH_HEX_BYTES]) {
    dw_hash_hex(hash, out);
    out[12] = '\0';
    return out;
}

static dw_status check_hash(const char *what, const dw_hash *theirs, const dw_hash *ours, dw_error *err) {
    char their_text[DW_HASH_HEX_BYTES], our_text[DW_HASH_HEX_BYTES];
    if (dw_hash_equal(theirs, ours)) return DW_OK;
    return dw_fail(err, DW_E_MISMATCH, "%s differ: the checkpoint has %s, this model %s", what,
                   short_hash(theirs, their_text), short_hash(ours, our_text));
}

static dw_status fits_geometry(const dw_checkpoint_session *session, const dw_model_info *info, dw_error *err) {
    if (session->n_layers != info->n_layers || session->n_heads_kv != info->n_heads_kv ||
        session->head_dim != info->head_dim)
        return dw_fail(err, DW_E_MISMATCH,
                       "geometry differs: the checkpoint has %" PRIu32 " layers of %" PRIu32 "x%" PRIu32
                       ", this model %" PRIu32 " of %" PRIu32 "x%" PRIu32,
                       session->n_layers, session->n_heads_kv, session->head_dim, info->n_layers, info->n_heads_kv,
                       info->head_dim);
    if (session->kv_type != info->kv_type)
        return dw_fail(err, DW_E_MISMATCH,
                       "KV rows differ: the checkpoint has %s, this model %s: open it with that type (--kv)",
                       dw_kv_type_name(session->kv_type), dw_kv_type_name(info->kv_type));
    if (session->n_tokens > info->context_tokens)
        return dw_fail(err, DW_E_MISMATCH,
                       "%" PRIu32 " tokens do not fit the model's context of %" PRIu32
                       " here: open it with a longer one",
                       session->n_tokens, info->context_tokens);
    if (session->n_logits != 0 && session->n_logits != info->n_vocab)
        return dw_fail(err, DW_E_MISMATCH, "%" PRIu32 " logits for a vocabulary of %" PRIu32, session->n_logits,
                       info->n_vocab);
    for (uint32_t i = 0; i < session->n_tokens; i++) {
        if (session->tokens[i] < 0 || (uint32_t)session->tokens[i] >= info->n_vocab)
            return dw_fail(err, DW_E_MISMATCH, "token %" PRIu32 " is %" PRId32 ", outside the vocabulary of %" PRIu32,
                           i, session->tokens[i], info->n_vocab);
    }
    return DW_OK;
}

dw_status dw_checkpoint_session_fits(const dw_checkpoint_session *session, dw_model *model, bool *exact,
                                     dw_error *err) {
    dw_model_fingerprint ours;
    *exact = false;
    dw_status status = dw_model_fingerprint_of(model, session->fingerprint_kind, &ours, err);
    if (status != DW_OK) return status;
    status = check_hash("tokenizers", &session->model.tokenizer, &ours.tokenizer, err);
    if (status == DW_OK) status = check_hash("weights", &session->model.weights, &ours.weights, err);
    if (status == DW_OK)
        status = check_hash("hyperparameters", &session->model.hyperparameters, &ours.hyperparameters, err);
    if (status == DW_OK) status = fits_geometry(session, dw_model_info_view(model), err);
    if (status != DW_OK) return dw_error_prefix(err, status, "session.%" PRIu32, session->handle);
    char profile[DW_PROFILE_BYTES] = "";
    dw_model_profile(model, profile);
    *exact = !session->fast && strcmp(profile, session->profile) == 0;
    return DW_OK;
}
