//! [`Plugin`] and [`Session`] over a channel. Nothing that comes through it is believed before it is checked.

use std::{collections::BTreeMap, sync::Arc};

use super::{Channel, Problem};
use crate::{
    Array, Context, Control, DType, Dataset, Description, Error, EvaluateRequest, Event, Graph,
    GraphInfo, Metrics, OpenRequest, Plugin, Result, Session, Split, Tensors, TrainReport,
    TrainRequest,
    abi::{Answer, Back, Caller, TensorRef, op},
    number::Number,
    sizes_of,
    wire::{
        CheckpointHead, EvaluateCall, GraphCall, ImagesCall, Incoming, OpenCall, Opened, Outgoing,
        Shapes, TrainCall, decode_graph, read, write,
    },
};

/// Models of one library.
const MOST_MODELS: usize = 1000;
/// Bytes of a model's, graph's or port's name.
const LONGEST_NAME: usize = 200;

/// Opens a channel: the library itself, or another process with it.
pub(super) type Connect = Box<dyn Fn() -> Result<Arc<dyn Channel>> + Send + Sync>;

/// One call without call-backs.
fn call(
    channel: &dyn Channel,
    op: u32,
    session: u64,
    json: &str,
    tensors: Vec<TensorRef<'_>>,
) -> Result<Answer> {
    let mut back = |call: &Caller<'_>| Err(unexpected(call.op));
    call_with(channel, op, session, json, tensors, &mut back)
}

fn call_with(
    channel: &dyn Channel,
    op: u32,
    session: u64,
    json: &str,
    tensors: Vec<TensorRef<'_>>,
    back: &mut Back<'_>,
) -> Result<Answer> {
    let request = Caller {
        op,
        session,
        json,
        tensors,
        host: None,
    };
    // A library's own faults, a panic say, do not tell which library it was.
    channel.call(&request, back).map_err(|error| match error {
        Error::Internal(what) if !what.starts_with(channel.label()) => {
            Error::Internal(format!("{}: {what}", channel.label()))
        }
        other => other,
    })
}

fn unexpected(op: u32) -> Error {
    Error::Internal(format!(
        "the host does not expect call-back {op} ({}) here",
        op::name(op)
    ))
}

/// For `map_err`: an answer that makes no sense.
fn broken(channel: &dyn Channel, op: u32) -> impl Fn(String) -> Error {
    let label = channel.label().to_owned();
    move |e| {
        Error::Internal(format!(
            "{label}: the answer to `{}` is broken: {e}",
            op::name(op)
        ))
    }
}

/// Why a library whose first answers make no sense is refused. The file's name comes with the problem.
pub(super) fn refusal(channel: &dyn Channel, error: &Error) -> Problem {
    let text = error.to_string();
    let label = format!("{}: ", channel.label());
    Problem::Refused(text.strip_prefix(&label).unwrap_or(&text).to_owned())
}

/// What a library offers. It is asked twice: the answer may not change.
pub(super) fn describe(channel: &dyn Channel) -> Result<Vec<Description>> {
    let broken = broken(channel, op::DESCRIBE);
    let ask = || -> Result<Vec<Description>> {
        let answer = call(channel, op::DESCRIBE, 0, "{}", Vec::new())?;
        read(&answer.json).map_err(&broken)
    };
    let all = ask()?;
    if all.is_empty() || all.len() > MOST_MODELS {
        return Err(broken(format!("it offers {} models", all.len())));
    }
    if ask()? != all {
        return Err(broken("it is another one each time".into()));
    }
    for description in &all {
        check_description(description)
            .map_err(|e| broken(format!("model {:?}: {e}", shown(&description.name))))?;
    }
    Ok(all)
}

fn shown(text: &str) -> String {
    let printable = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.take(LONGEST_NAME).collect()
}

/// What the host relies on; the conformance suite asks for more.
pub(super) fn check_description(d: &Description) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if d.name.is_empty() || d.name.len() > LONGEST_NAME || !d.name.chars().all(plain) {
        return Err("its name is not lower-case letters, digits and hyphens".into());
    }
    let texts = [
        &d.summary,
        &d.family,
        &d.density,
        &d.version,
        &d.paper.title,
        &d.paper.authors,
        &d.paper.url,
    ];
    let graphs = d.graphs.iter().flat_map(|(name, doc)| [name, doc]);
    for text in texts.into_iter().chain(graphs) {
        if text.chars().any(char::is_control) {
            return Err(format!(
                "the text {:?} holds control characters",
                shown(text)
            ));
        }
    }
    check_graphs(&d.signatures)?;
    for (table, schema) in [("model", &d.model_schema), ("train", &d.train_schema)] {
        if !schema.is_object() || !d.defaults[table].is_object() {
            return Err(format!(
                "the settings of {table:?} have no schema or no defaults"
            ));
        }
    }
    Ok(())
}

