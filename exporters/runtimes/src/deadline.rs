//! Deadlines for what may never end: tract's optimiser has hung on loops, and a loop can be told any number of turns.
//!
//! A file is prepared and run on a thread of its own, and the one who asked waits no longer than a limit. ort, and a host that
//! drives step graphs, are then asked to end and do; tract and candle-onnx cannot be asked, so that their thread is given up: it
//! computes until the process ends, which after such an error is soon. A process of its own could be killed instead, but each file
//! and its inputs would have to be sent there and held twice, and a plugin's own tests have no program to start. The thread
//! owns what was prepared, so that nothing is held twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use zoo_graph::{Graph, Node};
use zoo_sdk::{Port, Tensors};

use crate::{Error, Loaded, Result, RuntimeId, ports::describe_all};

/// Ends a run from another thread.
pub type Stopper = Arc<dyn Fn() + Send + Sync>;

/// What every answer may take.
const LEAST: Duration = Duration::from_secs(600);

/// How much longer than candle a runtime may compute. tract needs ten times as long for some loops.
const SLOWER: u32 = 100;

/// How long the answer of a runtime that was asked to end is waited for: it ends between two nodes.
const ENDING: Duration = Duration::from_secs(5);

/// As deep as the stack of a program's first thread: bodies lie in bodies.
const STACK: usize = 8 << 20;

/// Whether a thread was given up and did not end.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// Whether what was given up may still compute in this process. It should then end without taking libraries down: ONNX Runtime aborts
/// where that happens under one of its threads.
pub fn given_up() -> bool {
    GIVEN_UP.load(Ordering::Relaxed)
}

/// How long a runtime may take for one answer: what was told, else ten minutes, or a hundred times what candle took, where that is
/// longer.
pub fn patience(told: Option<Duration>, candle: Duration) -> Duration {
    told.unwrap_or_else(|| LEAST.max(candle.saturating_mul(SLOWER)))
}

