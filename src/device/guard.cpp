// guard.cpp: where ggml's exceptions end. See guard.h.
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "base/log.h"
#include "device/guard.h"
#include "ggml-backend-impl.h"

namespace {

// The status of what is being thrown; called in a handler.
dw_status status_of_exception(dw_error *err) noexcept {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        return dw_fail(err, DW_E_NO_MEMORY, "ggml has no memory");
    } catch (const std::exception &e) {
        return dw_fail(err, DW_E_DEVICE, "ggml: %s", e.what());
    } catch (...) {
        return dw_fail(err, DW_E_DEVICE, "ggml threw something without a text");
    }
}

// Calls a function that answers with a status.
template <typename Call> dw_status guard_status(dw_error *err, Call call) noexcept {
    try {
        return call();
    } catch (...) {
        return status_of_exception(err);
    }
}

// Calls a function that answers with a value; `otherwise` when it throws, which is logged.
template <typename Value, typename Call> Value guard_value(const char *what, Value otherwise, Call call) noexcept {
    try {
        return call();
    } catch (...) {
        dw_error err = {};
        (void)status_of_exception(&err);
        dw_log(DW_LOG_ERROR, "ggml", "call=%s error=\"%s\"", what, err.text);
        return otherwise;
    }
}

template <typename Call> void guard_nothing(const char *what, Call call) noexcept {
    (void)guard_value(what, false, [&] {
        call();
        return true;
    });
}

// A buffer over memory of ours. A failed copy has no way back through ggml's interface but as an exception, which the
// guard around the copy catches.
struct over {
    const dw_guard_memory *memory;
    void *context, *base;
};

struct copy_failed : std::exception {
    const char *what() const noexcept override { return "a copy to or from the device failed"; }
};

over *over_of(ggml_backend_buffer_t buffer) { return static_cast<over *>(buffer->context); }

void must(dw_status status) {
    if (status != DW_OK) throw copy_failed{};
}

void over_free(ggml_backend_buffer_t buffer) {
    over *o = over_of(buffer);
    o->memory->release(o->context);
    delete o;
}

void *over_base(ggml_backend_buffer_t buffer) { return over_of(buffer)->base; }

void over_memset(ggml_backend_buffer_t buffer, ggml_tensor *tensor, uint8_t value, size_t offset, size_t size) {
    over *o = over_of(buffer);
    must(o->memory->fill(o->context, static_cast<char *>(tensor->data) + offset, value, size));
}

void over_set(ggml_backend_buffer_t buffer, ggml_tensor *tensor, const void *data, size_t offset, size_t size) {
    over *o = over_of(buffer);
    must(o->memory->write(o->context, static_cast<char *>(tensor->data) + offset, data, size));
}

void over_get(ggml_backend_buffer_t buffer, const ggml_tensor *tensor, void *data, size_t offset, size_t size) {
    over *o = over_of(buffer);
    must(o->memory->read(o->context, data, static_cast<const char *>(tensor->data) + offset, size));
}

void over_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    over *o = over_of(buffer);
    must(o->memory->fill(o->context, o->base, value, buffer->size));
}

ggml_backend_buffer_i over_interface() {
    ggml_backend_buffer_i i = {};
    i.free_buffer = over_free;
    i.get_base = over_base;
    i.memset_tensor = over_memset;
    i.set_tensor = over_set;
    i.get_tensor = over_get;
    i.clear = over_clear;
    return i;
}

} // namespace

// --- what there is ---------------------------------------------------------------------------------------------

ggml_backend_reg_t dw_guard_registry(ggml_backend_reg_t (*get)(void)) {
    return guard_value("registry", ggml_backend_reg_t(nullptr), [&] { return get(); });
}

size_t dw_guard_device_count(ggml_backend_reg_t registry) {
    return guard_value("device_count", size_t(0), [&] { return ggml_backend_reg_dev_count(registry); });
}

ggml_backend_dev_t dw_guard_device_at(ggml_backend_reg_t registry, size_t index) {
    return guard_value("device_at", ggml_backend_dev_t(nullptr),
                       [&] { return ggml_backend_reg_dev_get(registry, index); });
}

dw_status dw_guard_describe(ggml_backend_dev_t device, dw_guard_facts *out, dw_error *err) {
    *out = dw_guard_facts{};
    return guard_status(err, [&] {
        out->type = ggml_backend_dev_type(device);
        (void)std::snprintf(out->description, sizeof out->description, "%s", ggml_backend_dev_description(device));
        (void)std::snprintf(out->backend, sizeof out->backend, "%s",
                            ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)));
        out->alignment_bytes = ggml_backend_buft_get_alignment(ggml_backend_dev_buffer_type(device));
        ggml_backend_dev_memory(device, &out->memory_free_bytes, &out->memory_bytes);
        return DW_OK;
    });
}

ggml_backend_buffer_type_t *dw_guard_extra_types(ggml_backend_dev_t device) {
    return guard_value(
        "extra_types", static_cast<ggml_backend_buffer_type_t *>(nullptr), [&]() -> ggml_backend_buffer_type_t * {
            void *list = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device),
                                                           "ggml_backend_dev_get_extra_bufts");
            return list == nullptr ? nullptr : reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(list)(device);
        });
}

void dw_guard_features(ggml_backend_reg_t (*get)(void), char *out, size_t size) {
    size_t length = 0;
    out[0] = 0;
    guard_nothing("features", [&] {
        ggml_backend_reg_t registry = get();
        void *address = ggml_backend_reg_get_proc_address(registry, "ggml_backend_get_features");
        if (address == nullptr) return;
        const ggml_backend_feature *feature = reinterpret_cast<ggml_backend_get_features_t>(address)(registry);
        for (; feature->name != nullptr; feature++) {
            if (std::strcmp(feature->value, "0") == 0) continue;
            int written = std::snprintf(out + length, size - length, "%s%s", length == 0 ? "" : "+", feature->name);
            if (written < 0 || static_cast<size_t>(written) >= size - length) return;
            length += static_cast<size_t>(written);
        }
    });
}

