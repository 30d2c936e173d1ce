//! The library call behind `zoo sample`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use zoo_onnx::Content;
use zoo_runs::{Registry, Which, open};
use zoo_runtimes::{LoadOptions, Search};
use zoo_sdk::{
    Array, Binarization, Distribution, GraphInfo, GraphKind, Port, PortRole, RuntimeId, Tensors,
};

use crate::draw::draw;
use crate::engine::{file_for, find, graph_of, is_bundle, open_bundle};
use crate::{Error, Result};

mod given;
mod known;

pub use given::Given;
pub use known::Known;

/// What to draw, and with what.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// A run or a bundle.
    pub path: PathBuf,
    /// How many images.
    pub count: usize,
    /// Seeds the noise; the same in every runtime.
    pub seed: u64,
    /// The class to draw, for models that take one; all in turn where left out.
    pub label: Option<i64>,
    /// A partly given image to complete, for models that can.
    pub known: Option<Known>,
    /// Further inputs of the graph that draws, by name.
    pub inputs: Vec<(String, Given)>,
    /// What computes; left out: candle for a run, tract for a bundle.
    pub runtime: Option<RuntimeId>,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Which weights of a run.
    pub weights: Which,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl SampleOptions {
    /// Draws 64 images from `path` with seed 0 on the CPU.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            count: 64,
            seed: 0,
            label: None,
            known: None,
            inputs: Vec::new(),
            runtime: None,
            device: "cpu".to_owned(),
            weights: Which::Auto,
            threads: 0,
            search: Search::default(),
        }
    }
}

/// Images that a model drew.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `[N,C,H,W]` in [0, 1].
    pub images: Array,
    /// Whether they were drawn value after value, from uniform noise for each.
    pub raster: bool,
    /// The mask `[1,C,H,W]` of what was given.
    pub mask: Option<Array>,
    /// The model's name.
    pub model: String,
    /// What computed them.
    pub runtime: RuntimeId,
    /// Seconds that the drawing took, without loading.
    pub seconds: f64,
}

impl Samples {
    /// Writes them as a PNG of rows and columns; or, where the name ends in `.gif`, as an animation of how they were drawn.
    ///
    /// # Errors
    /// For images of other than 1 or 3 channels, for an animation of images that were drawn at once, and where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        if !zoo_pictures::has_extension(path, "gif") {
            let grid = zoo_pictures::square(&self.images)?;
            return Ok(zoo_pictures::save_png(&grid, path)?);
        }
        if !self.raster {
            return Err(Error::Usage(format!(
                "{}: {} draws its images at once, so there is nothing to animate; name a .png",
                path.display(),
                self.model
            )));
        }
        let frames = zoo_pictures::drawing(&self.images, self.mask.as_ref())?;
        Ok(zoo_pictures::save_gif(&frames, path)?)
    }
}

/// Whether images come from uniform noise for each of their values.
fn is_raster(inputs: &[Port], image: [usize; 3]) -> bool {
    let [c, h, w] = image;
    inputs.iter().any(|port| {
        port.distribution == Some(Distribution::Uniform)
            && port.shape_at(1) == Some(vec![1, c, h, w])
    })
}

impl SampleOptions {
    /// The graph that draws.
    fn graph(&self) -> GraphKind {
        match self.known {
            Some(_) => GraphKind::Complete,
            None => GraphKind::Sample,
        }
    }

    /// The inputs among `ports` that are not drawn.
    fn read_given(&self, ports: &[Port], image: [usize; 3], binarization: &str) -> Result<Tensors> {
        let binary = binarization != Binarization::None.name();
        let mut given = match &self.known {
            Some(known) => known.read(image, binary)?,
            None => Tensors::new(),
        };
        given.extend(given::read(&self.inputs, &given, ports, self.count)?);
        Ok(given)
    }
}

