//! The built-in as a shared library: `cargo build --release --example zoo_autoencoder_plugin`.

zoo_nn::sdk::export_plugin!(zoo_autoencoder::plugins());
