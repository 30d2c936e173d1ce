//! The library call behind `zoo verify`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zoo_onnx::Bundle;
use zoo_onnx::bundle::{Proof, VariantEntry};
use zoo_runtimes::{LoadOptions, Loaded, Search};
use zoo_sdk::{Array, DType, GraphInfo, Port, Session, Tensors};

use crate::engine::{CANDLE, choose, graph, open_bundle, probe};
use crate::registry::Registry;
use crate::run::{Which, open};
use crate::{Error, Result};

/// What to hold against what.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// Runtimes that must be there; where empty, every one that is found.
    pub runtimes: Vec<String>,
    /// `cpu`, `cuda:0`, `tensorrt:0`, `coreml`, `directml`, `webgpu`.
    pub device: String,
    /// Batch sizes, where candle is the reference.
    pub batches: Vec<usize>,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl VerifyOptions {
    /// Verifies `bundle` on every runtime found, at batch 1, 3 and 7.
    pub fn new(bundle: impl Into<PathBuf>) -> Self {
        Self {
            bundle: bundle.into(),
            runtimes: Vec::new(),
            device: "cpu".to_owned(),
            batches: vec![1, 3, 7],
            threads: 0,
            search: Search::default(),
        }
    }
}

/// The result; its JSON form is stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether something was compared, and all of it is within the tolerance.
    pub ok: bool,
    /// `candle`, or `test vectors` where the model's plugin is not there.
    pub reference: String,
    /// One row for each graph, variant, runtime, batch and output.
    pub results: Vec<Compared>,
    /// Runtimes that were left out, and why; not part of the JSON form.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
}

/// An output of a runtime beside the reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The graph.
    pub graph: String,
    /// The file.
    pub variant: String,
    /// The runtime.
    pub runtime: String,
    /// Images at a time.
    pub batch: usize,
    /// The output.
    pub output: String,
    /// Largest difference; none where a value is not finite, or nothing was computed.
    pub max_abs: Option<f64>,
    /// Largest difference relative to the reference's value; none as above.
    pub max_rel: Option<f64>,
    /// Index of the largest difference, or of the first value that is not finite.
    pub at: Option<Vec<usize>>,
    /// Whether every value is within the tolerance.
    pub ok: bool,
    /// Why nothing was compared.
    pub error: Option<String>,
}

/// A runtime that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub runtime: String,
    /// Why, and the way out.
    pub reason: String,
}

/// Runs every graph of a bundle on every runtime and compares with candle, or with the shipped test vectors where the
/// model's plugin is not there. `progress` hears of each row as it is made.
///
/// # Errors
/// For a bundle that is damaged, and for runtimes or devices that were asked for and cannot be had. Differences are no
/// error: [`Verification::ok`] tells.
pub fn verify(
    registry: &Registry,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(&Compared),
) -> Result<Verification> {
    let bundle = open_bundle(&options.bundle)?;
    let load = LoadOptions {
        device: options.device.parse()?,
        threads: options.threads,
    };
    let (runtimes, mut skipped) = choose(&options.runtimes, &options.search)?;
    let asked = !options.runtimes.is_empty();
    let reference = Reference::of(registry, &bundle, options)?;
    let mut rows = Vec::new();
    let mut left_out: Vec<Skipped> = Vec::new();
    for (name, graph) in &bundle.manifest().graphs {
        let cases = reference.cases(name, &options.batches)?;
        for runtime in &runtimes {
            let skip = |reason: String| Skipped {
                runtime: runtime.name().to_owned(),
                reason,
            };
            let serves = |v: &&VariantEntry| v.runtimes.iter().any(|r| r == runtime.name());
            if asked {
                // Its error says what the graph was exported for.
                bundle.variant_for(name, runtime.name())?;
            } else if !graph.variants.iter().any(|v| serves(&v)) {
                left_out.push(skip(format!(
                    "the graph {name:?} was not exported for it; export the run again with --target"
                )));
            }
            for variant in graph.variants.iter().filter(serves) {
                let bytes = bundle.read(&variant.file)?;
                let case = Case {
                    graph: name,
                    variant: &variant.file,
                    outputs: &graph.outputs,
                    tolerance: Tolerance::of(&bytes)?,
                };
                let loaded = match runtime.load(&bytes, &load) {
                    // A runtime that nobody asked for need not know the device.
                    Err(error @ zoo_runtimes::Error::Device { .. }) if !asked => {
                        left_out.push(skip(error.to_string()));
                        continue;
                    }
                    Err(error @ zoo_runtimes::Error::Device { .. }) => return Err(error.into()),
                    other => other.map_err(|error| error.to_string()),
                };
                let new = case.run(runtime.name(), loaded, &cases);
                new.iter().for_each(&mut *progress);
                rows.extend(new);
            }
        }
    }
    left_out.dedup();
    skipped.extend(left_out);
    Ok(Verification {
        ok: !rows.is_empty() && rows.iter().all(|row| row.ok),
        reference: reference.name().to_owned(),
        results: rows,
        skipped,
    })
}

