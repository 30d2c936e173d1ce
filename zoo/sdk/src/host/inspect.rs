//! What a file is, from its bytes alone.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use object::{
    Architecture, BinaryFormat, ExportTarget, FileKind, Object, ObjectKind, ObjectSegment, ReadRef,
    read::elf::{FileHeader, ProgramHeader},
};
use serde::Deserialize;
use zoo_files::sha256;

use super::{LoadError, Problem};
use crate::abi::{ENTRY_SYMBOL, MAGIC, MAJOR, META_LEN, META_SYMBOL, Meta};

/// A library that may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Absolute, without links.
    pub path: PathBuf,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// What it says of itself.
    pub metadata: Metadata,
}

/// The metadata block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The ABI that it was built against: major and minor version.
    #[serde(skip)]
    pub abi: (u32, u32),
    /// The crate.
    pub package: String,
    /// The crate's version.
    pub version: String,
    /// The version of zoo-sdk, where it was built with that.
    #[serde(default)]
    pub sdk: String,
    /// Names of host features that it cannot do without.
    #[serde(default)]
    pub requires: Vec<String>,
}

/// Host features that a library may require. Version 1.0 has none beyond the ABI itself.
const FEATURES: [&str; 0] = [];
/// No plugin is larger; a device file or a mistake may be.
const LARGEST: u64 = 4 << 30;

/// Reads and checks a file: who can write it, format, processor, completeness, metadata, entry, and its SHA-256 where `pinned`.
///
/// # Errors
/// The first thing that speaks against loading it.
pub fn inspect(path: &Path, pinned: Option<&str>) -> Result<Inspected, LoadError> {
    let read = |e| Problem::Read(e).at(path);
    let canonical = path.canonicalize().map_err(read)?;
    let path = canonical.as_path();
    let mut file = open(path)?;
    let size = file.metadata().map_err(read)?.len();
    if size > LARGEST {
        return Err(Problem::TooLarge(size).at(path));
    }
    check_writers(path)?;
    let mut bytes = Vec::new();
    file.by_ref()
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    // The pin first: a changed file is a changed file, whatever else is wrong with it.
    let sha256 = sha256(&bytes);
    if let Some(pinned) = pinned.filter(|pinned| !pinned.eq_ignore_ascii_case(&sha256)) {
        return Err(Problem::Hash {
            found: sha256,
            pinned: pinned.to_owned(),
        }
        .at(path));
    }
    let metadata = metadata(&bytes).map_err(|problem| problem.at(path))?;
    Ok(Inspected {
        path: canonical,
        sha256,
        bytes: bytes.len() as u64,
        metadata,
    })
}

fn open(path: &Path) -> Result<File, LoadError> {
    let read = |e| Problem::Read(e).at(path);
    // Before it is opened: opening a named pipe would wait for a writer.
    let kind = path.metadata().map_err(read)?.file_type();
    if kind.is_dir() {
        return Err(Problem::NotAFile("a folder").at(path));
    }
    if !kind.is_file() {
        return Err(Problem::NotAFile("a device or a pipe").at(path));
    }
    File::open(path).map_err(read)
}

/// Refuses a file that others than its owner may write, or whose folder they may.
///
/// # Errors
/// [`Problem::Writable`] with the way out, or what kept from looking.
#[cfg(unix)]
pub fn check_writers(path: &Path) -> Result<(), LoadError> {
    use std::os::unix::fs::MetadataExt;
    const OTHERS: u32 = 0o022;
    let folder = path.parent().unwrap_or(Path::new("/"));
    for what in [path, folder] {
        let metadata = what.metadata().map_err(|e| Problem::Read(e).at(path))?;
        if metadata.mode() & OTHERS != 0 {
            return Err(Problem::Writable {
                what: what.to_owned(),
            }
            .at(path));
        }
    }
    Ok(())
}

/// Access lists are not looked at: a user's own folders are private by default there.
///
/// # Errors
/// None here.
#[cfg(not(unix))]
pub fn check_writers(_: &Path) -> Result<(), LoadError> {
    Ok(())
}

