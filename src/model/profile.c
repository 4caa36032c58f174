/* profile.c: under which conditions the bits of a model's results repeat (model.h, dw_model_profile). */
#include <stdio.h>
#include <string.h>

#include "ggml.h"
#include "model/model_internal.h"

void dw_model_profile(const dw_model *model, char out[DW_PROFILE_BYTES]) {
    char sets[160], threads[16] = "any";
    const dw_device_info *device = dw_device_info_view(model->device);
    if (device->kind == DW_DEVICE_CPU) dw_device_features(sets, sizeof sets);
    else snprintf(sets, sizeof sets, "%.60s", device->description);
    if (!model->bits.attention_by_rows) snprintf(threads, sizeof threads, "%u", dw_device_threads(model->device));
    snprintf(out, DW_PROFILE_BYTES, "build=%s-%.12s;isa=%s;device=%s;threads=%s;kv=%s;weights=%s;chunk=%u/%u",
             ggml_version(), ggml_commit(), sets, device->backend, threads, dw_kv_type_name(model->info.kv_type),
             model->info.weights, DW_PREFILL_CHUNK_TOKENS, DW_PREFILL_CHUNK_TOKENS_MIN);
}
