//! Recording a graph while a network computes.
//!
//! A network is run several times, with different sizes and different inputs: what the caller chooses (the batch N, and
//! other symbols of the inputs' shapes) varies by turns, then all of it together. What agrees is the graph; sizes that follow
//! from the symbols become expressions of them; whatever else differs would freeze something of the recorded run into the file and is
//! refused, with the author's line.

mod agree;
mod fit;
mod runs;

use candle_core::Device;
use zoo_graph::{Array, Dim, Distribution, Graph, Port, Sizes, ValueType};
use zoo_sdk::Stream;

use agree::{agree, generalise};
use runs::Runs;

use crate::{
    Error, Outputs, Result, Value,
    array::tensor_of,
    recorder::{Recorded, Recording},
    value::{op, without_gradients},
};

/// Records the graph that `run` computes from `inputs` to `outputs`, valid for every size that the inputs leave open.
///
/// # Errors
/// Where a size, an attribute or a constant depends on the recorded sizes or data other than as an expression of the symbols, where a value computed
/// outside is read, or where a result does not have the shape that `outputs` declares. Each names the author's line.
pub fn trace<O: Outputs>(
    name: &str,
    inputs: &[Port],
    outputs: &[Port],
    device: &Device,
    run: impl Fn(&[Value]) -> O,
) -> Result<Graph> {
    let clash = |port: &&Port| inputs.iter().any(|input| input.name == port.name);
    if let Some(port) = outputs.iter().find(clash) {
        let message = format!(
            "an input and an output are both called {:?}: a graph has each name once",
            port.name
        );
        return Err(frozen(name, message));
    }
    let run = |inputs: &[Value]| run(inputs).outputs();
    let mut runs = Runs::of(inputs).map_err(|message| frozen(name, message))?;
    let first = record_run(name, inputs, outputs, device, &runs.sizes[0], &run)?;
    let mut others: Vec<Graph> = Vec::new();
    let graph = loop {
        for sizes in &runs.sizes[others.len() + 1..] {
            let record = record_run(name, inputs, outputs, device, sizes, &run);
            let other = record.map_err(|error| match error {
                error if error.is_trace() => error,
                other => frozen(name, format!("with {} it works, with {} it fails: {other}. Write 0 (keep) or -1 (infer) instead of a size", runs.said(0), runs.said_of(sizes))),
            })?;
            agree(
                name,
                &first.graph,
                &other.graph,
                &runs.pair(sizes),
                &other.constants,
            )?;
            others.push(other.graph);
        }
        let mut graph = first.graph.clone();
        let others: Vec<&Graph> = others.iter().collect();
        match generalise(name, &mut graph, &others, &runs)? {
            1 => break graph,
            divisor => runs.tell_remainders(divisor),
        }
    };
    for port in outputs {
        let found = graph
            .types
            .get(&port.name)
            .map(ToString::to_string)
            .unwrap_or_default();
        if found != port.value_type().to_string() {
            return Err(frozen(
                name,
                format!(
                    "output {:?} is declared {} but computed {found}",
                    port.name,
                    port.value_type()
                ),
            ));
        }
    }
    graph.validate()?;
    Ok(graph)
}

fn frozen(graph: &str, message: String) -> Error {
    Error::Trace {
        graph: graph.into(),
        message,
    }
}

/// One run with a trace on.
fn record_run(
    name: &str,
    inputs: &[Port],
    outputs: &[Port],
    device: &Device,
    sizes: &Sizes,
    run: &impl Fn(&[Value]) -> Result<Vec<Value>>,
) -> Result<Recorded> {
    let mut graph = Graph {
        name: name.into(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        ..Graph::default()
    };
    let mut tensors = Vec::new();
    for port in inputs {
        let array = probe(port, sizes)?;
        let shape = array.shape().iter().map(|&d| Dim::Fixed(d)).collect();
        graph.types.insert(
            port.name.clone(),
            ValueType {
                dtype: port.dtype,
                shape,
            },
        );
        tensors.push(tensor_of(&array, device)?);
    }
    let recording = Recording::start(graph).ok_or_else(|| {
        frozen(
            name,
            "another graph is being recorded on this thread".into(),
        )
    })?;
    let fed: Vec<Value> = inputs
        .iter()
        .zip(tensors)
        .map(|(port, tensor)| Value::with_origin(tensor, recording.input(&port.name)))
        .collect();
    let results = without_gradients(|| run(&fed))?;
    if results.len() != outputs.len() {
        return Err(frozen(
            name,
            format!(
                "{} outputs are declared, {} computed",
                outputs.len(),
                results.len()
            ),
        ));
    }
    for (port, value) in outputs.iter().zip(results) {
        // An input, a parameter or another output keeps its name: only a copy may be called otherwise.
        let value = if recording.is_nameless(&value.get()?.origin) {
            value
        } else {
            value.copied()
        };
        recording.name(&value.get()?.origin, &port.name);
    }
    recording
        .finish()
        .ok_or_else(|| frozen(name, "the recording was lost".into()))
}

impl Value {
    /// The same value as the result of a node of its own.
    #[track_caller]
    pub(crate) fn copied(&self) -> Self {
        op("Identity", [self], |[x]| Ok(x.clone()), |_| Ok(()))
    }

    /// The same of truth values.
    #[track_caller]
    pub(crate) fn copied_truth(&self) -> Self {
        op(
            "Identity",
            [self],
            |[x]| Ok(x.clone()),
            |node| node.truth().done(),
        )
    }
}

/// Inputs to record with: other elements in every run, so that what depends on them shows.
pub(crate) fn probe(port: &Port, sizes: &Sizes) -> Result<Array> {
    let seed = sizes.iter().map(|(_, size)| size as u64).sum();
    let stream = Stream::new(seed).named(&port.name);
    let shape = port
        .shape_at(sizes)
        .ok_or_else(|| Error::input(format!("port {:?} is too large", port.name)))?;
    let count = shape.iter().product();
    Ok(match (port.dtype, port.distribution) {
        (zoo_graph::DType::I64, _) => {
            let [low, high] = port.range.unwrap_or([0.0; 2]).map(|bound| bound as i64);
            let drawn = stream.integers(count, (high - low).max(0) as u64 + 1);
            Array::i64(
                shape,
                drawn.into_iter().map(|i| low + i).collect::<Vec<_>>(),
            )?
        }
        (zoo_graph::DType::F32, Some(Distribution::Normal)) => {
            Array::f32(shape, stream.normal(count))?
        }
        (zoo_graph::DType::F32, _) => {
            let [low, high] = port.range.unwrap_or([0.0, 1.0]).map(|bound| bound as f32);
            let within = stream.uniform(count).into_iter();
            let within = within.map(|u| low + u * (high - low));
            Array::f32(shape, within.collect::<Vec<_>>())?
        }
        (other, _) => {
            return Err(Error::input(format!(
                "port {:?}: graphs take f32 or i64, not {other}",
                port.name
            )));
        }
    })
}
