//! Finds the ONNX Runtime library.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use zoo_files::{default_data_dir, sha256_of};

use crate::{Error, Result, RuntimeId, Search};

/// The folder of a data directory that holds one folder for each installed library.
pub(crate) const FOLDER: &str = "ort";
/// Beside an installed library: its SHA-256 in hex, two spaces, its file name.
pub(crate) const HASH_FILE: &str = "sha256";

/// The library to use: what the user named, ORT_DYLIB_PATH, what is installed, or what lies beside the executable.
///
/// What was named on purpose and is unfit is an error; the search does not go on behind the user's back.
pub(crate) fn find(search: &Search) -> Result<PathBuf> {
    if let Some(path) = &search.ort {
        return named(path, "--ort");
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return named(Path::new(&path), "ORT_DYLIB_PATH");
    }
    let mut looked = vec!["ORT_DYLIB_PATH (not set)".to_string()];
    if let Some(data_dir) = search.data_dir.clone().or_else(default_data_dir) {
        let folder = data_dir.join(FOLDER);
        if let Some(library) = installed(&folder)? {
            return Ok(library);
        }
        looked.push(folder.display().to_string());
    }
    let beside = env::current_exe().ok();
    if let Some(folder) = beside.as_deref().and_then(Path::parent) {
        if let Some(library) = in_folder(folder) {
            return checked(library);
        }
        looked.push(folder.display().to_string());
    }
    Err(unavailable(format!(
        "no ONNX Runtime library found (looked at {}). Run `zoo runtime install ort`, or name a library with --ort PATH \
         or ORT_DYLIB_PATH",
        looked.join(", ")
    )))
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable {
        runtime: RuntimeId::Ort,
        reason,
    }
}

fn named(path: &Path, by: &str) -> Result<PathBuf> {
    let shown = path.display();
    let advice = "Give the path of an ONNX Runtime library or of its folder, or run `zoo runtime install ort`";
    if path.is_file() {
        return checked(path.to_path_buf());
    }
    if !path.is_dir() {
        return Err(unavailable(format!(
            "{by} names {shown}, which does not exist. {advice}"
        )));
    }
    match in_folder(path) {
        Some(library) => checked(library),
        None => Err(unavailable(format!(
            "{by} names the folder {shown}, which holds no {}. {advice}",
            main_name()
        ))),
    }
}

/// The name of the library proper, without the version that may follow it.
pub(crate) fn main_name() -> String {
    format!(
        "{}onnxruntime{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    )
}

/// The version in a library's file name, where `name` is one: `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`.
pub(crate) fn library_version(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix(&format!("{}onnxruntime", env::consts::DLL_PREFIX))?;
    // macOS puts the version before the suffix, Linux after it.
    let (before, after) = rest.split_once(env::consts::DLL_SUFFIX)?;
    match format!("{before}{after}").strip_prefix('.') {
        Some(version) => version.split('.').map(|part| part.parse().ok()).collect(),
        None if before.is_empty() && after.is_empty() => Some(Vec::new()),
        None => None,
    }
}

/// The library in a folder, or where a package of ONNX Runtime keeps it below.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    ["", "lib", "capi", "onnxruntime/capi"]
        .iter()
        .find_map(|below| {
            let entries = fs::read_dir(folder.join(below)).ok()?;
            let libraries = entries.filter_map(|entry| {
                let entry = entry.ok()?;
                let version = library_version(entry.file_name().to_str()?)?;
                entry.path().is_file().then(|| (version, entry.path()))
            });
            libraries.max().map(|(_, path)| path)
        })
}

