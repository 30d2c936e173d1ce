//! The library call behind `zoo export`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zoo_data::OwnedDataset;
use zoo_graph::Graph;
use zoo_onnx::bundle::{DataEntry, Proof};
use zoo_onnx::{BundleWriter, Card, Manifest, Variant};
use zoo_runs::directory::grid_png;
use zoo_runs::{Registry, Trained, Which, load_data, open, to_safetensors};
use zoo_runtimes::parity::{Case, Compared, Expected};
use zoo_runtimes::{LoadOptions, Search};
use zoo_sdk::{
    Array, DataSpec, Description, Elements, EvaluateRequest, GraphInfo, GraphKind, Picture, Port,
    PortRole, RuntimeId, Session, Silent, Split, Stream, Tensors, View, must_be_given,
};

use crate::draw::draw;
use crate::engine::graph_of;
use crate::reference::{expected, tolerance};
use crate::{Error, Result};

/// What to export, and for whom.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The run.
    pub run: PathBuf,
    /// The bundle's folder: new, empty, or an older bundle, which is replaced.
    pub out: PathBuf,
    /// Runtimes to serve; all where empty.
    pub targets: Vec<RuntimeId>,
    /// Which weights of the run.
    pub weights: Which,
    /// Stores weights at half precision.
    pub half: bool,
    /// Images of the test split to measure a run's metrics on, all where there are fewer. A bundle's are those it has.
    pub test_images: usize,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// How long a runtime may take for one answer, where not [as ever](zoo_runtimes::patience).
    pub timeout: Option<Duration>,
}

impl ExportOptions {
    /// Exports the newest weights of `run` to `out` for all runtimes.
    pub fn new(run: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            out: out.into(),
            targets: Vec::new(),
            weights: Which::Auto,
            half: false,
            test_images: 1000,
            threads: 0,
            timeout: None,
        }
    }
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its folder.
    pub dir: PathBuf,
    /// What it says of itself; `proven` has what was run before it was written.
    pub manifest: Manifest,
    /// Things a person should know.
    pub warnings: Vec<String>,
}

