//! The built-in as a shared library: `cargo build --release --example zoo_gan_plugin`.

zoo_nn::sdk::export_plugin!(zoo_gan::plugins());
