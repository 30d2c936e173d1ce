//! `zoo plugin new`

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::failure::{Failure, Outcome, Result};
use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  zoo plugin new my-gan
  zoo plugin new my-pixelcnn --kind autoregressive
  zoo plugin new my-gan --sdk ../zoo
  zoo plugin new my-gan --sdk https://github.com/zoo-rs/zoo
  zoo plugin new my-gan --sdk 0.1

It makes the folder my-gan with a crate that passes its tests as it stands: a small model with its
maths, settings, and the tests that every plugin is held to.";

/// Begin a plugin of your own: a crate with a small model, settings and tests
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct New {
    /// Name of the crate and of its model: lower-case letters, digits and hyphens
    name: String,
    /// What it begins as
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    kind: Kind,
    /// Where zoo's crates come from: a folder with its sources, a git address or a version
    #[arg(long, value_name = "PATH|GIT|VERSION")]
    sdk: Option<String>,
    /// The folder to make, where it is not to have the name
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a new plugin begins as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A variational autoencoder
    #[default]
    Latent,
    /// A PixelCNN: only its network is written, the sampler follows from it
    Autoregressive,
}

type Files = [(&'static str, &'static str); 6];

impl Kind {
    fn files(self) -> Files {
        match self {
            Self::Latent => LATENT,
            Self::Autoregressive => AUTOREGRESSIVE,
        }
    }
}

/// A crate, as text that compiles under the name `my-model`; `tests/tests/plugins.rs` does that.
const LATENT: Files = [
    ("Cargo.toml", include_str!("../../template/Cargo.toml")),
    ("README.md", include_str!("../../template/README.md")),
    (".gitignore", include_str!("../../template/gitignore")),
    ("default.toml", include_str!("../../template/default.toml")),
    ("src/lib.rs", include_str!("../../template/src/lib.rs")),
    (
        "tests/conformance.rs",
        include_str!("../../template/tests/conformance.rs"),
    ),
];

/// The same of the other kind; `tests/tests/template.rs` compiles it.
const AUTOREGRESSIVE: Files = [
    LATENT[0],
    (
        "README.md",
        include_str!("../../template/autoregressive/README.md"),
    ),
    LATENT[2],
    (
        "default.toml",
        include_str!("../../template/autoregressive/default.toml"),
    ),
    (
        "src/lib.rs",
        include_str!("../../template/autoregressive/src/lib.rs"),
    ),
    (
        "tests/conformance.rs",
        include_str!("../../template/autoregressive/tests/conformance.rs"),
    ),
];

/// Runs the command.
pub fn new(args: New) -> Result {
    check_name(&args.name)?;
    let sdk = Sdk::choose(args.sdk.as_deref())?;
    let folder = args.out.unwrap_or_else(|| PathBuf::from(&args.name));
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| Failure::usage(format!("cannot write {path}: {e}"))
    };
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    // Never into a folder that is there: what is in it is somebody's.
    fs::create_dir(&folder).map_err(failed(&folder))?;
    for (file, text) in args.kind.files() {
        let path = folder.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let text = named(text, &args.name)
            .replace("\"ZOO_NN\"", &sdk.dependency("zoo/nn"))
            .replace("\"ZOO_CONFORMANCE\"", &sdk.dependency("zoo/conformance"));
        fs::write(&path, text).map_err(failed(&path))?;
    }
    let (folder, library) = (folder.display(), library_name(&args.name));
    print(&format!(
        "made {folder}\n\n  cd {folder}\n  cargo test\n  cargo build --release\n  zoo plugin check target/release/{library}\n  \
         zoo plugin add target/release/{library}\n\nThe first build takes some minutes.\n"
    ))?;
    Ok(Outcome::Done)
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
        && !name.ends_with('-')
        && !name.contains("--")
        && name.len() <= 60;
    // What cargo or the model's type could not be called.
    let taken = ["test", "core", "std", "alloc", "zoo-nn", "zoo-conformance"];
    if good && !taken.contains(&name) && !KEYWORDS.contains(&name) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{name:?} cannot be a crate's name; take lower-case letters, digits and hyphens, such as my-gan"
    )))
}

