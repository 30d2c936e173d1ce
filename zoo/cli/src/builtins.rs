//! The models inside the `zoo` command: an explicit list. Adding one is one line here and one in `Cargo.toml`.

use zoo_runs::{Registry, Result};
use zoo_sdk::Plugin;

/// All built-in models.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    let crates = [
        zoo_vae::plugins(),
        zoo_gan::plugins(),
        zoo_autoencoder::plugins(),
        zoo_super_resolution::plugins(),
        zoo_flow::plugins(),
        zoo_pixelcnn::plugins(),
        zoo_pixelcnnpp::plugins(),
        zoo_fvbn::plugins(),
        zoo_nade::plugins(),
        zoo_made::plugins(),
        zoo_pixelrnn::plugins(),
    ];
    crates.into_iter().flatten().collect()
}

/// All built-in models, and no others.
///
/// # Errors
/// Where two of them have the same name.
pub fn registry() -> Result<Registry> {
    Registry::new(plugins())
}
