//! The libraries that the user added: copies in the data folder, listed with their SHA-256 in `plugins.toml`.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zoo_files::Disk;
use zoo_sdk::{
    Plugin,
    host::{self, Inspected, Isolation},
};

use crate::{Error, Result};

const LIST: &str = "plugins.toml";
const HEAD: &str = "# Written by `zoo plugin add`. Each library is loaded only with the SHA-256 that it has here.\n\n";

/// A library in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// The crate that it was built from.
    pub package: String,
    /// The crate's version.
    pub version: String,
    /// Names of its models.
    pub models: Vec<String>,
    /// Its file in the store's folder.
    pub file: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Where it was added from.
    pub source: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    plugin: Vec<Added>,
}

/// A folder with added libraries.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in this data folder. Nothing is made before something is added.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("plugins"),
        }
    }

    /// The user's own, in [`zoo_files::default_data_dir`]. `None` where there is no home.
    pub fn of_user() -> Option<Self> {
        Some(Self::new(&zoo_files::default_data_dir()?))
    }

    /// Where the libraries are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was added, in the order of the packages' names.
    ///
    /// # Errors
    /// Where the list is damaged, or others could write it.
    pub fn list(&self) -> Result<Vec<Added>> {
        let path = self.folder.join(LIST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        // Who can write the list decides what runs.
        host::check_writers(&path)?;
        let list: List = toml::from_str(&text).map_err(|e| self.damaged(e.message()))?;
        for added in &list.plugin {
            let plain = Path::new(&added.file).file_name() == Some(added.file.as_ref());
            if !plain || added.package.chars().any(char::is_control) {
                return Err(self.damaged(&format!("{:?} is no file of the store", added.file)));
            }
        }
        Ok(list.plugin)
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Corrupt {
            path: self.folder.join(LIST),
            what: format!("{what}; repair it, or remove it and add the plugins again"),
        }
    }

    /// Copies a library into the store, under the SHA-256 that was inspected. Another version of its package is replaced.
    ///
    /// # Errors
    /// Where another package offers one of its `models`, where the file has changed since, or where writing fails; the store
    /// is then as it was.
    pub fn add(&self, inspected: &Inspected, models: Vec<String>) -> Result<Added> {
        let _lock = self.lock()?;
        let mut list = self.list()?;
        let package = &inspected.metadata.package;
        for other in list.iter().filter(|other| other.package != *package) {
            if let Some(model) = models.iter().find(|model| other.models.contains(model)) {
                return Err(Error::Usage(format!(
                    "the plugin {} has a model named {model:?} too; `zoo plugin remove {}` first, or rename the model",
                    other.package, other.package
                )));
            }
        }
        let bytes = fs::read(&inspected.path).map_err(Error::io("read", &inspected.path))?;
        let sha256 = zoo_files::sha256(&bytes);
        if sha256 != inspected.sha256 {
            return Err(Error::Corrupt {
                path: inspected.path.clone(),
                what: "it changed while it was being added; try again".into(),
            });
        }
        let added = Added {
            package: package.clone(),
            version: inspected.metadata.version.clone(),
            models,
            file: file_name(package, &sha256),
            sha256,
            source: inspected.path.display().to_string(),
        };
        self.write(&added.file, &bytes)?;
        let old = list.iter().position(|other| other.package == *package);
        let old = old.map(|index| list.remove(index));
        list.push(added.clone());
        self.write_list(list)?;
        if let Some(old) = old.filter(|old| old.file != added.file) {
            self.forget(&old);
        }
        Ok(added)
    }

    /// Takes a package out of the store.
    ///
    /// # Errors
    /// Where there is none of that name, or writing fails.
    pub fn remove(&self, package: &str) -> Result<Added> {
        let known = self.list()?;
        let unknown = || {
            let names: Vec<&str> = known.iter().map(|p| p.package.as_str()).collect();
            Error::Usage(if names.is_empty() {
                format!("there is no plugin {package:?}: none was added")
            } else {
                format!("there is no plugin {package:?}, only {}", names.join(", "))
            })
        };
        if known.is_empty() {
            return Err(unknown());
        }
        let _lock = self.lock()?;
        let mut list = self.list()?;
        let index = list.iter().position(|added| added.package == package);
        let removed = list.remove(index.ok_or_else(unknown)?);
        self.write_list(list)?;
        self.forget(&removed);
        Ok(removed)
    }

    /// Loads an added library, with its SHA-256 verified.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn load(
        &self,
        added: &Added,
        isolation: Option<&Isolation>,
    ) -> Result<Vec<Box<dyn Plugin>>> {
        let path = self.folder.join(&added.file);
        let pinned = Some(added.sha256.as_str());
        let loaded = match isolation {
            None => host::load(&path, pinned)?,
            Some(isolation) => host::isolate(&path, pinned, isolation)?,
        };
        Ok(loaded.plugins)
    }

    /// A file that no list names does no harm, so that failing to remove it is no failure.
    fn forget(&self, added: &Added) {
        let path = self.folder.join(&added.file);
        if let Err(e) = fs::remove_file(&path) {
            tracing::warn!("cannot remove {}: {e}", path.display());
        }
    }

    fn lock(&self) -> Result<File> {
        self.make_folder()
            .map_err(Error::io("create", &self.folder))?;
        let path = self.folder.join(".lock");
        let lock = || {
            let mut options = File::options();
            let file = options.create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(Error::io("lock", &path))
    }

    fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)
    }

    fn write_list(&self, mut plugin: Vec<Added>) -> Result<()> {
        plugin.sort_by(|a, b| a.package.cmp(&b.package));
        let text = toml::to_string(&List { plugin }).map_err(|e| self.damaged(&e.to_string()))?;
        self.write(LIST, format!("{HEAD}{text}").as_bytes())
    }

    /// A library that is in use is replaced, never changed.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(Disk::private().replace(&self.folder.join(name), bytes)?)
    }
}