/// Prepares a file by `load`, which may take as long as `limit`, and so may each run of it.
///
/// # Errors
/// What `load` answers, and [`Error::Deadline`]. What was given up stays so: further runs fail at once.
pub fn load_within(
    runtime: &RuntimeId,
    limit: Duration,
    load: impl FnOnce() -> Result<Box<dyn Loaded>> + Send + 'static,
) -> Result<Box<dyn Loaded>> {
    let (to, asked) = mpsc::channel::<Tensors>();
    let (answer, from) = mpsc::channel();
    let (ready, prepared) = mpsc::channel();
    let work = move || {
        let mut loaded = match load() {
            Ok(loaded) => loaded,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let ports = (loaded.inputs().to_vec(), loaded.outputs().to_vec());
        // Where nobody listens any more, this was given up.
        let mut goes_on = ready.send(Ok((ports, loaded.stopper()))).is_ok();
        while goes_on && let Ok(inputs) = asked.recv() {
            goes_on = answer.send(loaded.run(&inputs)).is_ok();
        }
    };
    let thread = Builder::new().name(runtime.to_string()).stack_size(STACK);
    let thread = thread.spawn(work).map_err(|error| Error::Load {
        runtime: runtime.clone(),
        reason: format!("no thread can be started: {error}"),
    })?;
    let ((inputs, outputs), stopper) = match prepared.recv_timeout(limit) {
        Ok(answer) => answer?,
        Err(RecvTimeoutError::Timeout) => {
            GIVEN_UP.store(true, Ordering::Relaxed);
            return Err(Error::Deadline {
                runtime: runtime.clone(),
                doing: "load the file".into(),
                limit,
                said: String::new(),
            });
        }
        Err(RecvTimeoutError::Disconnected) => {
            let reason = "it panicked".into();
            let runtime = runtime.clone();
            return Err(Error::Load { runtime, reason });
        }
    };
    Ok(Box::new(Watched {
        runtime: runtime.clone(),
        limit,
        inputs,
        outputs,
        stopper,
        from,
        thread: Some((to, thread)),
    }))
}

struct Watched {
    runtime: RuntimeId,
    limit: Duration,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    stopper: Option<Stopper>,
    from: Receiver<Result<Tensors>>,
    /// Where inputs go; nowhere, once it was given up.
    thread: Option<(Sender<Tensors>, JoinHandle<()>)>,
}

impl Watched {
    fn failed(&self, inputs: &Tensors, reason: &str) -> Error {
        Error::Run {
            runtime: self.runtime.clone(),
            sizes: describe_all(inputs),
            reason: reason.into(),
        }
    }
}

impl Loaded for Watched {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &Tensors) -> Result<Tensors> {
        let Some((to, _)) = &self.thread else {
            return Err(self.failed(inputs, "it was given up in an earlier run"));
        };
        // A thread that has gone does not answer either.
        let _ = to.send(inputs.clone());
        match self.from.recv_timeout(self.limit) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Err(self.failed(inputs, "it panicked")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.thread = None;
        let ended = self.stopper.as_ref().and_then(|stop| {
            stop();
            self.from.recv_timeout(ENDING).ok()
        });
        let said = match ended {
            Some(Err(Error::Run { reason, .. })) => format!(" ({reason})"),
            Some(_) => String::new(),
            None => {
                GIVEN_UP.store(true, Ordering::Relaxed);
                String::new()
            }
        };
        Err(Error::Deadline {
            runtime: self.runtime.clone(),
            doing: format!("compute at {}", describe_all(inputs)),
            limit: self.limit,
            said,
        })
    }

    fn stopper(&self) -> Option<Stopper> {
        self.stopper.clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Whoever prepares the next file finds the memory of this one free.
        if let Some((to, thread)) = self.thread.take() {
            drop(to);
            let _ = thread.join();
        }
    }
}

impl Error {
    /// The error's text; where a time was over, with the place in the recorded graph that the file was made of.
    pub fn explained(&self, recorded: impl FnOnce() -> Option<Graph>) -> String {
        let place = match self {
            Self::Deadline { said, .. } => recorded().and_then(|graph| suspects(&graph, said)),
            _ => None,
        };
        place.map_or(self.to_string(), |place| format!("{self}; {place}"))
    }
}

/// Where a runtime may have been: the nodes that it named itself, else all loops, with their authors' lines.
fn suspects(graph: &Graph, said: &str) -> Option<String> {
    let mut nodes = Vec::new();
    collect(graph, &mut nodes);
    let named = |node: &&&Node| {
        let mut names = node.outputs.iter().chain([&node.name]);
        let quoted = |name: &String, quote| said.contains(&format!("{quote}{name}{quote}"));
        names.any(|name| !name.is_empty() && (quoted(name, '\'') || quoted(name, '"')))
    };
    let mut found: Vec<&&Node> = nodes.iter().filter(named).collect();
    let by_name = !found.is_empty();
    if !by_name {
        found.extend(nodes.iter().filter(|node| node.bodies().next().is_some()));
    }
    let each = found.iter().map(|node| {
        let origin = node.origin.as_deref();
        let at = origin.map_or(String::new(), |origin| format!(" at {origin}"));
        format!("{} {:?}{at}", node.op, node.name)
    });
    let each = each.collect::<Vec<_>>().join(", ");
    match (by_name, each.is_empty()) {
        (true, _) => Some(format!("it was in {each}")),
        (false, false) => Some(format!("it may be in a loop: {each}")),
        (false, true) => None,
    }
}

fn collect<'a>(graph: &'a Graph, nodes: &mut Vec<&'a Node>) {
    for node in &graph.nodes {
        nodes.push(node);
        node.bodies().for_each(|body| collect(body, nodes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers where it is given nothing, and else never.
    struct Stuck;

    impl Loaded for Stuck {
        fn inputs(&self) -> &[Port] {
            &[]
        }

        fn outputs(&self) -> &[Port] {
            &[]
        }

        fn run(&mut self, inputs: &Tensors) -> Result<Tensors> {
            match inputs.contains_key("panic") {
                true => panic!("a stand-in that panics"),
                false if inputs.is_empty() => Ok(Tensors::new()),
                false => loop {
                    std::thread::park();
                },
            }
        }
    }

    const SHORT: Duration = Duration::from_millis(50);

    fn input(name: &str) -> Tensors {
        let array = zoo_sdk::Array::f32([1], [0.0]).unwrap();
        Tensors::from([(name.into(), array)])
    }

    #[test]
    fn a_runtime_that_hangs_is_given_up() {
        let mut loaded = load_within(&RuntimeId::Tract, SHORT, || Ok(Box::new(Stuck))).unwrap();
        loaded.run(&Tensors::new()).unwrap();
        assert_eq!(
            loaded.run(&input("x")).unwrap_err().to_string(),
            "tract did not compute at x: f32[1] within 50ms and was given up; if it is slow rather than stuck, allow it more with --timeout"
        );
        let again = loaded.run(&Tensors::new()).unwrap_err().to_string();
        assert!(again.contains("given up in an earlier run"), "{again}");
        let endless = || loop {
            std::thread::park();
        };
        let error = load_within(&RuntimeId::Tract, SHORT, endless)
            .err()
            .unwrap();
        assert!(error.to_string().contains("load the file within 50ms"));
    }

    #[test]
    fn a_panic_is_no_timeout() {
        let long = Duration::from_secs(60);
        let mut loaded = load_within(&RuntimeId::Tract, long, || Ok(Box::new(Stuck))).unwrap();
        let error = loaded.run(&input("panic")).unwrap_err().to_string();
        assert!(error.contains("it panicked"), "{error}");
    }

    #[test]
    fn the_limit_grows_with_the_work() {
        let second = Duration::from_secs(1);
        assert_eq!(patience(None, second), LEAST);
        assert_eq!(patience(None, 60 * second), 6000 * second);
        assert_eq!(patience(Some(second), 60 * second), second);
    }

    #[test]
    fn nodes_are_told_with_their_authors_lines() {
        let node = |name: &str, op: &str| Node {
            name: name.into(),
            op: op.into(),
            origin: Some(format!("src/{name}.rs:7")),
            ..Node::default()
        };
        let body = Graph {
            nodes: vec![node("inner", "Add")],
            ..Graph::default()
        };
        let mut flow = node("flow", "Loop");
        let body = zoo_graph::Attribute::Graph(Box::new(body));
        flow.attributes.insert("body".into(), body);
        let mut graph = Graph {
            nodes: vec![node("first", "Mul"), flow],
            ..Graph::default()
        };
        assert_eq!(
            suspects(&graph, "").unwrap(),
            "it may be in a loop: Loop \"flow\" at src/flow.rs:7"
        );
        assert_eq!(
            suspects(&graph, "running Add node. Name:'inner'").unwrap(),
            "it was in Add \"inner\" at src/inner.rs:7"
        );
        graph.nodes.truncate(1);
        assert_eq!(suspects(&graph, ""), None);
    }
}
