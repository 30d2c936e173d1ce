//! Fetches the ONNX Runtime library: it is in the wheel that PyPI has of `onnxruntime`.

use std::{
    env,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use zip::ZipArchive;

use crate::{
    Error, Result,
    ort_library::{FOLDER, HASH_FILE, checked, library_version},
};

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The library.
    pub path: PathBuf,
    /// Its version, with `-gpu` where it is a build for GPUs.
    pub version: String,
    /// Its SHA-256 in hex, noted beside it and checked whenever it is loaded.
    pub sha256: String,
}

/// Downloads ONNX Runtime with pip into `data_dir`. `progress` is told of each step.
///
/// # Errors
/// Says what to do where Python or pip is missing, and what pip said where it fails.
pub fn install_ort(
    data_dir: &Path,
    gpu: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Installed> {
    let package = if gpu {
        "onnxruntime-gpu"
    } else {
        "onnxruntime"
    };
    let staging = staging(data_dir)?;
    progress(&format!("downloading {package} with pip"));
    download(package, staging.path())?;
    let wheels = fs::read_dir(staging.path()).map_err(Error::io(staging.path()))?;
    let wheel = wheels
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| Error::Install(format!("pip left no wheel of {package}")))?;
    install_ort_from_wheel(&wheel, data_dir, progress)
}

/// Installs ONNX Runtime from a wheel of `onnxruntime` or `onnxruntime-gpu` that is already here.
///
/// # Errors
/// For a file that is no such wheel or one for another system, and for a library too old to use.
pub fn install_ort_from_wheel(
    wheel: &Path,
    data_dir: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Installed> {
    let staging = staging(data_dir)?;
    let file = File::open(wheel).map_err(Error::io(wheel))?;
    let unusable = |what: String| Error::Install(format!("{}: {what}", wheel.display()));
    let mut archive =
        ZipArchive::new(file).map_err(|e| unusable(format!("it is no wheel ({e})")))?;
    let version = wheel_version(&mut archive).ok_or_else(|| {
        unusable("it is no wheel of onnxruntime (there is no onnxruntime-*.dist-info)".into())
    })?;

    progress(&format!("unpacking ONNX Runtime {version}"));
    let unpacked = staging.path().join("unpacked");
    fs::create_dir(&unpacked).map_err(Error::io(&unpacked))?;
    unpack(&mut archive, &unpacked).map_err(|e| unusable(e.to_string()))?;
    let names = fs::read_dir(&unpacked).map_err(Error::io(&unpacked))?;
    let library = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| library_version(name).is_some())
        .ok_or_else(|| unusable("it holds no library for this system".into()))?;

    let library_file = checked(unpacked.join(&library))?;
    let hash = zoo_files::sha256_of(&library_file).map_err(Error::io(&library_file))?;
    match ort::util::probe(unpacked.join(&library)) {
        Some(minor) if minor >= ort::MINOR_VERSION => {}
        Some(minor) => {
            let needed = ort::MINOR_VERSION;
            let what = format!("it is ONNX Runtime 1.{minor}; 1.{needed} or newer is needed");
            return Err(unusable(what));
        }
        None => return Err(unusable("its library does not load on this system".into())),
    }
    let hash_file = unpacked.join(HASH_FILE);
    zoo_files::replace(&hash_file, format!("{hash}  {library}\n").as_bytes())
        .map_err(|error| Error::io(&hash_file)(error.source))?;

    let target = data_dir.join(FOLDER).join(&version);
    replace(&unpacked, &target, &staging.path().join("replaced"))?;
    let path = target.join(library);
    progress(&format!("installed {}", path.display()));
    Ok(Installed {
        path,
        version,
        sha256: hash,
    })
}

/// Puts `new` in the place of `target`, which is moved away first: a process that uses its library goes on with it.
fn replace(new: &Path, target: &Path, aside: &Path) -> Result<()> {
    match fs::rename(target, aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(target)(error)),
    }
    fs::rename(new, target).map_err(|error| {
        // Better the old one than none; if that fails too, the first error is the one to tell.
        let _ = fs::rename(aside, target);
        Error::io(target)(error)
    })
}

/// A temporary folder on the disk of the installation, so that the last step is a rename.
fn staging(data_dir: &Path) -> Result<tempfile::TempDir> {
    let folder = data_dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    tempfile::Builder::new()
        .prefix(".installing-")
        .tempdir_in(&folder)
        .map_err(Error::io(&folder))
}

/// `1.32.0` or `1.32.0-gpu`, from the name of the metadata folder.
fn wheel_version(archive: &mut ZipArchive<File>) -> Option<String> {
    let names = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()));
    let names: Vec<String> = names.collect();
    names.iter().find_map(|name| {
        let (package, version) = name.split_once(".dist-info/")?.0.split_once('-')?;
        let fine = version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match package {
            _ if !fine || version.is_empty() || version.starts_with('.') => None,
            "onnxruntime" => Some(version.to_string()),
            "onnxruntime_gpu" => Some(format!("{version}-gpu")),
            _ => None,
        }
    })
}

/// Copies the libraries and the licence. Only the last part of a name is used, so nothing lands outside `folder`.
fn unpack(archive: &mut ZipArchive<File>, folder: &Path) -> io::Result<()> {
    /// The GPU build is 700 MB; more than this is no ONNX Runtime.
    const MOST: u64 = 8 << 30;
    let mut left = MOST;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name().map_err(io::Error::other)?.into_owned();
        let Some(short) = name.strip_prefix("onnxruntime/") else {
            continue;
        };
        let short = short.strip_prefix("capi/").unwrap_or(short);
        let provider = format!("{}onnxruntime_providers_", env::consts::DLL_PREFIX);
        let wanted = library_version(short).is_some()
            || (short.starts_with(&provider) && short.ends_with(env::consts::DLL_SUFFIX))
            || ["LICENSE", "ThirdPartyNotices.txt"].contains(&short);
        if !wanted || short.contains(['/', '\\']) {
            continue;
        }
        let mut file = File::create_new(folder.join(short))?;
        let copied = io::copy(&mut (&mut entry).take(left + 1), &mut file)?;
        left = left
            .checked_sub(copied)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {MOST} bytes")))?;
        file.sync_all()?;
    }
    Ok(())
}

/// `pip download` needs no virtual environment, unlike `pip install` on Debian.
fn download(package: &str, folder: &Path) -> Result<()> {
    let requirement = format!("{package}>=1.{}", ort::MINOR_VERSION);
    let by_hand = format!(
        "or download the wheel of {package} for this system from https://pypi.org/project/{package}/#files on any \
         computer, unzip it and name the folder with --ort PATH"
    );
    for python in ["python3", "python"] {
        let output = Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
            ])
            .args([
                "--disable-pip-version-check",
                "--no-input",
                "--quiet",
                "--dest",
            ])
            .arg(folder)
            .arg(&requirement)
            .output();
        match output {
            Ok(output) => return pip_result(&output, python, package, &by_hand),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Install(format!("{python} does not start: {error}"))),
        }
    }
    Err(Error::Install(format!(
        "the download uses pip, and there is no python3 on the PATH. Install Python with pip (Debian: apt install \
         python3-pip), {by_hand}"
    )))
}

fn pip_result(output: &Output, python: &str, package: &str, by_hand: &str) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named pip") {
        return Err(Error::Install(format!(
            "{python} has no pip. Install it (Debian: apt install python3-pip), {by_hand}"
        )));
    }
    let said = crate::guard::shorten(&said);
    Err(Error::Install(format!(
        "pip could not download {package}: {said}. Check the network, {by_hand}"
    )))
}