/// `my-gan-0123456789ab.so`
fn file_name(package: &str, sha256: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '_'
        }
    };
    let package: String = package.chars().map(plain).take(100).collect();
    format!("{package}-{}{}", &sha256[..12], env::consts::DLL_SUFFIX)
}

#[cfg(test)]
mod tests {
    use zoo_sdk::host::Metadata;

    use super::*;

    fn inspected(folder: &Path, package: &str, content: &str) -> Inspected {
        let path = folder.join(format!("lib{package}.so"));
        fs::write(&path, content).unwrap();
        Inspected {
            sha256: zoo_files::sha256(content),
            bytes: content.len() as u64,
            metadata: Metadata {
                abi: (1, 0),
                package: package.into(),
                version: "1".into(),
                sdk: String::new(),
                requires: Vec::new(),
            },
            path,
        }
    }

    fn files(store: &Store) -> usize {
        let files = fs::read_dir(store.folder()).unwrap();
        files
            .filter(|f| {
                !f.as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.')
            })
            .count()
    }

    #[test]
    fn libraries_are_added_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        assert_eq!(store.list().unwrap(), []);
        assert!(!store.folder().exists());

        let first = store
            .add(
                &inspected(folder.path(), "b-plugin", "one"),
                vec!["b".into()],
            )
            .unwrap();
        let a = store
            .add(
                &inspected(folder.path(), "a-plugin", "two"),
                vec!["a".into()],
            )
            .unwrap();
        assert_eq!(store.list().unwrap(), [a.clone(), first.clone()]);
        assert_eq!(fs::read(store.folder().join(&a.file)).unwrap(), b"two");

        let newer = inspected(folder.path(), "b-plugin", "three");
        let second = store.add(&newer, vec!["b".into(), "c".into()]).unwrap();
        assert_eq!(store.list().unwrap(), [a.clone(), second]);
        assert!(!store.folder().join(&first.file).exists());

        let clash = inspected(folder.path(), "d-plugin", "four");
        let error = store.add(&clash, vec!["c".into()]).unwrap_err().to_string();
        assert!(error.contains("zoo plugin remove b-plugin"), "{error}");
        assert_eq!(files(&store), 3);

        assert!(
            store
                .remove("none")
                .unwrap_err()
                .to_string()
                .contains("only a-plugin, b-plugin")
        );
        store.remove("b-plugin").unwrap();
        assert_eq!(store.list().unwrap(), [a]);
        assert_eq!(files(&store), 2);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let inspected = inspected(folder.path(), "p", "one");
        fs::write(&inspected.path, "other").unwrap();
        let error = store.add(&inspected, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("changed while"), "{error}");
        assert_eq!(store.list().unwrap(), []);
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store
            .add(&inspected(folder.path(), "p", "one"), Vec::new())
            .unwrap();
        let path = store.folder().join(LIST);
        let good = fs::read_to_string(&path).unwrap();
        for (text, cause) in [
            (good.replace("[[plugin]]", "[[plugin"), "plugins.toml"),
            (good.replace("version", "vision"), "vision"),
            (
                good.replace("file = \"", "file = \"../"),
                "no file of the store",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = store.list().unwrap_err().to_string();
            assert!(
                error.contains(cause) && error.contains("repair it"),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn lists_that_others_can_write_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store
            .add(&inspected(folder.path(), "p", "one"), Vec::new())
            .unwrap();
        let path = store.folder().join(LIST);
        for (what, mode) in [(path.as_path(), 0o622), (store.folder(), 0o770)] {
            let before = what.metadata().unwrap().permissions();
            fs::set_permissions(what, fs::Permissions::from_mode(mode)).unwrap();
            let error = store.list().unwrap_err().to_string();
            assert!(error.contains("chmod go-w"), "{error}");
            fs::set_permissions(what, before).unwrap();
        }
    }
}