/// Draws images with the graph `sample` of a run or a bundle, or completes one with its graph `complete`.
///
/// The noise follows from the seed and the image's index alone, so that every runtime draws the same pictures, save that
/// of 256 levels rounding may choose the next one, and what follows then differs. A run on
/// another runtime than candle is exported in memory first.
///
/// # Errors
/// Where there is nothing to open, the model cannot be sampled, or the runtime or device cannot be had.
pub fn sample(registry: &Registry, options: &SampleOptions) -> Result<Samples> {
    let runtime = match &options.runtime {
        Some(runtime) => runtime,
        None if is_bundle(&options.path) => &RuntimeId::Tract,
        None => &RuntimeId::Candle,
    };
    let (count, seed, label) = (options.count, options.seed, options.label);
    let drawn =
        |model: String, inputs: &[Port], given: &Tensors, images: Result<Array>, start: Instant| {
            let images = images?;
            let image = <[usize; 3]>::try_from(images.shape().get(1..).unwrap_or_default());
            Ok(Samples {
                raster: image.is_ok_and(|image| is_raster(inputs, image)),
                mask: given.get(PortRole::Mask.name()).cloned(),
                images,
                model,
                runtime: runtime.clone(),
                seconds: start.elapsed().as_secs_f64(),
            })
        };
    if *runtime != RuntimeId::Candle {
        let engine = find(runtime, &options.search)?;
        let load = LoadOptions {
            device: options.device.parse()?,
            threads: options.threads,
        };
        let Sampler {
            model,
            inputs,
            given,
            file,
        } = sampler(registry, options, runtime)?;
        let mut loaded = zoo_runtimes::load(engine.as_ref(), &file, &load)?;
        let start = Instant::now();
        let images = draw(&inputs, count, seed, label, &given, &mut |x| {
            Ok(loaded.run(x)?)
        });
        return drawn(model, &inputs, &given, images, start);
    }
    let trained = open(registry, &options.path, options.weights)?;
    let session = trained.session(registry, options.threads, &options.device)?;
    let graphs = session.graphs().map_err(Error::plugin(&trained.model))?;
    let info = sample_graph(options, &trained.model, &graphs)?;
    let data = &trained.data;
    let given = options.read_given(&info.inputs, data.image, data.binarization.name())?;
    let start = Instant::now();
    let images = draw(&info.inputs, count, seed, label, &given, &mut |x| {
        session
            .run(&info.name, x)
            .map_err(Error::plugin(&trained.model))
    });
    let model = trained.model.clone();
    drawn(model, &info.inputs, &given, images, start)
}

/// An ONNX file that draws.
struct Sampler {
    model: String,
    inputs: Vec<Port>,
    given: Tensors,
    file: Content,
}

/// The file that draws on `runtime`: a bundle's, or one made of the run.
fn sampler(registry: &Registry, options: &SampleOptions, runtime: &RuntimeId) -> Result<Sampler> {
    if is_bundle(&options.path) {
        let bundle = open_bundle(&options.path)?;
        let manifest = bundle.manifest();
        let kind = options.graph();
        let Some(graph) = manifest.graphs.get(kind.name()) else {
            let graphs = manifest.graphs.keys().cloned().collect();
            return Err(no_sampler(options, &manifest.model, graphs));
        };
        let data = &manifest.data;
        return Ok(Sampler {
            model: manifest.model.clone(),
            inputs: graph.inputs.clone(),
            given: options.read_given(&graph.inputs, data.image, &data.binarization)?,
            file: bundle.content(bundle.variant_for(kind.name(), runtime)?)?,
        });
    }
    let trained = open(registry, &options.path, options.weights)?;
    let session = trained.session(registry, options.threads, "cpu")?;
    let graphs = session.graphs().map_err(Error::plugin(&trained.model))?;
    let info = sample_graph(options, &trained.model, &graphs)?;
    Ok(Sampler {
        inputs: info.inputs.clone(),
        given: options.read_given(
            &info.inputs,
            trained.data.image,
            trained.data.binarization.name(),
        )?,
        file: file_for(runtime, session.as_ref(), &trained.model, &info.name)?,
        model: trained.model,
    })
}

fn sample_graph<'a>(
    options: &SampleOptions,
    model: &str,
    graphs: &'a [GraphInfo],
) -> Result<&'a GraphInfo> {
    graph_of(graphs, options.graph()).ok_or_else(|| {
        no_sampler(
            options,
            model,
            graphs.iter().map(|g| g.name.clone()).collect(),
        )
    })
}

fn no_sampler(options: &SampleOptions, model: &str, graphs: Vec<String>) -> Error {
    let translates = graphs
        .iter()
        .any(|name| name == GraphKind::Translate.name());
    Error::NoGraph {
        path: options.path.clone(),
        model: model.to_owned(),
        graph: options.graph().to_string(),
        graphs,
        hint: match options.known {
            Some(_) => "it cannot complete images; leave out --given and --mask",
            None if translates => {
                "it maps images to images: zoo translate gives what it makes of yours"
            }
            None => "it cannot be sampled",
        },
    }
}
