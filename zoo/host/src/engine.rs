//! What the calls on graphs share: opening bundles, choosing runtimes, and inputs to try a graph on.

use std::path::Path;

use zoo_onnx::Bundle;
use zoo_runtimes::{Loaded, RUNTIMES, Runtime, Search, example_inputs};
use zoo_sdk::{Array, DType, Data, GraphInfo, Port, Session, Tensors, draw_inputs};

use crate::verify::Skipped;
use crate::{Error, Result};

/// The name of what trains, where runtimes are named.
pub(crate) const CANDLE: &str = "candle";

/// Whether `path` is a bundle rather than a run.
pub(crate) fn is_bundle(path: &Path) -> bool {
    path.join("manifest.json").is_file() && !path.join("config.toml").is_file()
}

/// Opens a bundle, every hash checked; a run gets told what to do.
pub(crate) fn open_bundle(path: &Path) -> Result<Bundle> {
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
    Err(Error::NotARun {
        path: path.to_owned(),
        what: what.to_owned(),
    })
}

/// The runtime called `name`; the error for an unknown one lists candle too.
pub(crate) fn find(name: &str, search: &Search) -> Result<Box<dyn Runtime>> {
    zoo_runtimes::find(name, search).map_err(|error| match error {
        zoo_runtimes::Error::UnknownRuntime { name, available } => {
            zoo_runtimes::Error::UnknownRuntime {
                name,
                available: format!("{CANDLE}, {available}"),
            }
            .into()
        }
        other => other.into(),
    })
}

/// Runtimes, and those that were left out.
pub(crate) type Chosen = (Vec<Box<dyn Runtime>>, Vec<Skipped>);

