//! The library call behind `zoo translate`.

use std::path::{Path, PathBuf};

use zoo_runs::{Registry, Which, open};
use zoo_runtimes::{LoadOptions, Loaded, Search};
use zoo_sdk::{Array, GraphInfo, GraphKind, Port, PortRole, RuntimeId, Tensors};

use crate::engine::{CandleGraph, file_for, find, graph_of, is_bundle, open_bundle};
use crate::{Error, Result};

/// What to translate, and with what.
#[derive(Clone, Debug)]
pub struct TranslateOptions {
    /// A run or a bundle.
    pub path: PathBuf,
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

/// A model that maps images to images, ready to compute.
pub struct Translator {
    /// The model's name.
    pub model: String,
    /// What computes.
    pub runtime: RuntimeId,
    loaded: Box<dyn Loaded>,
}

impl Translator {
    /// Opens the graph `translate` of a run or a bundle. A run on another runtime than candle is exported in memory first.
    ///
    /// # Errors
    /// Where there is nothing to open, the model does not map images to images, or the runtime or device cannot be had.
    pub fn open(registry: &Registry, options: &TranslateOptions) -> Result<Self> {
        let kind = GraphKind::Translate;
        let missing = |model: &str, graphs: Vec<String>| Error::NoGraph {
            path: options.path.clone(),
            model: model.to_owned(),
            graph: kind.name().to_owned(),
            graphs,
            hint: "it does not map images to images",
        };
        let bundle = is_bundle(&options.path);
        let runtime = match (&options.runtime, bundle) {
            (Some(runtime), _) => runtime.clone(),
            (None, true) => RuntimeId::Tract,
            (None, false) => RuntimeId::Candle,
        };
        if bundle && runtime != RuntimeId::Candle {
            let bundle = open_bundle(&options.path)?;
            let manifest = bundle.manifest();
            if !manifest.graphs.contains_key(kind.name()) {
                return Err(missing(
                    &manifest.model,
                    manifest.graphs.keys().cloned().collect(),
                ));
            }
            let content = bundle.content(bundle.variant_for(kind.name(), &runtime)?)?;
            let loaded = options.load(&runtime, &content)?;
            return Ok(Self {
                model: manifest.model.clone(),
                runtime,
                loaded,
            });
        }
        let trained = open(registry, &options.path, options.weights)?;
        let device = match runtime {
            RuntimeId::Candle => options.device.as_str(),
            _ => "cpu",
        };
        let session = trained.session(registry, options.threads, device)?;
        let graphs: Vec<GraphInfo> = session.graphs().map_err(Error::plugin(&trained.model))?;
        let info = graph_of(&graphs, kind.clone()).ok_or_else(|| {
            missing(
                &trained.model,
                graphs.iter().map(|g| g.name.clone()).collect(),
            )
        })?;
        let loaded: Box<dyn Loaded> = match runtime {
            RuntimeId::Candle => Box::new(CandleGraph {
                info: info.clone(),
                session,
            }),
            _ => {
                let content = file_for(&runtime, session.as_ref(), &trained.model, kind.name())?;
                options.load(&runtime, &content)?
            }
        };
        Ok(Self {
            model: trained.model,
            runtime,
            loaded,
        })
    }

    /// What becomes of the picture at `path`, a PNG or JPEG: `[1,C,H,W]` in [0, 1]. A grey picture serves where colours are wanted.
    ///
    /// # Errors
    /// For what is no picture, or has another size or more colours than the model takes.
    pub fn picture(&mut self, path: &Path) -> Result<Array> {
        let wrong = |what: String| Error::Usage(format!("{}: {what}", path.display()));
        let picture = zoo_pictures::read_image(path)?;
        let (&[c, h, w], Ok(values)) = (picture.shape(), picture.as_f32()) else {
            return Err(wrong("it is no picture".to_owned()));
        };
        let port = match self.loaded.inputs() {
            [port] => port.clone(),
            others => {
                let names: Vec<&str> = others.iter().map(|port| port.name.as_str()).collect();
                return Err(Error::Usage(format!(
                    "the graph {} of {} reads {}, where a picture is one input; run its file with zoo run",
                    GraphKind::Translate,
                    self.model,
                    names.join(", ")
                )));
            }
        };
        let channels = channels(&port).unwrap_or(c);
        if c > channels {
            return Err(wrong(format!(
                "it has colours, and {} takes grey pictures; make it grey",
                self.model
            )));
        }
        let x = Array::f32([1, channels, h, w], values.repeat(channels / c))
            .map_err(|e| wrong(e.to_string()))?;
        let inputs = Tensors::from([(port.name, x)]);
        let mut outputs = self.loaded.run(&inputs).map_err(|e| wrong(e.to_string()))?;
        let y = PortRole::Translation;
        outputs
            .remove(y.name())
            .ok_or_else(|| Error::Usage(format!("the graph {} gives no {y}", GraphKind::Translate)))
    }
}

impl TranslateOptions {
    fn load(&self, runtime: &RuntimeId, content: &zoo_onnx::Content) -> Result<Box<dyn Loaded>> {
        let engine = find(runtime, &self.search)?;
        let options = LoadOptions {
            device: self.device.parse()?,
            threads: self.threads,
        };
        Ok(zoo_runtimes::load(engine.as_ref(), content, &options)?)
    }
}

/// Channels of the images that a port takes.
fn channels(port: &Port) -> Option<usize> {
    port.shape.get(1)?.fixed()
}
