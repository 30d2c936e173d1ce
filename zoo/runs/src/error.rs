//! What can go wrong with models, settings and runs.

use std::path::{Path, PathBuf};

/// Where a setting's value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The plugin's own defaults.
    Defaults(String),
    /// A line of a TOML file.
    File(PathBuf, usize),
    /// `--set`.
    Set,
    /// An option of its own: `--epochs`.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Defaults(model) => write!(f, "defaults of {model}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Every error of this crate. The texts name the file, field or setting and say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No model of that name is registered.
    #[error("there is no model {name:?}; did you mean {}? (models: {})", models.first().map_or("another", String::as_str), models.join(", "))]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are, nearest first.
        models: Vec<String>,
    },
    /// Two plugins offer a model of the same name.
    #[error("two plugins offer a model named {0:?}; load only one of them")]
    DuplicateModel(String),

    /// A library with plugins cannot be used.
    #[error(transparent)]
    Library(#[from] zoo_sdk::host::LoadError),
    /// A model of an added plugin that cannot be loaded.
    #[error("the model {model:?} is in an added plugin that cannot be used: {why}")]
    BrokenPlugin {
        /// The model.
        model: String,
        /// What is wrong with its library.
        why: String,
    },

    /// A settings file that is no TOML.
    #[error("{}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        message: String,
    },
    /// A setting that nothing knows.
    #[error("{origin}: there is no setting `{key}`{hint}")]
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// The whole key.
        key: String,
        /// The key that was meant, or all that there are.
        hint: String,
    },
    /// A setting with a value of the wrong type or out of range.
    #[error("{origin}: `{key}` = {value}: expected {expected}")]
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// The whole key.
        key: String,
        /// The value given.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A setting without default that was not given.
    #[error("`{key}` has no value; give one with --set {key}=..., or in a --config file")]
    MissingKey {
        /// The whole key.
        key: String,
    },
    /// A `--set` that is not `key=value`.
    #[error("--set {0:?}: write key=value, for example --set train.batch=64")]
    BadSet(String),
    /// A `--config` file made for another model.
    #[error("{}: these are settings for the model {found:?}, not {wanted:?}; train {found}, or give settings for {wanted}", path.display())]
    OtherModel {
        /// The settings file.
        path: PathBuf,
        /// The model named in it.
        found: String,
        /// The model asked for.
        wanted: String,
    },
    /// Data settings that fit their schema, but make no sense.
    #[error("data settings: {0}")]
    BadData(String),
    /// Neither `--data` nor `data.source`.
    #[error("no data set given; use --data fashion-small, or --data PATH")]
    NoData,

    /// A folder that holds something else.
    #[error("{}: {what}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What it is, and the way out.
        what: String,
    },
    /// A run that is there already.
    #[error(
        "{} already holds a run; continue it with --resume, or give another --out",
        path.display()
    )]
    RunExists {
        /// The run directory.
        path: PathBuf,
    },
    /// Somebody else is writing to the run.
    #[error(
        "{} is in use{}; wait until it is done, or give another --out",
        path.display(),
        pid.map_or(String::new(), |p| format!(" by process {p}"))
    )]
    RunInUse {
        /// The run directory.
        path: PathBuf,
        /// The process that holds the lock, where that could be read.
        pid: Option<u32>,
    },
    /// A setting that cannot change on `--resume`.
    #[error(
        "{}: `{key}` is {old} in this run and cannot become {new} on --resume; leave it out, or train into another --out",
        path.display()
    )]
    FixedOnResume {
        /// The run directory.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The run's value.
        old: String,
        /// The value asked for.
        new: String,
    },
    /// No checkpoint that could be used.
    #[error("{}: {what}", path.display())]
    NoCheckpoint {
        /// The run directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A file whose content is damaged or not what it should be.
    #[error("{}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        what: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] zoo_files::Error),
    /// A checkpoint could not be written.
    #[error(
        "cannot save the checkpoint of step {step}: {cause}; the earlier checkpoints are intact"
    )]
    Save {
        /// The step.
        step: u64,
        /// Why.
        cause: Box<Error>,
    },

    /// A data set could not be read.
    #[error(transparent)]
    Data(#[from] zoo_data::Error),
    /// A picture could not be drawn.
    #[error(transparent)]
    Picture(#[from] zoo_pictures::Error),
    /// A bundle is not what it should be.
    #[error(transparent)]
    Onnx(#[from] zoo_onnx::Error),
    /// Data of another shape than the model was trained on.
    #[error(
        "the images of {data:?} are {got:?} (channels, height, width), but the model was trained on {expected:?}; give data of that shape"
    )]
    OtherShape {
        /// The data set.
        data: String,
        /// Its image shape.
        got: [usize; 3],
        /// The model's image shape.
        expected: [usize; 3],
    },
    /// A loss or parameter stopped being finite.
    #[error("{message}{}", kept.as_ref().map_or_else(
        || "; no checkpoint had been saved yet: lower the learning rate".to_owned(),
        |p| format!("; the last good checkpoint is kept: {} (to go on from it with a lower learning rate, start a run with --init-from)", p.display())))]
    Diverged {
        /// The plugin's account.
        message: String,
        /// The newest checkpoint.
        kept: Option<PathBuf>,
    },
    /// Options that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A plugin's answer.
    #[error("model {model:?}: {source}")]
    Plugin {
        /// The model.
        model: String,
        /// What it said.
        source: zoo_sdk::Error,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The exit code of a command that ends with this error: 1 for what was computed and failed, 2 for bad usage or input.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Diverged { .. } => 1,
            Self::Plugin { source, .. } => match source {
                zoo_sdk::Error::Input(_) | zoo_sdk::Error::Host(_) => 2,
                zoo_sdk::Error::Diverged(_) | zoo_sdk::Error::Internal(_) => 1,
            },
            _ => 2,
        }
    }

    /// For `map_err`: an [`Error::Io`].
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        zoo_files::Error::io(action, path)
    }

    /// For `map_err`: an [`Error::Plugin`].
    pub fn plugin(model: &str) -> impl FnOnce(zoo_sdk::Error) -> Self {
        let model = model.to_owned();
        move |source| Self::Plugin { model, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let plugin = |source| Error::Plugin {
            model: "m".into(),
            source,
        };
        assert_eq!(Error::NoData.exit_code(), 2);
        assert_eq!(plugin(zoo_sdk::Error::input("bad shape")).exit_code(), 2);
        assert_eq!(
            plugin(zoo_sdk::Error::Internal("bug".into())).exit_code(),
            1
        );
        let diverged = Error::Diverged {
            message: "loss is NaN at step 3".into(),
            kept: Some("run/checkpoints/2".into()),
        };
        assert_eq!(diverged.exit_code(), 1);
        assert!(diverged.to_string().contains("run/checkpoints/2"));
    }

    #[test]
    fn a_full_disk_names_the_file_and_the_way_out() {
        let error = Error::Save {
            step: 7,
            cause: Box::new(Error::io("write", Path::new("run/x"))(
                std::io::ErrorKind::StorageFull.into(),
            )),
        };
        let text = error.to_string();
        assert!(
            text.contains("step 7") && text.contains("run/x") && text.contains("--resume"),
            "{text}"
        );
    }
}
