//! The built-ins as a shared library: `cargo build --release --example zoo_pixelrnn_plugin`.

zoo_nn::sdk::export_plugin!(zoo_pixelrnn::plugins());