/// What is right.
enum Reference<'a> {
    Candle {
        model: String,
        image: [usize; 3],
        session: Box<dyn Session>,
        graphs: Vec<GraphInfo>,
    },
    Vectors(&'a Bundle),
}

/// A batch of inputs and the outputs they should give.
pub(crate) struct Expected {
    pub batch: usize,
    pub inputs: Tensors,
    pub outputs: Tensors,
}

/// Seeds the inputs that candle and the runtimes are compared on.
const SEED: u64 = 20_091_117;

impl<'a> Reference<'a> {
    fn of(registry: &Registry, bundle: &'a Bundle, options: &VerifyOptions) -> Result<Self> {
        if registry.get(&bundle.manifest().model).is_err() {
            return Ok(Self::Vectors(bundle));
        }
        let trained = open(registry, bundle.dir(), Which::Auto)?;
        let session = trained.session(registry, options.threads, "cpu")?;
        let graphs = session.graphs().map_err(Error::plugin(&trained.model))?;
        Ok(Self::Candle {
            model: trained.model,
            image: trained.data.image,
            session,
            graphs,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Candle { .. } => CANDLE,
            Self::Vectors(_) => "test vectors",
        }
    }

    fn cases(&self, name: &str, batches: &[usize]) -> Result<Vec<Expected>> {
        match self {
            Self::Candle {
                model,
                image,
                session,
                graphs,
            } => {
                let info = graph(graphs, name).ok_or_else(|| Error::NoGraph {
                    path: "the bundle".into(),
                    model: model.clone(),
                    graph: name.to_owned(),
                    graphs: graphs.iter().map(|g| g.name.clone()).collect(),
                    hint: "the bundle was exported by another version of the model: export it again",
                })?;
                let expected = batches.iter().map(|&batch| {
                    let seed = SEED + batch as u64;
                    expected(session.as_ref(), graphs, info, *image, batch, seed)
                        .map_err(Error::plugin(model))
                });
                expected.collect()
            }
            Self::Vectors(bundle) => {
                let sets = bundle.vectors(name)?;
                if sets.is_empty() {
                    return Err(Error::Corrupt {
                        path: bundle.dir().to_owned(),
                        what: format!(
                            "has no test vectors of the graph {name:?}, and the plugin of its model {:?} is not here; load the plugin with --plugin, or export the run again",
                            bundle.manifest().model
                        ),
                    });
                }
                let expected = sets.into_iter().map(|set| Expected {
                    batch: set
                        .inputs
                        .first()
                        .map_or(0, |(_, x)| x.shape().first().copied().unwrap_or(0)),
                    inputs: set.inputs.into_iter().collect(),
                    outputs: set.outputs.into_iter().collect(),
                });
                Ok(expected.collect())
            }
        }
    }
}

/// What candle computes on inputs that are good to try a graph on.
pub(crate) fn expected(
    session: &dyn Session,
    graphs: &[GraphInfo],
    info: &GraphInfo,
    image: [usize; 3],
    batch: usize,
    seed: u64,
) -> zoo_sdk::Result<Expected> {
    let inputs = probe(session, graphs, info, image, batch, seed)?;
    Ok(Expected {
        batch,
        outputs: session.run(&info.name, &inputs)?,
        inputs,
    })
}

/// A file to be compared.
pub(crate) struct Case<'a> {
    pub graph: &'a str,
    pub variant: &'a str,
    pub outputs: &'a [Port],
    pub tolerance: Tolerance,
}

