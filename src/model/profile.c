/* profile.c: under which conditions the bits of a model's results repeat (model.h, dw_model_profile). */
#include <stdio.h>
#include <string.h>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "model/model_internal.h"

/* "AVX2+FMA+...": the instruction sets that ggml's CPU kernels were built for and use. */
static void instruction_sets(char *out, size_t size) {
    ggml_backend_reg_t reg = ggml_backend_cpu_reg();
    ggml_backend_get_features_t features = (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features");
    size_t length = 0;
    out[0] = 0;
    if (features == NULL) return;
    for (const struct ggml_backend_feature *feature = features(reg); feature->name != NULL; feature++) {
        if (strcmp(feature->value, "0") == 0) continue;
        int written = snprintf(out + length, size - length, "%s%s", length == 0 ? "" : "+", feature->name);
        if (written < 0 || (size_t)written >= size - length) return;
        length += (size_t)written;
    }
}

void dw_model_profile(const dw_model *model, char out[DW_PROFILE_BYTES]) {
    char sets[160], threads[16] = "any";
    const dw_device_info *device = dw_device_info_view(model->device);
    if (device->kind == DW_DEVICE_CPU) instruction_sets(sets, sizeof sets);
    else snprintf(sets, sizeof sets, "%.60s", device->description);
    if (!model->bits.attention_by_rows) snprintf(threads, sizeof threads, "%u", dw_device_threads(model->device));
    snprintf(out, DW_PROFILE_BYTES, "build=%s-%.12s;isa=%s;device=%s;threads=%s;kv=%s;weights=%s;chunk=%u/%u", ggml_version(), ggml_commit(), sets,
             device->backend, threads, dw_kv_type_name(model->info.kv_type), model->info.weights, DW_PREFILL_CHUNK_TOKENS, DW_PREFILL_CHUNK_TOKENS_MIN);
}
