//! The library call behind `zoo verify`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zoo_graph::Graph;
use zoo_onnx::bundle::GraphEntry;
use zoo_onnx::{Bundle, Content};
use zoo_runs::{Registry, Which, open};
use zoo_runtimes::parity::{Case, Compared, Expected};
use zoo_runtimes::{LoadOptions, Runtime, Search};
use zoo_sdk::{Array, GraphInfo, Port, RuntimeId, Session, Tensors, sizes_of};

use crate::engine::{Skipped, choose, graph, leave_out, open_bundle};
use crate::reference::{expected, tolerance};
use crate::{Error, Result};

/// What to hold against what.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// Runtimes that must be there; where empty, every one that is found.
    pub runtimes: Vec<RuntimeId>,
    /// `cpu`, `cuda:0`, `tensorrt:0`, `coreml`, `directml`, `webgpu`.
    pub device: String,
    /// Batch sizes, where candle is the reference.
    pub batches: Vec<usize>,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
    /// How long a runtime may take for one answer, where not [as ever](zoo_runtimes::patience).
    pub timeout: Option<Duration>,
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
            timeout: None,
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
    if options.batches.contains(&0) {
        return Err(Error::Usage("a batch has at least one image".to_owned()));
    }
    let bundle = open_bundle(&options.bundle)?;
    let load = LoadOptions {
        device: options.device.parse()?,
        threads: options.threads,
    };
    let (runtimes, mut skipped) = choose(&options.runtimes, &options.search)?;
    let runtimes: Vec<Arc<dyn Runtime>> = runtimes.into_iter().map(Arc::from).collect();
    let asked = !options.runtimes.is_empty();
    let reference = Reference::of(registry, &bundle, options)?;
    let mut rows = Vec::new();
    for (name, graph) in &bundle.manifest().graphs {
        let start = Instant::now();
        let cases = reference.cases(name, &options.batches)?;
        let limit = zoo_runtimes::patience(options.timeout, start.elapsed());
        let say = |error: &zoo_runtimes::Error| error.explained(|| reference.recorded(name));
        for runtime in &runtimes {
            let id = runtime.id();
            if let Err(error) = bundle.variant_for(name, &id) {
                leave_out(id.clone(), error.into(), asked, &mut skipped)?;
            }
            for variant in graph.variants.iter().filter(|v| v.serves(&id)) {
                let content = bundle.content(variant)?;
                same_ports(&bundle, &variant.file, &content, graph)?;
                let case = Case {
                    graph: name,
                    variant: &variant.file,
                    outputs: &graph.outputs,
                    tolerance: tolerance(&content.onnx())?,
                };
                let (own, load) = (runtime.clone(), load.clone());
                let loaded = zoo_runtimes::load_within(&id, limit, move || {
                    zoo_runtimes::load(own.as_ref(), &content, &load)
                });
                let loaded = match loaded {
                    // Not every runtime knows every device.
                    Err(error @ zoo_runtimes::Error::Device { .. }) => {
                        leave_out(id.clone(), error.into(), asked, &mut skipped)?;
                        continue;
                    }
                    other => other,
                };
                let new = case.run(&id, loaded, &cases, &say);
                new.iter().for_each(&mut *progress);
                rows.extend(new);
            }
        }
    }
    Ok(Verification {
        ok: !rows.is_empty() && rows.iter().all(|row| row.ok),
        reference: reference.name(),
        results: rows,
        skipped,
    })
}

/// Refuses a file whose ports are not those of the manifest, which callers go by.
fn same_ports(bundle: &Bundle, file: &str, content: &Content, graph: &GraphEntry) -> Result<()> {
    let (inputs, outputs) = zoo_onnx::ports(content)?;
    let ports = |ports: &[Port]| -> Vec<String> {
        let each = ports.iter();
        each.map(|port| format!("{:?} {}", port.name, port.value_type()))
            .collect()
    };
    for (kind, found, said) in [
        ("input", &inputs, &graph.inputs),
        ("output", &outputs, &graph.outputs),
    ] {
        let (found, said) = (ports(found).join(", "), ports(said).join(", "));
        if found != said {
            return Err(Error::Usage(format!(
                "{}: the {kind}s are {found}, where manifest.json says {said}; the file is of another bundle: export again",
                bundle.dir().join(file).display()
            )));
        }
    }
    Ok(())
}

/// What is right.
enum Reference<'a> {
    Candle {
        path: PathBuf,
        model: String,
        image: [usize; 3],
        session: Box<dyn Session>,
        graphs: Vec<GraphInfo>,
    },
    Vectors(&'a Bundle),
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
            path: trained.path,
            model: trained.model,
            image: trained.data.image,
            session,
            graphs,
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Candle { .. } => RuntimeId::Candle.to_string(),
            Self::Vectors(_) => "test vectors".to_owned(),
        }
    }

    /// The graph as the model records it, where the model is here.
    fn recorded(&self, name: &str) -> Option<Graph> {
        match self {
            Self::Candle { session, .. } => session.export(name).ok(),
            Self::Vectors(_) => None,
        }
    }

    fn cases(&self, name: &str, batches: &[usize]) -> Result<Vec<Expected>> {
        match self {
            Self::Candle {
                path,
                model,
                image,
                session,
                graphs,
            } => {
                let info = graph(graphs, name).ok_or_else(|| Error::NoGraph {
                    path: path.clone(),
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
                    return Err(zoo_runs::Error::Corrupt {
                        path: bundle.dir().to_owned(),
                        what: format!(
                            "has no test vectors of the graph {name:?}, and the plugin of its model {:?} is not here; load the plugin with --plugin, or export the run again",
                            bundle.manifest().model
                        ),
                    }
                    .into());
                }
                let ports = bundle.manifest().graphs.get(name);
                let ports = ports.map_or(&[][..], |graph| graph.inputs.as_slice());
                let expected = sets.into_iter().map(|set| {
                    let inputs: Tensors = set.inputs.into_iter().collect();
                    Expected {
                        sizes: sizes_of(ports, |name| inputs.get(name).map(Array::shape)),
                        inputs,
                        outputs: set.outputs.into_iter().collect(),
                    }
                });
                Ok(expected.collect())
            }
        }
    }
}

/// `sample.tract.onnx` of `onnx/sample.tract.onnx`.
fn file_name(variant: &str) -> &str {
    variant.rsplit_once('/').map_or(variant, |(_, name)| name)
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |heading: &str, cell: &dyn Fn(&Compared) -> String| {
            let cells = self.results.iter().map(|row| cell(row).chars().count());
            cells.chain([heading.len()]).max().unwrap_or(0)
        };
        let file = width("file", &|r| file_name(&r.variant).to_owned());
        let runtime = width("runtime", &|r| r.runtime.to_string());
        let output = width("output", &|r| r.output.clone());
        let batch = width("batch", &Compared::at_sizes);
        writeln!(
            f,
            "{:file$}  {:runtime$}  {:batch$}  {:output$}  verdict  largest difference",
            "file", "runtime", "batch", "output"
        )?;
        for row in &self.results {
            writeln!(
                f,
                "{:file$}  {:runtime$}  {:>batch$}  {:output$}  {:7}  {}",
                file_name(&row.variant),
                row.runtime,
                row.at_sizes(),
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
                row.at_sizes(),
                row.output
            ),
            None => Ok(()),
        }
    }
}