impl Case<'_> {
    /// A row for each batch and output. What could not be loaded or run has rows too, with the reason.
    pub fn run(
        &self,
        runtime: &str,
        mut loaded: Result<Box<dyn Loaded>, String>,
        cases: &[Expected],
    ) -> Vec<Compared> {
        let mut rows = Vec::new();
        for case in cases {
            let got = match &mut loaded {
                Ok(loaded) => loaded.run(&case.inputs).map_err(|e| e.to_string()),
                Err(error) => Err(error.clone()),
            };
            for port in self.outputs {
                let row = Compared {
                    graph: self.graph.to_owned(),
                    variant: self.variant.to_owned(),
                    runtime: runtime.to_owned(),
                    batch: case.batch,
                    output: port.name.clone(),
                    ..Compared::default()
                };
                let pair = match &got {
                    Ok(got) => match (case.outputs.get(&port.name), got.get(&port.name)) {
                        (Some(expected), Some(got)) => Ok((expected, got)),
                        (None, _) => Err("the reference has no such output".to_owned()),
                        (_, None) => Err("the runtime gave no such output".to_owned()),
                    },
                    Err(error) => Err(error.clone()),
                };
                rows.push(match pair {
                    Ok((expected, got)) => self.tolerance.compare(expected, got, row),
                    Err(error) => Compared {
                        error: Some(error),
                        ..row
                    },
                });
            }
        }
        rows
    }
}

/// How far a value may lie from its reference: `absolute + relative * |reference|`. Integers must be equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    const F32: Self = Self {
        absolute: 1e-5,
        relative: 1e-4,
    };
    const F16: Self = Self {
        absolute: 1e-3,
        relative: 5e-3,
    };

    /// The tolerance for an ONNX file: wider where weights are stored at half precision.
    pub fn of(file: &[u8]) -> Result<Self> {
        let graph = zoo_onnx::decode(file)?.graph;
        let half = graph
            .initializers
            .iter()
            .any(|i| i.value.dtype() == DType::F16);
        Ok(if half { Self::F16 } else { Self::F32 })
    }

    /// Fills in `row` with how far `got` lies from `expected`.
    fn compare(self, expected: &Array, got: &Array, row: Compared) -> Compared {
        if (expected.dtype(), expected.shape()) != (got.dtype(), got.shape()) {
            let error = Some(format!("it is {got:?}, the reference {expected:?}"));
            return Compared { error, ..row };
        }
        let whole = !matches!(expected.dtype(), DType::F16 | DType::F32 | DType::F64);
        let (mut max_abs, mut max_rel, mut largest, mut ok) = (0.0f64, 0.0f64, 0, true);
        for (i, (e, g)) in expected.to_f64().into_iter().zip(got.to_f64()).enumerate() {
            if !e.is_finite() || !g.is_finite() {
                let at = Some(index(expected.shape(), i));
                return Compared { at, ..row };
            }
            let difference = (e - g).abs();
            if difference > max_abs {
                (max_abs, largest) = (difference, i);
            }
            // Below the absolute tolerance a value counts as no smaller than that.
            max_rel = max_rel.max(difference / e.abs().max(self.absolute));
            ok &= match whole {
                true => difference == 0.0,
                false => difference <= self.absolute + self.relative * e.abs(),
            };
        }
        Compared {
            max_abs: Some(max_abs),
            max_rel: Some(max_rel),
            at: (max_abs > 0.0).then(|| index(expected.shape(), largest)),
            ok,
            ..row
        }
    }
}

/// The place in each dimension of the element at `offset`.
fn index(shape: &[usize], mut offset: usize) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (at, &size) in place.iter_mut().zip(shape).rev() {
        *at = offset % size.max(1);
        offset /= size.max(1);
    }
    place
}

impl From<&Compared> for Proof {
    fn from(row: &Compared) -> Self {
        Self {
            graph: row.graph.clone(),
            variant: row.variant.clone(),
            runtime: row.runtime.clone(),
            batch: row.batch,
            output: row.output.clone(),
            max_abs: row.max_abs,
            max_rel: row.max_rel,
            ok: row.ok,
            error: row.error.clone(),
        }
    }
}

