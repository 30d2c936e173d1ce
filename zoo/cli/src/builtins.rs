//! The models inside this binary: an explicit list. Adding one is one line here and one in `Cargo.toml`.

use zoo_host::{Registry, Result};
use zoo_nn::ModelPlugin;
use zoo_sdk::Plugin;

/// All built-in models.
///
/// # Errors
/// Where two of them have the same name.
pub fn registry() -> Result<Registry> {
    let models: Vec<Box<dyn Plugin>> = vec![
        Box::new(ModelPlugin::<zoo_vae::Vae>::default()),
        Box::new(ModelPlugin::<zoo_gan::Gan>::default()),
    ];
    Registry::new(models)
}
