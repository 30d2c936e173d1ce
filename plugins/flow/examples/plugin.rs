//! The built-ins as a shared library: `cargo build --release --example zoo_flow_plugin`.

zoo_nn::sdk::export_plugin!(zoo_flow::plugins());
