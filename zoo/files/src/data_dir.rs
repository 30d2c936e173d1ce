//! The folder for what is the user's: installed libraries, added plugins, bundles.

use std::{env, path::PathBuf};

/// Where this system keeps the data of this project: `$ZOO_DATA_DIR`, else `$XDG_DATA_HOME/zoo` or `~/.local/share/zoo`;
/// on macOS `~/Library/Application Support/zoo`, on Windows `%LOCALAPPDATA%\zoo`. `None` where there is no home.
pub fn default_data_dir() -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let absolute = |name: &str| {
        let path = env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if let Some(chosen) = absolute("ZOO_DATA_DIR") {
        return Some(chosen);
    }
    let base = if cfg!(windows) {
        absolute("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        absolute("HOME")?.join("Library/Application Support")
    } else {
        absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?
    };
    Some(base.join("zoo"))
}
