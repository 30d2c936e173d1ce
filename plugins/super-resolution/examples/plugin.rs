//! The built-in as a shared library: `cargo build --release --example zoo_super_resolution_plugin`.

zoo_nn::sdk::export_plugin!(zoo_super_resolution::plugins());
