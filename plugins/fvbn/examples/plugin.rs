//! The built-in as a shared library: `cargo build --release --example zoo_fvbn_plugin`.

zoo_nn::sdk::export_plugin!(zoo_fvbn::plugins());
