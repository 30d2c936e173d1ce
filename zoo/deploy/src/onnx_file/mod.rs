//! One ONNX file, ours or anybody's: what it holds ([`inspect`]), and what it computes ([`run`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zoo_files::sha256;
use zoo_graph::{DType, Graph, Port};
use zoo_onnx::Model;

mod run;

pub use run::{Output, RunOptions, RunReport, run};

/// A protobuf message is smaller than this.
const MAX_BYTES: u64 = 1 << 31;

/// What can go wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] zoo_files::Error),
    /// An array cannot be read.
    #[error(transparent)]
    Npy(#[from] zoo_data::npy::Error),
    /// It is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        problem: String,
    },
    /// It is no sound ONNX file, or has something that is not understood.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<zoo_onnx::Error>,
    },
    /// An input that was given does not fit.
    #[error("{problem}; {} reads {valid}", path.display())]
    Input {
        /// The ONNX file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// The file's inputs with their types.
        valid: String,
    },
    /// The runtime refuses or fails.
    #[error("{}: {source}", path.display())]
    Runtime {
        /// The ONNX file.
        path: PathBuf,
        /// Its reason.
        source: Box<zoo_runtimes::Error>,
    },
    /// The runtime or the device cannot be had at all.
    #[error(transparent)]
    NoRuntime(Box<zoo_runtimes::Error>),
    /// An output could not be drawn.
    #[error(transparent)]
    Picture(#[from] zoo_pictures::Error),
}

/// Shorthand for results of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// 1 where the input was sound and the computation failed, else 2.
    pub fn exit_code(&self) -> u8 {
        use zoo_runtimes::Error as E;
        match self {
            Self::Runtime { source, .. } => {
                u8::from(!matches!(**source, E::Run { .. } | E::Output { .. })) + 1
            }
            _ => 2,
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        zoo_files::Error::io(action, path)
    }

    fn no_runtime(error: impl Into<zoo_runtimes::Error>) -> Self {
        Self::NoRuntime(Box::new(error.into()))
    }

    fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    fn onnx(path: &Path) -> impl FnOnce(zoo_onnx::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Onnx {
            path,
            source: Box::new(source),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Its path.
    pub file: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Who wrote it, with the version.
    pub producer: String,
    /// The version of ONNX's operator set.
    pub opset: i64,
    /// The version of the IR.
    pub ir_version: i64,
    /// What the caller feeds.
    pub inputs: Vec<Port>,
    /// What the caller gets.
    pub outputs: Vec<Port>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Nodes, those of bodies included.
    pub nodes: usize,
    /// How many nodes of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Floating-point weights and constants, in elements.
    pub parameters: usize,
    /// The graph as text.
    pub graph: String,
    /// What the checker holds against it.
    pub problem: Option<String>,
}

/// Reads and checks a file. A file that can be read but fails the check is no error: [`Inspection::problem`] tells.
///
/// # Errors
/// Where it cannot be read, or is no ONNX file.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let bytes = read(path)?;
    let model = zoo_onnx::decode(&bytes).map_err(Error::onnx(path))?;
    let mut operators = BTreeMap::new();
    let mut parameters = 0;
    count(&model.graph, &mut operators, &mut parameters);
    Ok(Inspection {
        file: path.to_owned(),
        bytes: bytes.len(),
        sha256: sha256(&bytes),
        problem: check(&model, &bytes).err().map(|e| e.to_string()),
        graph: model.graph.to_string(),
        producer: model.producer,
        opset: model.opset,
        ir_version: model.ir_version,
        inputs: model.graph.inputs,
        outputs: model.graph.outputs,
        metadata: model.metadata.into_iter().collect(),
        nodes: operators.values().sum(),
        operators,
        parameters,
    })
}

fn count(graph: &Graph, operators: &mut BTreeMap<String, usize>, parameters: &mut usize) {
    for initializer in &graph.initializers {
        if matches!(
            initializer.value.dtype(),
            DType::F32 | DType::F64 | DType::F16
        ) {
            *parameters += initializer.value.len();
        }
    }
    for node in &graph.nodes {
        *operators.entry(node.op.clone()).or_default() += 1;
        node.bodies().for_each(|b| count(b, operators, parameters));
    }
}

/// Files that this project wrote are held to its own rules, others to what holds for every file.
fn check(model: &Model, bytes: &[u8]) -> zoo_onnx::Result<zoo_onnx::Summary> {
    match model.producer.split(' ').next() {
        Some("zoo") => zoo_onnx::check(bytes),
        _ => zoo_onnx::check_foreign(bytes),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let kind = fs::metadata(path).map_err(Error::io("read", path))?;
    if kind.is_dir() {
        let problem = "is a folder; give one of its .onnx files (a bundle keeps them in onnx/)";
        return Err(Error::content(path, problem));
    }
    if kind.len() > MAX_BYTES {
        let problem = "is larger than an ONNX file can be (2 GiB)";
        return Err(Error::content(path, problem));
    }
    fs::read(path).map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests;
