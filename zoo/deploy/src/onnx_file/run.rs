//! The library call behind `zoo run`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use zoo_data::npy::{read_npy, write_npy};
use zoo_runtimes::{Device, LoadOptions, Search};
use zoo_sdk::{Array, DType, Port, RuntimeId, Tensors};

use super::{Error, Result, check, read};

/// What to run, on what.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The ONNX file.
    pub file: PathBuf,
    /// An `.npy` file for each input, by port name.
    pub inputs: Vec<(String, PathBuf)>,
    /// The folder to write to; made where it is not there.
    pub out: PathBuf,
    /// What computes.
    pub runtime: RuntimeId,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// CPU threads; 0 leaves the choice to the runtime.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl RunOptions {
    /// Runs `file` without inputs on tract, into `out`.
    pub fn new(file: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            inputs: Vec::new(),
            out: out.into(),
            runtime: RuntimeId::Tract,
            device: "cpu".to_owned(),
            threads: 0,
            search: Search::default(),
        }
    }
}

/// What was computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// What computed it, and its version.
    pub runtime: String,
    /// Seconds of the computation, without loading.
    pub seconds: f64,
    /// In the file's order.
    pub outputs: Vec<Output>,
}

/// An output that was written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Output {
    /// The port's name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Smallest value; none where a value is not finite.
    pub min: Option<f64>,
    /// Largest value; as above.
    pub max: Option<f64>,
    /// Mean value; as above.
    pub mean: Option<f64>,
    /// The `.npy` file.
    pub file: PathBuf,
    /// A grid, where the output looks like images.
    pub picture: Option<PathBuf>,
}

/// Checks a file, feeds it the inputs, and writes each output as `.npy`, and as a PNG where it looks like images.
///
/// # Errors
/// Where the file or an input is unsound or does not fit, the runtime or device cannot be had, or nothing can be written.
/// Nothing is written before all is computed.
pub fn run(options: &RunOptions) -> Result<RunReport> {
    let file = &options.file;
    let bytes = read(file)?;
    let model = zoo_onnx::decode(&bytes).map_err(Error::onnx(file))?;
    let ports = check(&model, &bytes).map_err(Error::onnx(file))?.inputs;
    let inputs = read_inputs(file, &ports, &options.inputs)?;
    let device: Device = options.device.parse().map_err(Error::no_runtime)?;
    let runtime =
        zoo_runtimes::find(&options.runtime, &options.search).map_err(Error::no_runtime)?;
    let failed = |source| Error::Runtime {
        path: file.clone(),
        source: Box::new(source),
    };
    let load = LoadOptions {
        device,
        threads: options.threads,
    };
    let mut loaded = runtime.load(&bytes, &load).map_err(failed)?;
    let start = Instant::now();
    let computed = loaded.run(&inputs).map_err(failed)?;
    let seconds = start.elapsed().as_secs_f64();

    let folder = &options.out;
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut used = BTreeSet::new();
    let mut outputs = Vec::new();
    for port in loaded.outputs() {
        if let Some(array) = computed.get(&port.name) {
            outputs.push(write(folder, &port.name, array, &mut used)?);
        }
    }
    Ok(RunReport {
        runtime: format!("{} {}", runtime.id(), runtime.version()),
        seconds,
        outputs,
    })
}

fn read_inputs(file: &Path, ports: &[Port], given: &[(String, PathBuf)]) -> Result<Tensors> {
    let wrong = |problem: String| Error::Input {
        path: file.to_owned(),
        problem,
        valid: describe(ports),
    };
    let mut inputs = Tensors::new();
    for (name, path) in given {
        let Some(port) = ports.iter().find(|p| p.name == *name) else {
            return Err(wrong(format!("there is no input {name:?}")));
        };
        let array = read_npy(path)?;
        let (shown, wanted, got) = (path.display(), port.dtype, array.dtype());
        if got != wanted {
            return Err(wrong(format!(
                "input {name:?} must be {wanted}, but {shown} holds {got}: convert it with .astype({:?})",
                numpy_name(wanted)
            )));
        }
        if let Some([low, high]) = port.range
            && matches!(wanted, DType::I64 | DType::I32)
            && let Some(value) = array.to_f64().iter().find(|v| **v < low || **v > high)
        {
            return Err(wrong(format!(
                "input {name:?} must be within {low} and {high}, but {shown} holds {value}"
            )));
        }
        if inputs.insert(name.clone(), array).is_some() {
            return Err(wrong(format!("input {name:?} is given twice")));
        }
    }
    match ports.iter().find(|p| !inputs.contains_key(&p.name)) {
        Some(port) => Err(wrong(format!("input {:?} is missing", port.name))),
        None => Ok(inputs),
    }
}

