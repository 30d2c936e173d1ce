//! What it takes to draw images pixel by pixel, with kept states and naively.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};
use zoo_data::npy::{read_npy, write_npy};
use zoo_deploy::engine::{CandleGraph, Skipped, choose_beside_candle, graph_of, leave_out};
use zoo_deploy::{Error, ExportOptions, Result, export};
use zoo_onnx::{Bundle, bundle::VariantEntry};
use zoo_runs::settings::Given;
use zoo_runs::{Quiet, Registry, TrainOptions, Which, open, train};
use zoo_runtimes::{LoadOptions, Loaded, Search, example_inputs};
use zoo_sdk::{Array, Data, Distribution, GraphKind, PortRole, RuntimeId, StopReason, Tensors};

use super::BenchSample;

/// The result; its JSON form is stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// One row for each size, batch, runtime and form.
    pub results: Vec<SamplingRow>,
    /// PyTorch's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_version: Option<String>,
    /// Runtimes that were left out, and why; not part of the JSON form.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
}

/// Wall-clock times of drawing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingRow {
    /// The model.
    pub model: String,
    /// Height and width of an image.
    pub pixels: usize,
    /// Images at a time.
    pub batch: usize,
    /// The runtime; candle and `pytorch` among them.
    pub runtime: RuntimeId,
    /// `eager`, `graph` (the loops are in the file), or `steps` (a host runs the loops).
    pub form: String,
    /// Drawing with kept states, in milliseconds an image: the median.
    pub cached_ms: f64,
    /// One evaluation of the whole network for each value, in milliseconds an image: their number times the median of one.
    pub naive_ms: f64,
    /// Of the images drawn, those that are what candle drew from the same noise.
    pub same_images: usize,
}

/// Times drawing. The weights are those of a network after one step of training, as they do not matter for the time.
///
/// # Errors
/// For a model that does not draw value by value, and those of training, export and runtimes. `cancel` is asked between measurements.
pub fn time(
    registry: &Registry,
    options: &BenchSample,
    search: &Search,
    cancel: &(dyn Fn() -> bool + Sync),
    progress: &mut dyn FnMut(&SamplingRow),
) -> Result<Sampling> {
    if options.torch.is_some() && !TORCH.contains(&options.model.as_str()) {
        return Err(Error::Usage(format!(
            "--torch: there is no {} in PyTorch to compare with, only {}",
            options.model,
            TORCH.join(" and ")
        )));
    }
    check_settings(options)?;
    let mut out = Sampling::default();
    for &pixels in &options.pixels {
        let folder =
            tempfile::tempdir().map_err(zoo_runs::Error::io("make", Path::new("a folder")))?;
        let Some(bundle) = prepare(registry, options, pixels, folder.path(), cancel)? else {
            break;
        };
        let case = Case {
            registry,
            options,
            search,
            pixels,
            bundle,
            folder: folder.path(),
        };
        case.time(cancel, &mut out, progress)?;
    }
    Ok(out)
}