/// Of the names that `check_name` would let pass, those that Rust keeps for itself.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "pub", "ref", "return", "static",
    "struct", "trait", "type", "use", "true", "self", "super", "try", "typeof", "unsafe",
    "unsized", "virtual", "where", "while", "yield", "override", "priv",
];

/// The template under another name.
fn named(text: &str, name: &str) -> String {
    let camel = name.split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_uppercase() + rest
    });
    let mut camel: String = camel.collect();
    if camel == "Config" || camel == "Model" || camel == "Value" {
        camel.push_str("Net");
    }
    text.replace("my-model", name)
        .replace("my_model", &name.replace('-', "_"))
        .replace("MyModel", &camel)
}

/// What cargo calls the library of a crate.
fn library_name(name: &str) -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{DLL_PREFIX}{}{DLL_SUFFIX}", name.replace('-', "_"))
}

/// Where the crates of zoo come from.
enum Sdk {
    Path(PathBuf),
    Git(String),
    Version(String),
}

impl Sdk {
    fn choose(given: Option<&str>) -> Result<Self> {
        let Some(given) = given else {
            let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            return match sources.canonicalize() {
                Ok(path) if is_sources(&path) => Ok(Self::Path(path)),
                _ => Err(Failure::usage(
                    "the sources of this zoo are not on this machine; say where its crates come from: --sdk with a folder, a git address or a version",
                )),
            };
        };
        if given.contains("://") || given.starts_with("git@") {
            return Ok(Self::Git(given.to_owned()));
        }
        if given.starts_with(|c: char| c.is_ascii_digit()) && !Path::new(given).exists() {
            return Ok(Self::Version(given.to_owned()));
        }
        match Path::new(given).canonicalize() {
            Ok(path) if is_sources(&path) => Ok(Self::Path(path)),
            _ => Err(Failure::usage(format!(
                "--sdk {given}: no folder with the sources of zoo (there is no zoo/nn/Cargo.toml), no git address, no version"
            ))),
        }
    }

    /// The right-hand side of a dependency, in TOML.
    fn dependency(&self, folder: &str) -> String {
        let text = |text: &str| format!("{:?}", text.to_owned());
        match self {
            Self::Path(path) => {
                format!(
                    "{{ path = {} }}",
                    text(&path.join(folder).display().to_string())
                )
            }
            Self::Git(address) => format!("{{ git = {} }}", text(address)),
            Self::Version(version) => text(version),
        }
    }
}

fn is_sources(path: &Path) -> bool {
    path.join("zoo/nn/Cargo.toml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_takes() {
        for good in ["gan", "my-gan", "vq-vae2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", "My", "2d", "-a", "a-", "a--b", "a_b", "a/b", "fn", "test", "\u{e4}",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_goes_everywhere() {
        for kind in [Kind::Latent, Kind::Autoregressive] {
            let files = kind.files();
            let lib = named(files[4].1, "vq-vae2");
            assert!(lib.contains("export_plugin!(VqVae2)") && lib.contains("name: \"vq-vae2\""));
            for (file, text) in files {
                let text = named(text, "vq-vae2").to_lowercase();
                assert!(
                    !text.contains("my-model") && !text.contains("my_model"),
                    "{file}"
                );
            }
        }
        assert!(named("MyModel", "config").contains("ConfigNet"));
    }

    #[test]
    fn the_sdk_comes_from_where_it_is_said() {
        let from = |sdk: &str| Sdk::choose(Some(sdk)).map(|s| s.dependency("zoo/nn"));
        assert_eq!(from("0.1").unwrap(), "\"0.1\"");
        assert_eq!(
            from("https://x.org/zoo").unwrap(),
            "{ git = \"https://x.org/zoo\" }"
        );
        let here = from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
        assert!(
            here.starts_with("{ path = \"/") && here.ends_with("/zoo/nn\" }"),
            "{here}"
        );
        assert!(
            from("/no/such/folder")
                .unwrap_err()
                .text()
                .contains("zoo/nn/Cargo.toml")
        );
    }
}
