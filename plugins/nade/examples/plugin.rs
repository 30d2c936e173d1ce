//! The built-in as a shared library: `cargo build --release --example zoo_nade_plugin`.

zoo_nn::sdk::export_plugin!(zoo_nade::plugins());