/// The runtimes asked for, all of which must be there; or, where none was named, those that are, with what is missing.
pub(crate) fn choose(asked: &[String], search: &Search) -> Result<Chosen> {
    if !asked.is_empty() {
        let mut names: Vec<&String> = Vec::new();
        for name in asked {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let found = names.into_iter().map(|name| find(name, search));
        return Ok((found.collect::<Result<_>>()?, Vec::new()));
    }
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (name, runtime) in zoo_runtimes::found(search) {
        match runtime {
            Ok(runtime) => found.push(runtime),
            Err(error) => skipped.push(Skipped {
                runtime: name.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
    for name in ["ort", "candle-onnx"] {
        if !RUNTIMES.contains(&name) {
            skipped.push(Skipped {
                runtime: name.to_owned(),
                reason: format!("this program was built without it; build with --features {name}"),
            });
        }
    }
    Ok((found, skipped))
}

/// As [`choose`], where candle may be asked for too: whether it was, or nothing was, and the others.
pub(crate) fn choose_beside_candle(asked: &[String], search: &Search) -> Result<(bool, Chosen)> {
    let others: Vec<String> = asked.iter().filter(|r| *r != CANDLE).cloned().collect();
    let candle = asked.is_empty() || others.len() < asked.len();
    let only_candle = others.is_empty() && !asked.is_empty();
    let chosen = match only_candle {
        true => (Vec::new(), Vec::new()),
        false => choose(&others, search)?,
    };
    Ok((candle, chosen))
}

/// What keeps a runtime from being used is an error where it was asked for, else a note, once.
pub(crate) fn leave_out(
    runtime: &str,
    why: Error,
    asked: bool,
    skipped: &mut Vec<Skipped>,
) -> Result<()> {
    if asked {
        return Err(why);
    }
    let note = Skipped {
        runtime: runtime.to_owned(),
        reason: why.to_string(),
    };
    if !skipped.contains(&note) {
        skipped.push(note);
    }
    Ok(())
}

/// The graph called `name` among `graphs`.
pub(crate) fn graph<'a>(graphs: &'a [GraphInfo], name: &str) -> Option<&'a GraphInfo> {
    graphs.iter().find(|graph| graph.name == name)
}

/// Inputs of batch `n` to try a graph on: noise and labels by their ports, images drawn by the model itself (never those of
/// a data set), anything else at random in its range.
pub(crate) fn probe(
    session: &dyn Session,
    graphs: &[GraphInfo],
    info: &GraphInfo,
    image: [usize; 3],
    n: usize,
    seed: u64,
) -> zoo_sdk::Result<Tensors> {
    let mut inputs = Tensors::new();
    for port in &info.inputs {
        let one = std::slice::from_ref(port);
        let drawn = if port.distribution.is_some() || port.dtype == DType::I64 {
            draw_inputs(one, n, seed, None)?
        } else if is_image(port, image)
            && let Some(sample) = graph(graphs, "sample")
            && sample.name != info.name
        {
            let noise = draw_inputs(&sample.inputs, n, seed, None)?;
            let mut images = session.run(&sample.name, &noise)?;
            let images = images
                .remove("x")
                .ok_or_else(|| zoo_sdk::Error::Internal("the graph sample gave no x".into()))?;
            Tensors::from([(port.name.clone(), images)])
        } else {
            example_inputs(one, n, seed).map_err(|e| zoo_sdk::Error::input(e.to_string()))?
        };
        inputs.extend(drawn);
    }
    Ok(inputs)
}

fn is_image(port: &Port, [c, h, w]: [usize; 3]) -> bool {
    port.dtype == DType::F32 && port.name != "mask" && port.shape_at(1) == Some(vec![1, c, h, w])
}

/// Images at a time when many are drawn.
const BATCH: usize = 64;

/// Draws `count` images with a sampler that `run` computes, a batch at a time. `known` has what is the same for all of them, one row each.
pub(crate) fn draw(
    ports: &[Port],
    count: usize,
    seed: u64,
    label: Option<i64>,
    known: &Tensors,
    run: &mut dyn FnMut(&Tensors) -> Result<Tensors>,
) -> Result<Array> {
    if count == 0 {
        return Err(Error::Usage("no images to draw: give -n 1 or more".into()));
    }
    if label.is_some() && !ports.iter().any(|port| port.dtype == DType::I64) {
        return Err(Error::Usage(
            "--label: this model draws images of no particular class; leave it out".into(),
        ));
    }
    let drawn: Vec<Port> = ports
        .iter()
        .filter(|port| !known.contains_key(&port.name))
        .cloned()
        .collect();
    let inputs =
        draw_inputs(&drawn, count, seed, label).map_err(|e| Error::Usage(e.to_string()))?;
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    for start in (0..count).step_by(BATCH) {
        let end = count.min(start + BATCH);
        let part = inputs
            .iter()
            .map(|(name, array)| (name.clone(), array.rows(start, end)));
        let mut part: Tensors = part.collect();
        for (name, row) in known {
            let rows: Option<Array> = row.slice(0, 0).and_then(|row| {
                let rows = vec![row; end - start];
                Array::stack(&rows, 0)
            });
            let rows = rows.ok_or_else(|| Error::Usage(format!("{name} holds nothing")))?;
            part.insert(name.clone(), rows);
        }
        let outputs = run(&part)?;
        let images = outputs.get("x").map(|x| (x.shape(), x.data()));
        let Some((image_shape @ [n, ..], Data::F32(part))) = images else {
            return Err(Error::Usage(
                "the graph sample gives no f32 images named x".into(),
            ));
        };
        if *n != end - start {
            return Err(Error::Usage(format!(
                "the graph sample gave {n} images instead of {}",
                end - start
            )));
        }
        shape = image_shape.to_vec();
        values.extend_from_slice(part);
    }
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    Array::f32(shape, values).map_err(|e| Error::Usage(e.to_string()))
}

/// A session's graph in the place of a runtime's file.
pub(crate) struct CandleGraph {
    pub session: Box<dyn Session>,
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
                runtime: CANDLE,
                sizes: inputs
                    .iter()
                    .map(|(name, array)| format!("{name} {:?}", array.shape()))
                    .collect::<Vec<_>>()
                    .join(", "),
                reason: error.to_string(),
            })
    }
}
