//! How a host drives a graph whose loops a runtime lacks: which files to run, in which order, on what.

use serde::{Deserialize, Serialize};

use crate::Port;

/// What a form of a graph consists of.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// One ONNX file.
    File(Vec<u8>),
    /// ONNX files without loops, by their names, and how a host drives them.
    Steps {
        /// What the host does.
        steps: Steps,
        /// The files that it runs: `sample.step_row.onnx`.
        files: Vec<(String, Vec<u8>)>,
    },
}

impl Content {
    /// The bytes of its ONNX files.
    pub fn onnx(&self) -> Vec<&[u8]> {
        match self {
            Self::File(bytes) => vec![bytes],
            Self::Steps { files, .. } => files.iter().map(|(_, bytes)| &bytes[..]).collect(),
        }
    }
}

/// A graph cut at its loops: files without loops, and the loops, which a host runs.
///
/// A host keeps values by name. It puts in the graph's inputs, follows [`Steps::program`], and takes out the outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// What the graph reads.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// The value that becomes each output.
    pub results: Vec<String>,
    /// What to do, in order.
    pub program: Vec<Step>,
}

/// A part of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Run this file on the values that its inputs are called like; keep its outputs under their names.
    Run(String),
    /// Run a loop.
    Scan(ScanSteps),
}

/// A loop over slices, with states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSteps {
    /// How often.
    pub steps: Count,
    /// What is carried from step to step.
    pub states: Vec<State>,
    /// What is cut into slices, one for each step.
    pub inputs: Vec<Slices>,
    /// What is collected.
    pub outputs: Vec<Stacked>,
    /// The step's number, i64 `[N]`, under this name, where the body reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What a step does.
    pub body: Vec<Step>,
}

/// How often a loop runs. In JSON a number, a name, or `{"length_of": NAME, "axis": N}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Count {
    /// Known when the graph is made.
    Fixed(usize),
    /// What the value of this name says, one i64.
    Value(String),
    /// As long as a value is.
    Length {
        /// The value's name.
        length_of: String,
        /// The dimension that counts.
        axis: usize,
    },
}

/// A value carried from step to step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Its name in the body.
    pub name: String,
    /// What it starts as.
    pub start: String,
    /// What it is after a step.
    pub next: String,
    /// What it is called after the loop.
    pub end: String,
}

/// A value cut into slices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slices {
    /// A slice's name in the body; it lacks the axis.
    pub name: String,
    /// What is cut.
    pub of: String,
    /// Along which axis.
    pub axis: usize,
}

/// A value collected from all steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stacked {
    /// What a step gives.
    pub from: String,
    /// What all of them are called, side by side.
    pub name: String,
    /// Along which new axis.
    pub axis: usize,
}

impl Steps {
    /// The files that are run, each once.
    pub fn files(&self) -> Vec<&str> {
        fn collect<'a>(program: &'a [Step], files: &mut Vec<&'a str>) {
            for step in program {
                match step {
                    Step::Run(file) if !files.contains(&file.as_str()) => files.push(file),
                    Step::Run(_) => {}
                    Step::Scan(scan) => collect(&scan.body, files),
                }
            }
        }
        let mut files = Vec::new();
        collect(&self.program, &mut files);
        files
    }
}