/// `z (f32[N,20]), label (i64[N])`
fn describe(ports: &[Port]) -> String {
    let each = ports
        .iter()
        .map(|p| format!("{:?} ({})", p.name, p.value_type()));
    match ports {
        [] => "no input".to_owned(),
        _ => each.collect::<Vec<_>>().join(", "),
    }
}

fn numpy_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::F16 => "float16",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::U8 => "uint8",
        DType::Bool => "bool",
    }
}

fn write(folder: &Path, name: &str, array: &Array, used: &mut BTreeSet<String>) -> Result<Output> {
    let stem = file_stem(name, used);
    let file = folder.join(format!("{stem}.npy"));
    write_npy(&file, array)?;
    let values = array.to_f64();
    let finite = !values.is_empty() && values.iter().all(|v| v.is_finite());
    let figure = |value: f64| finite.then_some(value);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let picture = match looks_like_images(array, min, max) && finite {
        false => None,
        true => {
            let path = folder.join(format!("{stem}.png"));
            zoo_pictures::save_png(&zoo_pictures::square(array)?, &path)?;
            Some(path)
        }
    };
    Ok(Output {
        name: name.to_owned(),
        dtype: array.dtype(),
        shape: array.shape().to_vec(),
        min: figure(min),
        max: figure(max),
        mean: figure(values.iter().sum::<f64>() / values.len().max(1) as f64),
        file,
        picture,
    })
}

/// `[N,C,H,W]` with grey or colour channels, large enough to be seen, in [0, 1] up to rounding.
fn looks_like_images(array: &Array, min: f64, max: f64) -> bool {
    const ROUNDING: f64 = 1e-3;
    matches!(array.shape(), [_, 1 | 3, h, w] if *h >= 4 && *w >= 4)
        && array.dtype() == DType::F32
        && min >= -ROUNDING
        && max <= 1.0 + ROUNDING
}

/// A file name for a port: names in foreign files may hold anything, `../` included.
fn file_stem(name: &str, used: &mut BTreeSet<String>) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '_' || c == '-' => c,
        _ => '_',
    };
    let stem: String = name.chars().take(100).map(plain).collect();
    let mut unique = stem.clone();
    let mut number = 1;
    // Letters alike but for their case are one file on some systems.
    while !used.insert(unique.to_lowercase()) {
        number += 1;
        unique = format!("{stem}-{number}");
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_plain_and_different() {
        let mut used = BTreeSet::new();
        let stems: Vec<_> = ["x", "../x", "a/b", "a_b", "X", "/Tanh_output_0"]
            .iter()
            .map(|name| file_stem(name, &mut used))
            .collect();
        assert_eq!(
            stems,
            ["x", "___x", "a_b", "a_b-2", "X-2", "_Tanh_output_0"]
        );
    }

    #[test]
    fn images_are_told_by_shape_and_range() {
        let array = |shape: &[usize]| Array::f32(shape, vec![0.5; shape.iter().product()]).unwrap();
        for (shape, min, max, images) in [
            (&[2usize, 1, 8, 8][..], 0.0, 1.0, true),
            (&[2, 3, 8, 8], 0.0, 1.0005, true),
            (&[2, 1, 8, 8], -1.0, 1.0, false),
            (&[2, 2, 8, 8], 0.0, 1.0, false),
            (&[2, 1, 1, 1], 0.0, 1.0, false),
            (&[2, 64], 0.0, 1.0, false),
        ] {
            assert_eq!(
                looks_like_images(&array(shape), min, max),
                images,
                "{shape:?}"
            );
        }
    }
}
