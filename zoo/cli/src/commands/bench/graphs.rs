//! Wall-clock times of every graph of a bundle, on every runtime.

use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_deploy::engine::{
    CandleGraph, Skipped, choose_beside_candle, graph, leave_out, open_bundle,
};
use zoo_deploy::{Error, Result};
use zoo_onnx::Bundle;
use zoo_runs::{Registry, Trained, Which, open};
use zoo_runtimes::{Device, LoadOptions, Loaded, Runtime, RuntimeId, Search};

use zoo_sdk::{Sizes, with_sides};

use super::Bench;

/// Pixels of a side that is open, if nothing is said.
const SIDE: usize = 64;

/// The result; its JSON form is stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// One row for each graph, runtime and batch.
    pub results: Vec<BenchRow>,
    /// Runtimes that were left out, and why; not part of the JSON form.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
}

/// Wall-clock times of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// The graph.
    pub graph: String,
    /// The runtime, candle among them.
    pub runtime: RuntimeId,
    /// The device.
    pub device: String,
    /// Images at a time.
    pub batch: usize,
    /// What the other symbols of the graph stood for, if it has any.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
    /// CPU threads.
    pub threads: usize,
    /// Median, in milliseconds.
    pub ms_median: f64,
    /// Least, in milliseconds.
    pub ms_min: f64,
    /// At the median.
    pub images_per_s: f64,
}

/// Times every graph of a bundle on every runtime. `progress` hears of each row as it is made.
///
/// # Errors
/// As for [`zoo_deploy::verify`].
pub fn time(
    registry: &Registry,
    options: &Bench,
    search: &Search,
    progress: &mut dyn FnMut(&BenchRow),
) -> Result<Timings> {
    let bundle = open_bundle(&options.bundle)?;
    let load = LoadOptions {
        device: options.device.parse()?,
        threads: options.threads,
    };
    let asked = !options.runtime.is_empty();
    let mut engines = Vec::new();
    let mut out = Timings::default();
    let (candle, (runtimes, skipped)) = choose_beside_candle(&options.runtime, search)?;
    if candle {
        match candle_source(registry, &bundle, load.device) {
            Ok(source) => engines.push(source),
            Err(error) => leave_out(RuntimeId::Candle, error, asked, &mut out.skipped)?,
        }
    }
    out.skipped.extend(skipped);
    engines.extend(runtimes.into_iter().map(Source::Runtime));
    let measure = Measure {
        registry,
        options,
        bundle: &bundle,
        load: &load,
    };
    for graph in bundle.manifest().graphs.keys() {
        for engine in &engines {
            let loaded = match measure.load(graph, engine) {
                Ok(loaded) => loaded,
                Err(error) => {
                    leave_out(engine.id(), error, asked, &mut out.skipped)?;
                    continue;
                }
            };
            for row in measure.time(graph, engine, loaded)? {
                progress(&row);
                out.results.push(row);
            }
        }
    }
    Ok(out)
}

/// What computes.
enum Source {
    Candle(Box<Trained>),
    Runtime(Box<dyn Runtime>),
}

impl Source {
    fn id(&self) -> RuntimeId {
        match self {
            Self::Candle(_) => RuntimeId::Candle,
            Self::Runtime(runtime) => runtime.id(),
        }
    }
}

fn candle_source(registry: &Registry, bundle: &Bundle, device: Device) -> Result<Source> {
    if !matches!(device, Device::Cpu | Device::Cuda(_)) {
        return Err(Error::Usage(format!(
            "candle does not compute on {device}; leave it out of --runtime"
        )));
    }
    Ok(Source::Candle(Box::new(open(
        registry,
        bundle.dir(),
        Which::Auto,
    )?)))
}

struct Measure<'a> {
    registry: &'a Registry,
    options: &'a Bench,
    bundle: &'a Bundle,
    load: &'a LoadOptions,
}

impl Measure<'_> {
    fn load(&self, name: &str, source: &Source) -> Result<Box<dyn Loaded>> {
        match source {
            Source::Candle(trained) => {
                let device = &self.options.device;
                let session = trained.session(self.registry, self.options.threads, device)?;
                let graphs = session.graphs().map_err(Error::plugin(&trained.model))?;
                let info = graph(&graphs, name).cloned().ok_or_else(|| Error::NoGraph {
                    path: self.bundle.dir().to_owned(),
                    model: trained.model.clone(),
                    graph: name.to_owned(),
                    graphs: graphs.iter().map(|g| g.name.clone()).collect(),
                    hint: "the bundle was exported by another version of the model: export it again",
                })?;
                Ok(Box::new(CandleGraph { session, info }))
            }
            Source::Runtime(runtime) => {
                let variant = self.bundle.variant_for(name, &runtime.id())?;
                let content = self.bundle.content(variant)?;
                Ok(zoo_runtimes::load(runtime.as_ref(), &content, self.load)?)
            }
        }
    }

    fn time(
        &self,
        name: &str,
        source: &Source,
        mut loaded: Box<dyn Loaded>,
    ) -> Result<Vec<BenchRow>> {
        let ports = self.bundle.manifest().graphs.get(name);
        let ports = ports.map_or(&[][..], |graph| graph.inputs.as_slice());
        let how = zoo_runtimes::BenchOptions {
            time: self.options.time,
            ..Default::default()
        };
        let rows = self.options.batch.iter().map(|&batch| {
            let asked = self.options.size.iter();
            let asked = asked.fold(Sizes::batch(batch), |sizes, (symbol, size)| {
                sizes.with(symbol, *size)
            });
            let sizes = with_sides(ports, asked, SIDE, 0);
            let inputs = zoo_runtimes::example_inputs(ports, &sizes, 0)?;
            let figures = zoo_runtimes::bench(loaded.as_mut(), &inputs, &how)?;
            Ok(BenchRow {
                graph: name.to_owned(),
                runtime: source.id(),
                device: self.options.device.clone(),
                batch,
                sizes: sizes.clone().free(),
                threads: match source.id() {
                    // It has no threads within an operation.
                    RuntimeId::Tract => 1,
                    _ => self.options.threads,
                },
                ms_median: figures.ms_median,
                ms_min: figures.ms_min,
                images_per_s: batch as f64 / figures.ms_median * 1e3,
            })
        });
        rows.collect()
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = |name: fn(&BenchRow) -> &str| {
            let names = self.results.iter().map(|row| name(row).len());
            names.chain([7]).max().unwrap_or(7)
        };
        let (graph, runtime) = (longest(|r| &r.graph), longest(|r| r.runtime.name()));
        write!(
            f,
            "{:graph$}  {:runtime$}  device  batch  threads  median ms     min ms   images/s",
            "graph", "runtime"
        )?;
        for row in &self.results {
            write!(
                f,
                "\n{:graph$}  {:runtime$}  {:6}  {:>5}  {:>7}  {:>9.3}  {:>9.3}  {:>9.0}",
                row.graph,
                row.runtime,
                row.device,
                row.batch,
                row.threads,
                row.ms_median,
                row.ms_min,
                row.images_per_s
            )?;
            if !row.sizes.is_empty() {
                write!(f, "  {}", row.sizes)?;
            }
        }
        for skipped in &self.skipped {
            write!(f, "\n{} was left out: {}", skipped.runtime, skipped.reason)?;
        }
        Ok(())
    }
}