// --- a device --------------------------------------------------------------------------------------------------

dw_status dw_guard_open(ggml_backend_dev_t device, ggml_backend_t *out, dw_error *err) {
    *out = nullptr;
    return guard_status(err, [&] {
        *out = ggml_backend_dev_init(device, nullptr);
        return *out != nullptr ? DW_OK : dw_fail(err, DW_E_DEVICE, "the backend does not start");
    });
}

void dw_guard_close(ggml_backend_t backend) {
    guard_nothing("close", [&] { ggml_backend_free(backend); });
}

bool dw_guard_supports(ggml_backend_dev_t device, const struct ggml_tensor *node) {
    return guard_value("supports", false, [&] { return ggml_backend_dev_supports_op(device, node); });
}

dw_status dw_guard_compute(ggml_backend_t backend, struct ggml_cgraph *graph, dw_error *err) {
    return guard_status(err, [&] {
        enum ggml_status status = ggml_backend_graph_compute(backend, graph);
        if (status == GGML_STATUS_SUCCESS) return DW_OK;
        if (status == GGML_STATUS_ABORTED) return dw_fail(err, DW_E_CANCELLED, "given up");
        if (status == GGML_STATUS_ALLOC_FAILED)
            return dw_fail(err, DW_E_NO_MEMORY, "the device has no memory for a graph");
        return dw_fail(err, DW_E_DEVICE, "%s", ggml_status_to_string(status));
    });
}

// --- buffers ---------------------------------------------------------------------------------------------------

ggml_backend_buffer_type_t dw_guard_buffer_type(ggml_backend_dev_t device) {
    return guard_value("buffer_type", ggml_backend_buffer_type_t(nullptr),
                       [&] { return ggml_backend_dev_buffer_type(device); });
}

dw_status dw_guard_allocate(ggml_backend_buffer_type_t type, size_t size, ggml_backend_buffer_t *out, dw_error *err) {
    *out = nullptr;
    return guard_status(err, [&] {
        if (type != nullptr) *out = ggml_backend_buft_alloc_buffer(type, size);
        return *out != nullptr ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu bytes", size);
    });
}

ggml_backend_buffer_t dw_guard_import(ggml_backend_dev_t device, void *address, size_t size) {
    // ggml's public function would crash where the backend has none.
    if (device->iface.buffer_from_host_ptr == nullptr) return nullptr;
    return guard_value("import", ggml_backend_buffer_t(nullptr),
                       [&] { return device->iface.buffer_from_host_ptr(device, address, size, size); });
}

dw_status dw_guard_over(ggml_backend_buffer_type_t type, void *base, size_t size, const dw_guard_memory *memory,
                        void *context, ggml_backend_buffer_t *out, dw_error *err) {
    *out = nullptr;
    over *o = new (std::nothrow) over{memory, context, base};
    dw_status status = o == nullptr ? dw_fail(err, DW_E_NO_MEMORY, "no memory for a buffer") : guard_status(err, [&] {
        *out = ggml_backend_buffer_init(type, over_interface(), o, size);
        return *out != nullptr ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for a buffer");
    });
    if (status != DW_OK) {
        memory->release(context);
        delete o;
    }
    return status;
}

void dw_guard_free(ggml_backend_buffer_t buffer) {
    guard_nothing("free", [&] { ggml_backend_buffer_free(buffer); });
}

size_t dw_guard_bytes_of(ggml_backend_buffer_type_t type, const struct ggml_tensor *tensor) {
    return guard_value("bytes_of", SIZE_MAX, [&] { return ggml_backend_buft_get_alloc_size(type, tensor); });
}

dw_status dw_guard_place(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, void *address, dw_error *err) {
    return guard_status(err, [&] {
        bool placed = ggml_backend_tensor_alloc(buffer, tensor, address) == GGML_STATUS_SUCCESS;
        return placed ? DW_OK : dw_fail(err, DW_E_DEVICE, "tensor %s cannot be placed", tensor->name);
    });
}

dw_status dw_guard_write(struct ggml_tensor *tensor, const void *data, size_t offset, size_t size) {
    return guard_status(nullptr, [&] {
        ggml_backend_tensor_set(tensor, data, offset, size);
        return DW_OK;
    });
}

dw_status dw_guard_read(const struct ggml_tensor *tensor, void *data, size_t offset, size_t size) {
    return guard_status(nullptr, [&] {
        ggml_backend_tensor_get(tensor, data, offset, size);
        return DW_OK;
    });
}

// --- memory of graphs ------------------------------------------------------------------------------------------

ggml_gallocr_t dw_guard_allocator_create(ggml_backend_t backend) {
    return guard_value("allocator_create", ggml_gallocr_t(nullptr),
                       [&] { return ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend)); });
}

void dw_guard_allocator_destroy(ggml_gallocr_t allocator) {
    if (allocator != nullptr) guard_nothing("allocator_destroy", [&] { ggml_gallocr_free(allocator); });
}

dw_status dw_guard_allocator_place(ggml_gallocr_t allocator, struct ggml_cgraph *graph, dw_error *err) {
    return guard_status(err, [&] {
        return ggml_gallocr_alloc_graph(allocator, graph)
                   ? DW_OK
                   : dw_fail(err, DW_E_NO_MEMORY, "the device has no memory for a graph");
    });
}