/// Exports a run as a bundle. `progress` is told of each step.
///
/// Every graph is recorded, checked, and run on tract against candle before anything is put in place: where that fails,
/// `out` is as it was.
///
/// # Errors
/// Where the run cannot be opened, a graph cannot be exported, or a file does not compute what candle computes.
pub fn export(
    registry: &Registry,
    options: &ExportOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Exported> {
    let trained = open(registry, &options.run, options.weights)?;
    let description = registry.describe(&trained.model)?;
    let plugin_error = || Error::plugin(&trained.model);
    let session = trained.session(registry, options.threads, "cpu")?;
    let graphs = session.graphs().map_err(plugin_error())?;
    let mut onnx = zoo_onnx::Options {
        metadata: metadata(&trained),
        ..zoo_onnx::Options::default()
    };
    if options.half {
        onnx.weights = zoo_onnx::Weights::F16;
    }
    if !options.targets.is_empty() {
        onnx.targets = options.targets.clone();
    }
    let mut warnings = trained.warnings.clone();
    let mut writer = BundleWriter::create(&options.out)?;
    writer.file(
        "model.safetensors",
        &to_safetensors(&trained.weights).map_err(Error::Usage)?,
    )?;
    let mut proven = Vec::new();
    for info in &graphs {
        progress(&format!("exporting {}", info.name));
        let recorded = session.export(&info.name).map_err(plugin_error())?;
        let variants = Arc::new(zoo_onnx::export(&recorded, &onnx)?);
        let mut cases = Vec::new();
        let start = Instant::now();
        for (set, batch) in VECTORS.into_iter().enumerate() {
            let seed = trained.seed.wrapping_add(set as u64);
            let case = expected(
                session.as_ref(),
                &graphs,
                info,
                trained.data.image,
                batch,
                seed,
            )
            .map_err(plugin_error())?;
            let inputs = ordered(&info.inputs, &case.inputs);
            writer.vectors(
                set,
                &info.name,
                &inputs,
                &ordered(&info.outputs, &case.outputs),
            )?;
            cases.push(case);
        }
        let proving = Proving {
            info,
            recorded: &recorded,
            cases: &cases,
            limit: zoo_runtimes::patience(options.timeout, start.elapsed()),
        };
        for (at, variant) in variants.iter().enumerate() {
            progress(&format!("checking {}", variant.file_name(&info.name)));
            // A form for other runtimes, beside one for the embedded one, need not run there.
            let elsewhere =
                variants.iter().any(|v| v.serves(&EMBEDDED)) && !variant.serves(&EMBEDDED);
            let mut unproven = Vec::new();
            proven.extend(proving.prove(&variants, at, &mut unproven)?);
            if !elsewhere {
                warnings.append(&mut unproven);
            }
        }
        let (inputs, outputs) = (&info.inputs, &info.outputs);
        writer.graph(&info.name, &info.doc, inputs, outputs, &variants)?;
    }
    let picture = match graph_of(&graphs, GraphKind::Sample) {
        Some(info) if info.inputs.iter().any(must_be_given) => {
            warnings.push(
                "no picture of samples: the model draws them by inputs that must be given".into(),
            );
            None
        }
        Some(info) => {
            progress("drawing samples");
            let images = draw(
                &info.inputs,
                64,
                trained.seed,
                None,
                &Tensors::new(),
                &mut |x| session.run(&info.name, x).map_err(plugin_error()),
            )?;
            writer.file("samples.png", &grid_png(&images)?.0)?;
            Some("samples.png".to_owned())
        }
        None => None,
    };
    let test = test_data(&trained, &mut warnings);
    let picture = match (&test, graph_of(&graphs, GraphKind::Translate)) {
        (Some(data), Some(info)) => {
            progress("translating test images");
            let images = translated(session.as_ref(), &trained, info, data)?;
            writer.file("samples.png", &grid_png(&images)?.0)?;
            Some("samples.png".to_owned())
        }
        _ => picture,
    };
    let metrics = metrics(
        &trained,
        session.as_ref(),
        test.as_ref(),
        options.test_images,
        progress,
    )?;
    let manifest = Manifest {
        model: trained.model.clone(),
        version: trained.version.clone(),
        summary: description.summary.clone(),
        seed: trained.seed,
        step: trained.step,
        data: data_entry(&trained.data),
        metrics,
        config: trained.config.clone(),
        proven,
        ..Manifest::default()
    };
    let manifest = writer.manifest(manifest);
    let dir = writer.finish(manifest.clone(), &card(description, &trained, picture))?;
    Ok(Exported {
        manifest,
        dir,
        warnings,
    })
}

/// The runtime that every export is run on.
const EMBEDDED: RuntimeId = RuntimeId::Tract;

/// Batch sizes of the test vectors.
const VECTORS: [usize; 2] = [1, 3];

/// What every file says of itself.
fn metadata(trained: &Trained) -> Vec<(String, String)> {
    let data = &trained.data;
    let entries = [
        ("model", trained.model.clone()),
        ("version", trained.version.clone()),
        ("seed", trained.seed.to_string()),
        ("steps", trained.step.to_string()),
        ("weights", trained.kind.to_owned()),
        ("data", data.name.clone()),
        ("data_sha256", data.sha256.clone()),
        ("binarization", data.binarization.name().to_owned()),
        ("value_range", "[0, 1]".to_owned()),
        ("layout", "NCHW".to_owned()),
        (
            "producer",
            concat!("zoo ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).to_vec()
}

fn ordered(ports: &[Port], tensors: &Tensors) -> Vec<(String, Array)> {
    let there = ports
        .iter()
        .filter_map(|port| Some((port.name.clone(), tensors.get(&port.name)?.clone())));
    there.collect()
}

/// What the files of a graph are held against.
struct Proving<'a> {
    info: &'a GraphInfo,
    recorded: &'a Graph,
    cases: &'a [Expected],
    /// For each answer of the runtime.
    limit: Duration,
}

impl Proving<'_> {
    /// Checks a file, holds its ports against the graph's, and runs it on the embedded runtime against candle.
    ///
    /// A form that is made for another runtime may use what the embedded one does not have: that is a warning. Wrong values
    /// are an error in any form.
    fn prove(
        &self,
        variants: &Arc<Vec<Variant>>,
        at: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Proof>> {
        let (info, variant) = (self.info, &variants[at]);
        let file = format!("onnx/{}", variant.file_name(&info.name));
        let unproven = |what: String| Error::Unproven {
            graph: info.name.clone(),
            variant: file.clone(),
            runtime: EMBEDDED,
            what,
        };
        for file in variant.content.onnx() {
            zoo_onnx::check(file)?;
        }
        let (inputs, outputs) = zoo_onnx::ports(&variant.content)?;
        let types = |ports: &[Port]| -> Vec<_> {
            let types = ports.iter().map(|p| (p.name.clone(), p.value_type()));
            types.collect()
        };
        if (types(&inputs), types(&outputs)) != (types(&info.inputs), types(&info.outputs)) {
            return Err(unproven(
                "its inputs and outputs are not those of the graph".to_owned(),
            ));
        }
        let case = Case {
            graph: &info.name,
            variant: &file,
            outputs: &info.outputs,
            tolerance: tolerance(&variant.content.onnx())?,
        };
        let runtime = zoo_runtimes::find(&EMBEDDED, &Search::default())?;
        let all = variants.clone();
        let loaded = zoo_runtimes::load_within(&EMBEDDED, self.limit, move || {
            zoo_runtimes::load(runtime.as_ref(), &all[at].content, &LoadOptions::default())
        });
        let say = |error: &zoo_runtimes::Error| error.explained(|| Some(self.recorded.clone()));
        let rows = case.run(&EMBEDDED, loaded, self.cases, &say);
        let made_for_it = variant.serves(&EMBEDDED);
        match rows.iter().find(|row| !row.ok) {
            Some(row) if row.error.is_some() && !made_for_it => {
                warnings.push(format!(
                    "{file} could not be run on {EMBEDDED}, which it is not made for ({}); zoo verify runs it where it belongs",
                    row.finding()
                ));
                Ok(Vec::new())
            }
            Some(row) => Err(unproven(format!(
                "output {:?} at batch {}: {}",
                row.output,
                row.at_sizes(),
                row.finding()
            ))),
            None => Ok(rows.iter().map(proof).collect()),
        }
    }
}

/// A comparison, as a bundle tells of it.
fn proof(row: &Compared) -> Proof {
    Proof {
        graph: row.graph.clone(),
        variant: row.variant.clone(),
        runtime: row.runtime.clone(),
        batch: row.batch,
        sizes: row.sizes.clone(),
        output: row.output.clone(),
        max_abs: row.max_abs,
        max_rel: row.max_rel,
        ok: row.ok,
        error: row.error.clone(),
    }
}

/// The data of a run, if they are still there.
fn test_data(trained: &Trained, warnings: &mut Vec<String>) -> Option<OwnedDataset> {
    let unmeasured = "not measured on the test images";
    match load_data(trained.settings.as_ref()?) {
        Ok(data) if data.spec.sha256 == trained.data.sha256 => Some(data),
        Ok(data) => {
            warnings.push(format!(
                "{unmeasured}: the data {:?} are not those of the training any more",
                data.spec.name
            ));
            None
        }
        Err(error) => {
            warnings.push(format!("{unmeasured}: {error}"));
            None
        }
    }
}

/// Test images in a picture of what a map from images to images does.
const TRANSLATED: usize = 12;

/// Inputs, what the model makes of them, and targets, side by side: `[N,C,H,3W]`.
fn translated(
    session: &dyn Session,
    trained: &Trained,
    info: &GraphInfo,
    data: &OwnedDataset,
) -> Result<Array> {
    let split = data.split("test").map_err(zoo_runs::Error::Data)?;
    let indices: Vec<usize> = (0..split.len().min(TRANSLATED)).collect();
    let stream = Stream::new(trained.seed).named("preview");
    let plugin_error = || Error::plugin(&trained.model);
    let mut made = Vec::new();
    for &index in &indices {
        let Picture { shape, values } = split.example(&data.spec, index, stream, None).image;
        let [c, h, w] = shape;
        let x = Array::f32([1, c, h, w], values).map_err(|e| Error::Usage(e.to_string()))?;
        let inputs = Tensors::from([(PortRole::Image.name().to_owned(), x)]);
        let mut outputs = session.run(&info.name, &inputs).map_err(plugin_error())?;
        made.extend(outputs.remove(PortRole::Translation.name()));
    }
    let made = made
        .iter()
        .map(|y| y.slice(0, 0))
        .collect::<Option<Vec<_>>>();
    let made = made.and_then(|rows| Array::stack(&rows, 0));
    let made =
        made.ok_or_else(|| Error::Usage(format!("the graph {} gives no images", info.name)))?;
    zoo_sdk::side_by_side(&split, &data.spec, &indices, stream, &made).map_err(plugin_error())
}

/// `valid/NAME`: measured while training; `test/NAME`: measured now, on the first images of the test split, whose number
/// is `test/images`.
fn metrics(
    trained: &Trained,
    session: &dyn Session,
    data: Option<&OwnedDataset>,
    images: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, f64>> {
    if trained.settings.is_none() {
        // A bundle says already what was measured where.
        return Ok(trained.metrics.clone());
    }
    let known = trained.metrics.iter();
    let mut metrics: BTreeMap<String, f64> = known
        .map(|(name, value)| (format!("valid/{name}"), *value))
        .collect();
    let Some(data) = data else {
        return Ok(metrics);
    };
    let split = data.split("test").map_err(zoo_runs::Error::Data)?;
    let split = first(split, images, &data.spec);
    if split.is_empty() {
        return Ok(metrics);
    }
    progress(&format!("measuring on {} test images", split.len()));
    let request = EvaluateRequest {
        seed: trained.seed,
        batch: 100,
        importance_samples: 0,
        step: trained.step,
    };
    let measured = session
        .evaluate(&request, &split, &mut Silent)
        .map_err(Error::plugin(&trained.model))?;
    let finite = measured.into_iter().filter(|(_, value)| value.is_finite());
    metrics.extend(finite.map(|(name, value)| (format!("test/{name}"), value)));
    metrics.insert("test/images".to_owned(), split.len() as f64);
    Ok(metrics)
}

/// The first `count` images of a split.
fn first<'a>(split: Split<'a>, count: usize, spec: &DataSpec) -> Split<'a> {
    let count = count.min(split.len());
    let first = |view: View<'a>, pixels: usize| View {
        count,
        elements: match view.elements {
            Elements::U8(values) => Elements::U8(&values[..count * pixels]),
            Elements::F32(values) => Elements::F32(&values[..count * pixels]),
        },
    };
    let target = spec.target.map_or(0, |target| target.iter().product());
    Split {
        images: first(split.images, spec.pixels()),
        labels: split.labels.map(|labels| &labels[..count]),
        targets: split.targets.map(|targets| first(targets, target)),
    }
}

fn data_entry(data: &DataSpec) -> DataEntry {
    DataEntry {
        name: data.name.clone(),
        sha256: data.sha256.clone(),
        binarization: data.binarization.name().to_owned(),
        image: data.image,
        target: data.target,
        degrade: data.degrade.to_string(),
        classes: data.classes.clone(),
        licence: data.licence.clone(),
    }
}

fn card(description: &Description, trained: &Trained, picture: Option<String>) -> Card {
    let paper = &description.paper;
    let licence = trained.data.licence.as_deref().unwrap_or_default();
    let known = [
        ("MIT", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("CC BY-SA 3.0", "cc-by-sa-3.0"),
        ("CC0", "cc0-1.0"),
    ];
    let licence = known.iter().find(|(prefix, _)| licence.starts_with(prefix));
    Card {
        title: format!("{} on {}", description.name, trained.data.name),
        // Weights carry the licence of the images they were made from, unless their author says otherwise.
        licence: licence.map_or("other", |(_, id)| id).to_owned(),
        tags: vec![
            description.family.replace(' ', "-"),
            trained.data.name.clone(),
        ],
        paper: match paper.title.is_empty() {
            true => String::new(),
            false => format!(
                "{}: {} ({}), {}",
                paper.authors, paper.title, paper.year, paper.url
            ),
        },
        picture,
    }
}