/// The newest installed library, those for GPUs first: they compute on the CPU as well.
fn installed(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(None);
    };
    let versions = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().to_str()?.to_string();
        // A name with a dot in front is an installation under way, or one that was cut off.
        let library = in_folder(&entry.path()).filter(|_| !name.starts_with('.'))?;
        let (number, gpu) = match name.strip_suffix("-gpu") {
            Some(number) => (number, true),
            None => (name.as_str(), false),
        };
        let number: Vec<u32> = number.split('.').map(|n| n.parse().unwrap_or(0)).collect();
        Some((gpu, number, library))
    });
    let Some((_, _, library)) = versions.max() else {
        return Ok(None);
    };
    let again = "Run `zoo runtime install ort` again";
    let hash_file = library.with_file_name(HASH_FILE);
    let noted = fs::read_to_string(&hash_file).map_err(Error::io(&hash_file))?;
    let found = sha256_of(&library).map_err(Error::io(&library))?;
    if noted.split_whitespace().next() != Some(&*found) {
        return Err(unavailable(format!(
            "{} is not the file that was installed (its SHA-256 differs from {}). {again}",
            library.display(),
            hash_file.display()
        )));
    }
    checked(library).map(Some)
}

/// A library that the system's loader can be trusted with.
pub(crate) fn checked(library: PathBuf) -> Result<PathBuf> {
    let path = fs::canonicalize(&library).map_err(Error::io(&library))?;
    let whole = fs::File::open(&path)
        .and_then(|mut file| is_whole(&mut file))
        .map_err(Error::io(&path))?;
    if whole {
        return Ok(path);
    }
    Err(unavailable(format!(
        "{} is no shared library, or it is truncated. Run `zoo runtime install ort`, or name another with --ort PATH",
        path.display()
    )))
}

/// Whether an ELF file reaches as far as its headers say; loading one that does not is a SIGBUS. Other systems' loaders
/// answer with an error of their own.
fn is_whole<F: std::io::Read + std::io::Seek>(file: &mut F) -> std::io::Result<bool> {
    use std::io::SeekFrom;
    if !cfg!(all(
        target_os = "linux",
        target_endian = "little",
        target_pointer_width = "64"
    )) {
        return Ok(true);
    }
    let length = file.seek(SeekFrom::End(0))?;
    let mut header = [0; 64];
    if length < header.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header)?;
    if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        return Ok(false);
    }
    let (segments, size, count) = (
        u64_at(&header, 32),
        u16_at(&header, 54),
        u16_at(&header, 56),
    );
    let table = u64::from(size) * u64::from(count);
    if size < 56 || count == 0 || segments.checked_add(table).is_none_or(|end| end > length) {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(segments))?;
    let mut entries = vec![0; table as usize];
    file.read_exact(&mut entries)?;
    Ok(entries.chunks_exact(size.into()).all(|entry| {
        let end = u64_at(entry, 8).checked_add(u64_at(entry, 32));
        end.is_some_and(|end| end <= length)
    }))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn names_of_libraries() {
        for (name, version) in [
            ("libonnxruntime.so", Some(vec![])),
            ("libonnxruntime.so.1", Some(vec![1])),
            ("libonnxruntime.so.1.32.0", Some(vec![1, 32, 0])),
            ("libonnxruntime.so.1.x", None),
            ("libonnxruntime.so.txt", None),
            ("libonnxruntime_providers_cuda.so", None),
            ("onnxruntime.dll", None),
        ] {
            assert_eq!(library_version(name), version, "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_highest_version_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(in_folder(folder.path()), None);
        let below = folder.path().join("onnxruntime/capi");
        fs::create_dir_all(&below).unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
        ] {
            fs::write(below.join(name), "").unwrap();
        }
        assert_eq!(
            in_folder(folder.path()),
            Some(below.join("libonnxruntime.so.1.32.0"))
        );
    }

    #[cfg(all(
        target_os = "linux",
        target_endian = "little",
        target_pointer_width = "64"
    ))]
    #[test]
    fn truncated_libraries_are_seen() {
        // The test program itself is a whole ELF file.
        let bytes = fs::read(env::current_exe().unwrap()).unwrap();
        let whole = |bytes: &[u8]| is_whole(&mut std::io::Cursor::new(bytes)).unwrap();
        assert!(whole(&bytes));
        for length in [0, 10, 63, 64, 100, bytes.len() / 8] {
            assert!(!whole(&bytes[..length]), "{length}");
        }
        let mut lying = bytes[..64].to_vec();
        lying[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(!whole(&lying));
        assert!(!whole(&[b'x'; 200]));
    }
}
