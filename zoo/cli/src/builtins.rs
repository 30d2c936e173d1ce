//! The models inside this binary: an explicit list. Adding one is one line here and one in `Cargo.toml`.

use zoo_host::{Registry, Result};

/// All built-in models.
///
/// # Errors
/// Where two of them have the same name.
pub fn registry() -> Result<Registry> {
    let crates = [zoo_vae::plugins(), zoo_gan::plugins()];
    Registry::new(crates.into_iter().flatten().collect())
}