/// Settings are the model's, as sizes are given apart, and where PyTorch draws too, those that the script knows.
fn check_settings(options: &BenchSample) -> Result<()> {
    for set in &options.set {
        let (key, value) = set.split_once('=').unwrap_or((set, ""));
        if key.starts_with("data.") || key.starts_with("train.") {
            return Err(Error::Usage(format!(
                "--set {key}: only settings of the model can be set; --pixels and --batch give sizes"
            )));
        }
        let known = match (
            key.strip_prefix("model.").unwrap_or(key),
            value.trim_matches('"'),
        ) {
            ("likelihood", value) => value == "bernoulli",
            ("conditional", value) => value == "false",
            _ => true,
        };
        if options.torch.is_some() && !known {
            return Err(Error::Usage(
                "--torch: PyTorch draws binary images without classes only; leave out --set model.likelihood and model.conditional".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Models that the script draws with.
const TORCH: [&str; 2] = ["pixelcnn", "gated-pixelcnn"];
const SCRIPT: &str = include_str!("torch_sampling.py");

/// Trains for a step and exports; none where it was cancelled.
fn prepare(
    registry: &Registry,
    options: &BenchSample,
    pixels: usize,
    folder: &Path,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Bundle>> {
    let mut training = TrainOptions::new(&options.model, folder.join("run"));
    training.threads = options.threads;
    let fixed = [
        // Any likelihood takes grey images, and the weights do not matter.
        "data.binarization=none".to_owned(),
        format!("data.size={pixels}x{pixels}"),
        "data.limit=64".to_owned(),
        "train.batch=1".to_owned(),
    ];
    training.given = Given {
        data: Some("fashion-small".to_owned()),
        set: fixed.iter().chain(&options.set).cloned().collect(),
        steps: Some(1),
        ..Given::default()
    };
    let trained = train(registry, &training, cancel, &mut Quiet)?;
    if trained.reason == StopReason::Cancelled {
        return Ok(None);
    }
    let mut exporting = ExportOptions::new(trained.run.root(), folder.join("bundle"));
    exporting.threads = options.threads;
    let exported = export(registry, &exporting, &mut |_| {})?;
    Ok(Some(Bundle::open(&exported.dir)?))
}

/// One size of images.
struct Case<'a> {
    registry: &'a Registry,
    options: &'a BenchSample,
    search: &'a Search,
    pixels: usize,
    bundle: Bundle,
    folder: &'a Path,
}

/// The noise of a batch, and the images that candle draws from it.
struct Batch {
    size: usize,
    noise: Tensors,
    images: Array,
}

impl Case<'_> {
    fn time(
        &self,
        cancel: &(dyn Fn() -> bool + Sync),
        out: &mut Sampling,
        progress: &mut dyn FnMut(&SamplingRow),
    ) -> Result<()> {
        let options = self.options;
        let load = LoadOptions {
            threads: options.threads,
            ..LoadOptions::default()
        };
        let trained = open(self.registry, self.bundle.dir(), Which::Auto)?;
        let candle = |kind: GraphKind| -> Result<Box<dyn Loaded>> {
            let session = trained.session(self.registry, options.threads, "cpu")?;
            let graphs = session.graphs().map_err(Error::plugin(&options.model))?;
            let info = graph_of(&graphs, kind.clone()).cloned();
            let info = info.ok_or_else(|| self.unfit(&format!("it has no graph {kind}")))?;
            Ok(Box::new(CandleGraph { session, info }))
        };
        let mut network = candle(GraphKind::LogProb)?;
        let mut sampler = candle(GraphKind::Sample)?;
        let noise = match sampler.inputs() {
            [noise, ..] if noise.distribution == Some(Distribution::Uniform) => noise.clone(),
            _ => return Err(self.unfit("it does not draw from uniform noise")),
        };
        let values: usize = noise.shape_at(1).iter().flatten().product();
        let inputs = sampler.inputs().to_vec();
        let batches = options.batch.iter().map(|&size| {
            let noise = example_inputs(&inputs, size, 0)?;
            let images = picture(&sampler.run(&noise)?)?;
            Ok(Batch {
                size,
                noise,
                images,
            })
        });
        let batches: Vec<Batch> = batches.collect::<Result<_>>()?;
        let mut both = |runtime: &RuntimeId, form: &str, engines: Engines<'_>| -> Result<bool> {
            for batch in &batches {
                if cancel() {
                    return Ok(false);
                }
                let row = self.row(runtime, form, batch, values, (engines.0, engines.1))?;
                progress(&row);
                out.results.push(row);
            }
            Ok(true)
        };
        let asked = !options.runtime.is_empty();
        let (wants_candle, (runtimes, mut missing)) =
            choose_beside_candle(&options.runtime, self.search)?;
        if wants_candle
            && !both(
                &RuntimeId::Candle,
                "eager",
                (sampler.as_mut(), network.as_mut()),
            )?
        {
            return Ok(());
        }
        for runtime in runtimes {
            let id = runtime.id();
            let file = |variant: &VariantEntry| -> Result<Box<dyn Loaded>> {
                let content = self.bundle.content(variant)?;
                Ok(zoo_runtimes::load(runtime.as_ref(), &content, &load)?)
            };
            let mut network = file(self.bundle.variant_for(GraphKind::LogProb.name(), &id)?)?;
            let graphs = &self.bundle.manifest().graphs;
            let forms = graphs
                .get(GraphKind::Sample.name())
                .into_iter()
                .flat_map(|g| &g.variants);
            for variant in forms.filter(|v| v.serves(&id)) {
                let form = variant.driver.as_deref().unwrap_or("graph");
                match file(variant) {
                    Ok(mut sampler) => {
                        if !both(&id, form, (sampler.as_mut(), network.as_mut()))? {
                            return Ok(());
                        }
                    }
                    Err(error) => leave_out(id.clone(), error, asked, &mut missing)?,
                }
            }
        }
        if let Some(python) = &options.torch {
            for batch in &batches {
                if cancel() {
                    return Ok(());
                }
                let (version, row) = self.torch(python, batch, values)?;
                progress(&row);
                out.results.push(row);
                out.torch_version = Some(version);
            }
        }
        missing.retain(|skipped| !out.skipped.contains(skipped));
        out.skipped.extend(missing);
        Ok(())
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Usage(format!(
            "{} is no model that draws value by value: {why}; zoo models lists the autoregressive ones",
            self.options.model
        ))
    }

    /// Times a sampler, and the whole network on the images that were drawn.
    fn row(
        &self,
        runtime: &RuntimeId,
        form: &str,
        batch: &Batch,
        values: usize,
        (sampler, network): Engines<'_>,
    ) -> Result<SamplingRow> {
        let how = zoo_runtimes::BenchOptions {
            time: self.options.time,
            warm_up: 0,
            min_runs: 2,
            ..Default::default()
        };
        let drawn = picture(&sampler.run(&batch.noise)?)?;
        let cached = zoo_runtimes::bench(sampler, &batch.noise, &how)?;
        let mut inputs = batch.noise.clone();
        inputs.remove(PortRole::Noise.name());
        inputs.insert(PortRole::Image.to_string(), batch.images.clone());
        network.run(&inputs)?;
        let whole = zoo_runtimes::bench(network, &inputs, &how)?;
        Ok(self.row_of(
            runtime,
            form,
            batch,
            values,
            [cached.ms_median, whole.ms_median],
            &drawn,
        ))
    }

    /// A row from the milliseconds that a batch takes to draw and to go through the network once.
    fn row_of(
        &self,
        runtime: &RuntimeId,
        form: &str,
        batch: &Batch,
        values: usize,
        [cached, whole]: [f64; 2],
        drawn: &Array,
    ) -> SamplingRow {
        SamplingRow {
            model: self.options.model.clone(),
            pixels: self.pixels,
            batch: batch.size,
            runtime: runtime.clone(),
            form: form.to_owned(),
            cached_ms: cached / batch.size as f64,
            naive_ms: whole * values as f64 / batch.size as f64,
            same_images: same(drawn, &batch.images),
        }
    }

    fn torch(&self, python: &Path, batch: &Batch, values: usize) -> Result<(String, SamplingRow)> {
        /// What the script prints.
        #[derive(Deserialize)]
        struct Line {
            version: String,
            whole_ms: f64,
            cached_ms: f64,
        }
        let problem =
            |message: String| Error::Usage(format!("--torch {}: {message}", python.display()));
        let missing = |message: String| {
            problem(format!(
                "{message}\n  try: python3 -m venv torch-venv && torch-venv/bin/pip install torch safetensors numpy, then --torch torch-venv/bin/python"
            ))
        };
        let file = |name: &str| self.folder.join(name);
        let [script, noise, images] = ["torch_sampling.py", "noise.npy", "images.npy"].map(file);
        std::fs::write(&script, SCRIPT).map_err(zoo_runs::Error::io("write", &script))?;
        let Some(values_of_noise) = batch.noise.get(PortRole::Noise.name()) else {
            return Err(self.unfit("its noise has another name"));
        };
        write_npy(&noise, values_of_noise).map_err(zoo_runs::Error::Io)?;
        let ended = Command::new(python)
            .arg(&script)
            .arg(self.bundle.dir())
            .args([&noise, &images])
            .arg(format!("--threads={}", self.options.threads))
            .arg(format!("--seconds={}", self.options.time.as_secs_f64()))
            .output()
            .map_err(|error| missing(error.to_string()))?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            let last = last.unwrap_or("it ended without a word").trim().to_owned();
            return Err(match last.starts_with("ModuleNotFoundError") {
                true => missing(last),
                false => problem(last),
            });
        }
        let said = String::from_utf8_lossy(&ended.stdout);
        let line: Line =
            serde_json::from_str(said.lines().last().unwrap_or_default()).map_err(|error| {
                problem(format!("the script did not print what it should: {error}"))
            })?;
        let drawn = read_npy(&images).map_err(|error| Error::Usage(error.to_string()))?;
        let times = [line.cached_ms, line.whole_ms];
        let row = self.row_of(&"pytorch".into(), "eager", batch, values, times, &drawn);
        Ok((line.version, row))
    }
}

/// What draws, and what evaluates the whole network.
type Engines<'a> = (&'a mut dyn Loaded, &'a mut dyn Loaded);

fn picture(outputs: &Tensors) -> Result<Array> {
    let images = outputs.get(PortRole::Image.name()).cloned();
    images.ok_or_else(|| Error::Usage("the graph sample gives no images named x".to_owned()))
}

/// How many images are the same, to 1e-4.
fn same(a: &Array, b: &Array) -> usize {
    let (Data::F32(left), Data::F32(right)) = (a.data(), b.data()) else {
        return 0;
    };
    let count = b.shape().first().copied().unwrap_or(0);
    if a.shape() != b.shape() || count == 0 || left.is_empty() {
        return 0;
    }
    let size = left.len() / count;
    let equal = |(a, b): (&[f32], &[f32])| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4);
    left.chunks(size)
        .zip(right.chunks(size))
        .filter(|&pair| equal(pair))
        .count()
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self
            .results
            .iter()
            .map(|row| row.runtime.name().len())
            .max();
        let runtime = longest.unwrap_or(0).max(7);
        write!(
            f,
            "pixels  batch  {:runtime$}  form    cached ms    naive ms   faster  same images",
            "runtime"
        )?;
        for row in &self.results {
            write!(
                f,
                "\n{:>6}  {:>5}  {:runtime$}  {:5}  {:>10.2}  {:>10.1}  {:>7.1}  {:>4} of {}",
                row.pixels,
                row.batch,
                row.runtime,
                row.form,
                row.cached_ms,
                row.naive_ms,
                row.naive_ms / row.cached_ms,
                row.same_images,
                row.batch
            )?;
        }
        if let Some(version) = &self.torch_version {
            write!(f, "\nPyTorch {version}")?;
        }
        for skipped in &self.skipped {
            write!(f, "\n{} was left out: {}", skipped.runtime, skipped.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_compared_one_by_one() {
        let images = |values: &[f32]| Array::f32([2, 1, 1, 2], values.to_vec()).unwrap();
        let a = images(&[0.0, 1.0, 1.0, 0.0]);
        assert_eq!(same(&a, &a), 2);
        assert_eq!(same(&a, &images(&[0.0, 1.0, 1.0, 1.0])), 1);
        assert_eq!(same(&a, &images(&[0.00005, 1.0, 1.0, 0.0])), 2);
        assert_eq!(same(&a, &Array::f32([2, 2], vec![0.0; 4]).unwrap()), 0);
        assert_eq!(same(&a, &Array::i64([4], vec![0; 4]).unwrap()), 0);
    }
}