fn wanted_format() -> (BinaryFormat, &'static str) {
    if cfg!(windows) {
        (BinaryFormat::Pe, "a Windows library (PE)")
    } else if cfg!(target_vendor = "apple") {
        (BinaryFormat::MachO, "a macOS library (Mach-O)")
    } else {
        (BinaryFormat::Elf, "a shared library (ELF)")
    }
}

fn wanted_machine() -> Option<Architecture> {
    Some(match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "x86" => Architecture::I386,
        "aarch64" => Architecture::Aarch64,
        "arm" => Architecture::Arm,
        "riscv64" => Architecture::Riscv64,
        "loongarch64" => Architecture::LoongArch64,
        "powerpc64" => Architecture::PowerPc64,
        "s390x" => Architecture::S390x,
        _ => return None,
    })
}

/// The metadata of a library that this process could load.
pub(crate) fn metadata(bytes: &[u8]) -> Result<Metadata, Problem> {
    let (format, wanted) = wanted_format();
    let other = |found: &str| Problem::NotALibrary {
        found: found.to_owned(),
        wanted,
    };
    let kind = FileKind::parse(bytes).map_err(|_| other("some other kind of file"))?;
    match kind {
        FileKind::Elf32 | FileKind::Elf64 | FileKind::Pe32 | FileKind::Pe64 => {}
        FileKind::MachO32 | FileKind::MachO64 => {}
        FileKind::MachOFat32 | FileKind::MachOFat64 => {
            return Err(other(
                "a universal binary: keep the part for this processor",
            ));
        }
        kind => return Err(other(&format!("a file of kind {kind:?}"))),
    }
    let damaged = |e: object::Error| Problem::Damaged(e.to_string());
    let file = object::File::parse(bytes).map_err(damaged)?;
    if file.format() != format {
        return Err(other(&format!("a {:?} file", file.format())));
    }
    let (found, machine) = (file.architecture(), wanted_machine());
    let width = usize::BITS == if file.is_64() { 64 } else { 32 };
    if machine.is_some_and(|machine| machine != found)
        || !width
        || file.is_little_endian() != cfg!(target_endian = "little")
    {
        return Err(Problem::OtherMachine {
            found: format!("{found:?}"),
            wanted: std::env::consts::ARCH.to_owned(),
        });
    }
    match file.kind() {
        ObjectKind::Dynamic if is_elf_program(bytes, kind) => return Err(other("a program")),
        ObjectKind::Dynamic => {}
        ObjectKind::Executable => return Err(other("a program")),
        ObjectKind::Relocatable => return Err(other("an object file")),
        kind => return Err(other(&format!("a file of kind {kind:?}"))),
    }
    // What is mapped must be there: touching a page behind the file's end is SIGBUS.
    for segment in file.segments() {
        segment.data().map_err(damaged)?;
    }
    let address = exported(&file, META_SYMBOL)?;
    exported(&file, ENTRY_SYMBOL)?;
    let mut block = None;
    for segment in file.segments() {
        let data = segment
            .data_range(address, size_of::<Meta>() as u64)
            .map_err(damaged)?;
        block = block.or(data);
    }
    read_block(block.ok_or_else(|| Problem::Metadata("the block is not in the file".into()))?)
}

/// A program that may be loaded anywhere looks like a library, but for the interpreter that it asks for or a flag.
fn is_elf_program(bytes: &[u8], kind: FileKind) -> bool {
    fn asks<'a, E: FileHeader<Endian = object::Endianness>>(bytes: &'a [u8]) -> bool
    where
        &'a [u8]: ReadRef<'a>,
    {
        let find = || -> object::Result<bool> {
            let header = E::parse(bytes)?;
            let endian = header.endian()?;
            let mut segments = header.program_headers(endian, bytes)?.iter();
            Ok(segments.any(|s| s.p_type(endian) == object::elf::PT_INTERP))
        };
        find().unwrap_or(false)
    }
    match kind {
        FileKind::Elf64 => asks::<object::elf::FileHeader64<object::Endianness>>(bytes),
        FileKind::Elf32 => asks::<object::elf::FileHeader32<object::Endianness>>(bytes),
        _ => false,
    }
}

