//! What computes graphs: bundles on runtimes, chosen by name, and candle beside them.

use std::path::Path;

use serde::Serialize;
use zoo_onnx::{Bundle, Content};
use zoo_runtimes::{Loaded, Runtime, Search};
use zoo_sdk::{GraphInfo, GraphKind, Port, RuntimeId, Session, Tensors};

use crate::{Error, Result};

/// Whether `path` is a bundle rather than a run.
pub fn is_bundle(path: &Path) -> bool {
    path.join("manifest.json").is_file() && !path.join("config.toml").is_file()
}

/// Opens a bundle, every hash checked.
///
/// # Errors
/// For what is no bundle, with what to do, and for a damaged one.
pub fn open_bundle(path: &Path) -> Result<Bundle> {
    if is_bundle(path) {
        return Ok(Bundle::open(path)?);
    }
    let what = if path.join("config.toml").is_file() {
        "is a run; export it first, with zoo export RUN --out DIR, and give that folder"
    } else if path.is_dir() {
        "is no bundle (no manifest.json); give the folder that zoo export wrote"
    } else if path.exists() {
        "is a file; give the folder that zoo export wrote"
    } else {
        "there is no such folder; check the path"
    };
    let (path, what) = (path.to_owned(), what.to_owned());
    Err(zoo_runs::Error::NotARun { path, what }.into())
}

/// A runtime, ready to load files.
///
/// # Errors
/// For an unknown one, with those there are, candle too, and for one that cannot be had.
pub fn find(id: &RuntimeId, search: &Search) -> Result<Box<dyn Runtime>> {
    zoo_runtimes::find(id, search).map_err(|error| match error {
        zoo_runtimes::Error::UnknownRuntime { name, available } => {
            zoo_runtimes::Error::UnknownRuntime {
                name,
                available: format!("{}, {available}", RuntimeId::Candle),
            }
            .into()
        }
        other => other.into(),
    })
}

/// A runtime that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which one.
    pub runtime: RuntimeId,
    /// Why, and the way out.
    pub reason: String,
}

/// Runtimes, and those that were left out.
pub type Chosen = (Vec<Box<dyn Runtime>>, Vec<Skipped>);

/// The runtimes asked for, all of which must be there; or, where none was named, those that are, with what is missing.
///
/// # Errors
/// For a runtime that was asked for and cannot be had.
pub fn choose(asked: &[RuntimeId], search: &Search) -> Result<Chosen> {
    if !asked.is_empty() {
        let mut once: Vec<&RuntimeId> = Vec::new();
        for id in asked {
            if !once.contains(&id) {
                once.push(id);
            }
        }
        let found = once.into_iter().map(|id| find(id, search));
        return Ok((found.collect::<Result<_>>()?, Vec::new()));
    }
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (runtime, usable) in zoo_runtimes::found(search) {
        match usable {
            Ok(usable) => found.push(usable),
            Err(error) => skipped.push(Skipped {
                runtime,
                reason: error.to_string(),
            }),
        }
    }
    skipped.extend(zoo_runtimes::not_built().map(|runtime| Skipped {
        reason: format!("this program was built without it; build with --features {runtime}"),
        runtime,
    }));
    Ok((found, skipped))
}

/// As [`choose`], where candle may be asked for too: whether it was, or nothing was, and the others.
///
/// # Errors
/// As for [`choose`].
pub fn choose_beside_candle(asked: &[RuntimeId], search: &Search) -> Result<(bool, Chosen)> {
    let others = asked.iter().filter(|r| **r != RuntimeId::Candle);
    let others: Vec<RuntimeId> = others.cloned().collect();
    let candle = asked.is_empty() || others.len() < asked.len();
    let only_candle = others.is_empty() && !asked.is_empty();
    let chosen = match only_candle {
        true => (Vec::new(), Vec::new()),
        false => choose(&others, search)?,
    };
    Ok((candle, chosen))
}

/// What keeps a runtime from being used is a note, once, where nobody asked for it.
///
/// # Errors
/// `why`, where it was `asked` for.
pub fn leave_out(
    runtime: RuntimeId,
    why: Error,
    asked: bool,
    skipped: &mut Vec<Skipped>,
) -> Result<()> {
    if asked {
        return Err(why);
    }
    let note = Skipped {
        runtime,
        reason: why.to_string(),
    };
    if !skipped.contains(&note) {
        skipped.push(note);
    }
    Ok(())
}

/// The graph called `name` among `graphs`.
pub fn graph<'a>(graphs: &'a [GraphInfo], name: &str) -> Option<&'a GraphInfo> {
    graphs.iter().find(|graph| graph.name == name)
}

/// The graph among `graphs` that computes this.
pub fn graph_of(graphs: &[GraphInfo], kind: GraphKind) -> Option<&GraphInfo> {
    graph(graphs, kind.name())
}

/// A graph of a model as the file that `runtime` takes, made in memory.
pub(crate) fn file_for(
    runtime: &RuntimeId,
    session: &dyn Session,
    model: &str,
    graph: &str,
) -> Result<Content> {
    let recorded = session.export(graph).map_err(Error::plugin(model))?;
    let targets = zoo_onnx::Options {
        targets: vec![runtime.clone()],
        ..zoo_onnx::Options::default()
    };
    let exported = zoo_onnx::export(&recorded, &targets)?.into_iter().next();
    exported
        .map(|variant| variant.content)
        .ok_or_else(|| Error::Usage(format!("nothing was exported for {runtime}")))
}

/// A session's graph in the place of a runtime's file.
pub struct CandleGraph {
    /// The model.
    pub session: Box<dyn Session>,
    /// Its graph.
    pub info: GraphInfo,
}

impl Loaded for CandleGraph {
    fn inputs(&self) -> &[Port] {
        &self.info.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.info.outputs
    }

    fn run(&mut self, inputs: &Tensors) -> zoo_runtimes::Result<Tensors> {
        self.session
            .run(&self.info.name, inputs)
            .map_err(|error| zoo_runtimes::Error::Run {
                runtime: RuntimeId::Candle,
                sizes: inputs
                    .iter()
                    .map(|(name, array)| format!("{name} {:?}", array.shape()))
                    .collect::<Vec<_>>()
                    .join(", "),
                reason: error.to_string(),
            })
    }
}