/// Graphs and their ports have names, each its own.
pub(super) fn check_graphs(graphs: &[GraphInfo]) -> Result<(), String> {
    for (i, graph) in graphs.iter().enumerate() {
        let again = graphs[..i].iter().any(|g| g.name == graph.name);
        if again || graph.name.is_empty() || graph.outputs.is_empty() {
            return Err(format!(
                "graph {:?} has no name, a name that is taken, or no outputs",
                shown(&graph.name)
            ));
        }
        for ports in [&graph.inputs, &graph.outputs] {
            for (k, port) in ports.iter().enumerate() {
                let again = ports[..k].iter().any(|p| p.name == port.name);
                if again || port.name.is_empty() || port.name.chars().any(char::is_control) {
                    return Err(format!(
                        "graph {:?}: port {:?} has no name, or one that is taken",
                        shown(&graph.name),
                        shown(&port.name)
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A model of a library.
pub(super) struct RemotePlugin {
    connect: Connect,
    index: usize,
    description: Description,
}

impl RemotePlugin {
    pub fn new(connect: Connect, index: usize, description: Description) -> Self {
        Self {
            connect,
            index,
            description,
        }
    }
}

impl Plugin for RemotePlugin {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        let channel = (self.connect)()?;
        let mut tensors = Outgoing::default();
        let head = TrainCall::new(self.index, request, data, &mut tensors);
        let (json, tensors) = (write(&head)?, tensors.refs()?);
        let mut back = |call: &Caller<'_>| call_back(call, cx);
        let answer = call_with(&*channel, op::TRAIN, 0, &json, tensors, &mut back)?;
        read(&answer.json).map_err(broken(&*channel, op::TRAIN))
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        let channel = (self.connect)()?;
        let mut tensors = Outgoing::default();
        let head = OpenCall::new(self.index, request, &mut tensors);
        let (json, tensors) = (write(&head)?, tensors.refs()?);
        let answer = call(&*channel, op::OPEN, 0, &json, tensors)?;
        let Opened { session } = read(&answer.json).map_err(broken(&*channel, op::OPEN))?;
        let mut opened = RemoteSession {
            channel,
            id: session,
            shapes: Shapes::of(&request.data),
            graphs: Vec::new(),
        };
        opened.graphs = opened.ask_graphs()?;
        Ok(Box::new(opened))
    }
}

/// Answers the call-backs of a training or an evaluation.
pub(super) fn call_back(call: &Caller<'_>, cx: &mut dyn Context) -> Result<Answer> {
    let broken = |e: String| {
        Error::Internal(format!(
            "the call-back `{}` is broken: {e}",
            op::name(call.op)
        ))
    };
    let mut tensors = Incoming::new(&call.tensors);
    let json = match call.op {
        op::PROGRESS => {
            let event: Option<Event> = match read(call.json) {
                // A newer library's: it says more than this host understands, which is no reason to stop.
                Err(_) if unknown_event(call.json) => None,
                event => Some(event.map_err(broken)?),
            };
            tensors.finish().map_err(broken)?;
            let control = event.map_or(Control::Continue, |event| cx.progress(&event));
            write(&control)?
        }
        op::CHECKPOINT => {
            let head: CheckpointHead = read(call.json).map_err(broken)?;
            let checkpoint = tensors.checkpoint("", head).map_err(broken)?;
            tensors.finish().map_err(broken)?;
            cx.checkpoint(&checkpoint)?;
            "null".into()
        }
        op::IMAGES => {
            let ImagesCall { step, name } = read(call.json).map_err(broken)?;
            let images = images(&call.tensors).map_err(broken)?;
            if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                return Err(broken(format!(
                    "{:?} is no name for pictures",
                    shown(&name)
                )));
            }
            cx.images(step, &name, &images)?;
            "null".into()
        }
        other => return Err(unexpected(other)),
    };
    Ok(Answer {
        json,
        tensors: Vec::new(),
    })
}

/// Whether this is an event of a kind that this version does not have.
fn unknown_event(json: &str) -> bool {
    const KNOWN: [&str; 5] = ["started", "step", "metrics", "evaluating", "note"];
    let event: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    event["event"]
        .as_str()
        .is_some_and(|name| !KNOWN.contains(&name))
}

fn images(tensors: &[TensorRef<'_>]) -> Result<Array, String> {
    match tensors {
        [images]
            if images.name == "images" && images.dtype == DType::F32 && images.shape.len() == 4 =>
        {
            images.to_array().map_err(|e| e.to_string())
        }
        _ => Err("it does not hold one tensor \"images\" of f32[N,C,H,W]".into()),
    }
}

/// Opened weights in a library.
struct RemoteSession {
    channel: Arc<dyn Channel>,
    id: u64,
    /// Channels, height, width of the data.
    shapes: Shapes,
    graphs: Vec<GraphInfo>,
}

impl RemoteSession {
    fn call(&self, op: u32, json: &str, tensors: Vec<TensorRef<'_>>) -> Result<Answer> {
        call(&*self.channel, op, self.id, json, tensors)
    }

    fn broken(&self, op: u32) -> impl Fn(String) -> Error {
        broken(&*self.channel, op)
    }

    fn ask_graphs(&self) -> Result<Vec<GraphInfo>> {
        let broken = self.broken(op::GRAPHS);
        let graphs: Vec<GraphInfo> =
            read(&self.call(op::GRAPHS, "{}", Vec::new())?.json).map_err(&broken)?;
        check_graphs(&graphs).map_err(broken)?;
        Ok(graphs)
    }
}

impl Session for RemoteSession {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        Ok(self.graphs.clone())
    }

    fn run(&self, graph: &str, inputs: &Tensors) -> Result<Tensors> {
        let json = write(&GraphCall {
            graph: graph.to_owned(),
        })?;
        let tensors = inputs.iter().map(|(name, t)| TensorRef::of(name, t));
        let answer = self.call(op::RUN, &json, tensors.collect())?;
        let outputs: Tensors = answer.tensors.into_iter().collect();
        let info = self.graphs.iter().find(|info| info.name == graph);
        let info = info.ok_or_else(|| format!("it has no graph {graph:?}, and yet computed it"));
        info.and_then(|info| check_outputs(info, inputs, &outputs))
            .map_err(self.broken(op::RUN))?;
        Ok(outputs)
    }

    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        cx: &mut dyn Context,
    ) -> Result<Metrics> {
        let head = EvaluateCall {
            request: request.clone(),
            shapes: self.shapes,
        };
        let mut tensors = Outgoing::default();
        tensors.split("split", data, self.shapes);
        let (json, tensors) = (write(&head)?, tensors.refs()?);
        let mut back = |call: &Caller<'_>| match call.op {
            op::PROGRESS => call_back(call, cx),
            other => Err(unexpected(other)),
        };
        let channel = &*self.channel;
        let answer = call_with(channel, op::EVALUATE, self.id, &json, tensors, &mut back)?;
        let broken = self.broken(op::EVALUATE);
        let metrics: BTreeMap<String, Number> = read(&answer.json).map_err(&broken)?;
        for (name, Number(value)) in &metrics {
            if !value.is_finite() {
                return Err(broken(format!("metric {:?} is {value}", shown(name))));
            }
        }
        Ok(metrics.into_iter().map(|(name, x)| (name, x.0)).collect())
    }

    fn export(&self, graph: &str) -> Result<Graph> {
        let json = write(&GraphCall {
            graph: graph.to_owned(),
        })?;
        let answer = self.call(op::EXPORT, &json, Vec::new())?;
        let exported = decode_graph(answer).map_err(self.broken(op::EXPORT))?;
        if exported.name != graph {
            let name = shown(&exported.name);
            return Err(self.broken(op::EXPORT)(format!(
                "it is graph {name:?}, not {graph:?}"
            )));
        }
        Ok(exported)
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing of the host's depends on it.
        let _ = self.call(op::CLOSE, "{}", Vec::new());
    }
}

/// The outputs that the graph's ports promise for inputs of these sizes, no more and no less.
fn check_outputs(info: &GraphInfo, inputs: &Tensors, outputs: &Tensors) -> Result<(), String> {
    let sizes = sizes_of(&info.inputs, |name| inputs.get(name).map(Array::shape));
    for port in &info.outputs {
        let array = outputs
            .get(&port.name)
            .ok_or_else(|| format!("graph {:?}: no output {:?}", info.name, port.name))?;
        let fits =
            array.dtype() == port.dtype && port.shape_at(&sizes).as_deref() == Some(array.shape());
        if !fits {
            return Err(format!(
                "graph {:?}: output {:?} is {array:?}, its port says {}",
                info.name,
                port.name,
                port.value_type()
            ));
        }
    }
    match outputs
        .keys()
        .find(|name| info.outputs.iter().all(|port| port.name != **name))
    {
        None => Ok(()),
        Some(extra) => Err(format!("graph {:?}: no port {:?}", info.name, shown(extra))),
    }
}
