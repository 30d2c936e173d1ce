//! Runtimes to test with.

use zoo_runtimes::{Runtime, RuntimeId, Search, found};

/// Every runtime that can be had. ONNX Runtime may only be missing where nobody promised it.
pub fn runtimes() -> Vec<Box<dyn Runtime>> {
    let found = found(&Search::default());
    let usable = found
        .into_iter()
        .filter_map(|(name, runtime)| match runtime {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                assert!(
                    name == RuntimeId::Ort && std::env::var_os("ORT_DYLIB_PATH").is_none(),
                    "{name}: {error}"
                );
                println!("skipped {name}: {error}");
                None
            }
        });
    usable.collect()
}