impl Compared {
    /// The difference and its place, or what went wrong.
    pub fn finding(&self) -> String {
        let at = self.at.as_ref().map(|at| format!(" at {at:?}"));
        match (&self.error, self.max_abs) {
            (Some(error), _) => error.clone(),
            (None, Some(0.0)) => "equal".to_owned(),
            (None, Some(difference)) => format!("{difference:.1e}{}", at.unwrap_or_default()),
            (None, None) => format!("not finite{}", at.unwrap_or_default()),
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |heading: &str, cell: &dyn Fn(&Compared) -> String| {
            let cells = self.results.iter().map(|row| cell(row).chars().count());
            cells.chain([heading.len()]).max().unwrap_or(0)
        };
        let graph = width("graph", &|r| r.graph.clone());
        let runtime = width("runtime", &|r| r.runtime.clone());
        let output = width("output", &|r| r.output.clone());
        writeln!(
            f,
            "{:graph$}  {:runtime$}  batch  {:output$}  verdict  largest difference",
            "graph", "runtime", "output"
        )?;
        for row in &self.results {
            writeln!(
                f,
                "{:graph$}  {:runtime$}  {:>5}  {:output$}  {:7}  {}",
                row.graph,
                row.runtime,
                row.batch,
                row.output,
                if row.ok { "ok" } else { "FAILED" },
                row.finding()
            )?;
        }
        for skipped in &self.skipped {
            writeln!(f, "{} was left out: {}", skipped.runtime, skipped.reason)?;
        }
        let good = self.results.iter().filter(|row| row.ok).count();
        let worst = self
            .results
            .iter()
            .filter(|row| row.max_abs.is_some())
            .max_by(|a, b| {
                a.max_abs
                    .unwrap_or(0.0)
                    .total_cmp(&b.max_abs.unwrap_or(0.0))
            });
        write!(
            f,
            "{good} of {} comparisons with {} are within the tolerance",
            self.results.len(),
            self.reference
        )?;
        match worst {
            Some(row) => write!(
                f,
                "; the largest difference is {} ({}, {}, batch {}, {})",
                row.finding(),
                row.graph,
                row.runtime,
                row.batch,
                row.output
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &Array, got: &Array) -> Compared {
        Tolerance::F32.compare(expected, got, Compared::default())
    }

    #[test]
    fn the_largest_difference_has_a_place() {
        let expected = Array::f32([2, 1, 2, 2], vec![1.0; 8]).unwrap();
        let mut values = vec![1.0; 8];
        values[6] = 1.000_05;
        let close = compare(
            &expected,
            &Array::f32([2, 1, 2, 2], values.clone()).unwrap(),
        );
        assert!(close.ok, "{close:?}");
        assert_eq!(close.at, Some(vec![1, 0, 1, 0]));
        assert!((close.max_abs.unwrap() - 5e-5).abs() < 1e-7);
        values[6] = 1.000_2;
        assert!(!compare(&expected, &Array::f32([2, 1, 2, 2], values).unwrap()).ok);
        let same = compare(&expected, &expected);
        assert_eq!((same.ok, same.max_abs, same.at), (true, Some(0.0), None));
    }

    #[test]
    fn what_is_not_finite_is_not_within_any_tolerance() {
        let expected = Array::f32([3], [0.0, 1.0, f32::NAN]).unwrap();
        for got in [[0.0, 1.0, f32::NAN], [0.0, 1.0, 1.0]] {
            let row = compare(&expected, &Array::f32([3], got).unwrap());
            assert_eq!(
                (row.ok, row.max_abs, row.at.clone()),
                (false, None, Some(vec![2]))
            );
            assert_eq!(row.finding(), "not finite at [2]");
        }
        let infinite = Array::f32([1], [f32::INFINITY]).unwrap();
        assert!(!compare(&infinite, &infinite).ok);
    }

    #[test]
    fn types_and_shapes_must_agree_and_integers_be_equal() {
        let expected = Array::i64([1], [1_000_000]).unwrap();
        assert!(!compare(&expected, &Array::i64([1], [1_000_001]).unwrap()).ok);
        assert!(compare(&expected, &expected).ok);
        let row = compare(&expected, &Array::i64([1, 1], [1_000_000]).unwrap());
        assert_eq!(row.error.unwrap(), "it is i64[1, 1], the reference i64[1]");
    }
}
