//! Wasmtime's C API as one static library: re-exporting the crate keeps its `extern "C"` functions.
pub use wasmtime_c_api::*;