fn exported(file: &object::File<'_>, name: &'static str) -> Result<u64, Problem> {
    let damaged = |e: object::Error| Problem::Damaged(e.to_string());
    let plain = |symbol: Option<&[u8]>| {
        // Mach-O puts an underscore before C names.
        let symbol = symbol.map(|symbol| match file.format() {
            BinaryFormat::MachO => symbol.strip_prefix(b"_").unwrap_or(symbol),
            _ => symbol,
        });
        symbol == Some(name.as_bytes())
    };
    for export in file.exports().map_err(damaged)? {
        let export = export.map_err(damaged)?;
        if let (true, ExportTarget::Address { address }) =
            (plain(export.name().name()), export.target())
        {
            return Ok(address);
        }
    }
    Err(Problem::NoSymbol(name))
}

/// Reads a [`Meta`] from its bytes, and decides whether this host can serve the library.
pub(crate) fn read_block(block: &[u8]) -> Result<Metadata, Problem> {
    let broken = |what: &str| Problem::Metadata(what.to_owned());
    let (magic, rest) = block
        .split_at_checked(MAGIC.len())
        .ok_or_else(|| broken("the block is cut off"))?;
    let (head, json) = rest
        .split_at_checked(16)
        .filter(|(_, json)| json.len() == META_LEN)
        .ok_or_else(|| broken("the block is cut off"))?;
    if magic != MAGIC {
        return Err(broken("the block does not begin as it should"));
    }
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (major, minor, len) = (word(0), word(4), word(8) as usize);
    if major != MAJOR {
        let way_out = if major > MAJOR {
            "update zoo"
        } else {
            "build the plugin with a newer zoo-sdk"
        };
        return Err(Problem::OtherAbi {
            major,
            minor,
            way_out: way_out.into(),
        });
    }
    let json = json
        .get(..len)
        .ok_or_else(|| broken(&format!("{len} bytes of JSON in a block of {META_LEN}")))?;
    let mut metadata: Metadata =
        serde_json::from_slice(json).map_err(|e| broken(&e.to_string()))?;
    metadata.abi = (major, minor);
    for text in [&metadata.package, &metadata.version, &metadata.sdk] {
        if text.chars().any(char::is_control) {
            return Err(broken("a name holds control characters"));
        }
    }
    if metadata.package.is_empty() {
        return Err(broken("the package has no name"));
    }
    let missing: Vec<String> = metadata
        .requires
        .iter()
        .filter(|feature| !FEATURES.contains(&feature.as_str()))
        .map(|feature| format!("{feature:?}"))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::Missing {
            minor,
            features: missing,
        });
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(json: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for word in [1, 0, json.len() as u32, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(json.as_bytes());
        bytes.resize(size_of::<Meta>(), 0);
        bytes
    }

    #[test]
    fn blocks_are_read_whole_or_not_at_all() {
        let good = r#"{"package":"p","version":"1","unknown":{"later":1}}"#;
        let read = read_block(&block(good)).unwrap();
        assert_eq!((read.abi, read.package.as_str()), ((1, 0), "p"));
        for (json, cause) in [
            (r#"{"version":"1"}"#, "package"),
            (r#"{"package":"","version":"1"}"#, "no name"),
            (
                r#"{"package":"\u001b[2J","version":"1"}"#,
                "control characters",
            ),
            ("[]", "invalid"),
        ] {
            let error = read_block(&block(json)).unwrap_err().to_string();
            assert!(error.contains(cause), "{cause}: {error}");
        }
        for len in 0..size_of::<Meta>() {
            assert!(read_block(&block(good)[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 1008), len in 0u32..1200) {
            let mut block = MAGIC.to_vec();
            block.extend(bytes);
            block[16..20].copy_from_slice(&1u32.to_le_bytes());
            block[24..28].copy_from_slice(&len.to_le_bytes());
            let _ = read_block(&block);
        }

        #[test]
        fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), elf in any::<bool>()) {
            let mut bytes = bytes;
            if elf && bytes.len() > 20 {
                bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
                bytes[16..20].copy_from_slice(&[3, 0, 62, 0]);
            }
            let _ = metadata(&bytes);
        }
    }
}
