//! Graphs with loops on runtimes without: a host runs the loops, the runtime what stands between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use zoo_graph::{Content, Count, ScanSteps, Step, Steps};
use zoo_sdk::{Array, Port, Tensors};

use crate::{Error, LoadOptions, Loaded, Result, Runtime, RuntimeId, Stopper, ports};

/// Prepares a form of a graph on a runtime: one file, or files that are driven as one graph.
///
/// # Errors
/// For a file that is missing or refused by the runtime, and for steps that read what nothing gives.
pub fn load(
    runtime: &dyn Runtime,
    content: &Content,
    options: &LoadOptions,
) -> Result<Box<dyn Loaded>> {
    let (steps, files) = match content {
        Content::File(bytes) => return runtime.load(bytes, options),
        Content::Steps { steps, files } => (steps, files),
    };
    let mut parts = BTreeMap::new();
    for name in steps.files() {
        let file = files.iter().find(|(known, _)| known == name);
        let (_, bytes) = file.ok_or_else(|| unsound(format!("the file {name:?} is missing")))?;
        let part = runtime.load(bytes, options).map_err(|error| match error {
            Error::Load { runtime, reason } => Error::Load {
                runtime,
                reason: format!("{name}: {reason}"),
            },
            other => other,
        })?;
        parts.insert(name.to_owned(), part);
    }
    let mut known: BTreeSet<&str> = steps.inputs.iter().map(|port| port.name.as_str()).collect();
    sound(&steps.program, &parts, &mut known)?;
    if steps.results.len() != steps.outputs.len() {
        return Err(unsound("it has not one result for each output".into()));
    }
    if let Some(result) = steps.results.iter().find(|r| !known.contains(r.as_str())) {
        return Err(unsound(format!("nothing gives the result {result:?}")));
    }
    Ok(Box::new(Driven {
        runtime: runtime.id(),
        steps: steps.clone(),
        parts,
        stopped: Arc::default(),
    }))
}

type Parts = BTreeMap<String, Box<dyn Loaded>>;

fn unsound(reason: String) -> Error {
    Error::File(format!("steps: {reason}; export the run again"))
}

/// Holds a program against what its files read and give.
fn sound<'a>(program: &'a [Step], parts: &'a Parts, known: &mut BTreeSet<&'a str>) -> Result<()> {
    let need = |name: &str, known: &BTreeSet<&str>, by: &str| match known.contains(name) {
        true => Ok(()),
        false => Err(unsound(format!(
            "{by} reads {name:?}, which nothing gives before"
        ))),
    };
    for step in program {
        match step {
            Step::Run(file) => {
                let Some(part) = parts.get(file) else {
                    return Err(unsound(format!("the file {file:?} is missing")));
                };
                for port in part.inputs() {
                    need(&port.name, known, file)?;
                }
                known.extend(part.outputs().iter().map(|port| port.name.as_str()));
            }
            Step::Scan(scan) => {
                if scan.steps == Count::Fixed(0)
                    || (scan.inputs.is_empty() && scan.states.is_empty())
                {
                    return Err(unsound("a loop without steps or states".into()));
                }
                if let Count::Value(name)
                | Count::Length {
                    length_of: name, ..
                } = &scan.steps
                {
                    need(name, known, "the number of a loop's steps")?;
                }
                let starts = scan.states.iter().map(|s| &s.start);
                for name in starts.chain(scan.inputs.iter().map(|i| &i.of)) {
                    need(name, known, "a loop")?;
                }
                let mut inside = known.clone();
                inside.extend(scan.states.iter().map(|s| s.name.as_str()));
                inside.extend(scan.inputs.iter().map(|i| i.name.as_str()));
                inside.extend(scan.index.as_deref());
                sound(&scan.body, parts, &mut inside)?;
                let given = scan.states.iter().map(|s| &s.next);
                for name in given.chain(scan.outputs.iter().map(|o| &o.from)) {
                    need(name, &inside, "a loop")?;
                }
                known.extend(scan.states.iter().map(|s| s.end.as_str()));
                known.extend(scan.outputs.iter().map(|o| o.name.as_str()));
            }
        }
    }
    Ok(())
}

struct Driven {
    runtime: RuntimeId,
    steps: Steps,
    parts: Parts,
    stopped: Arc<AtomicBool>,
}

impl Loaded for Driven {
    fn inputs(&self) -> &[Port] {
        &self.steps.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.steps.outputs
    }

    fn run(&mut self, inputs: &Tensors) -> Result<Tensors> {
        let symbols = ports::check_inputs(&self.steps.inputs, inputs)?;
        let batch = symbols.values().map(|(size, _)| *size).next().unwrap_or(1);
        let mut host = Host {
            runtime: self.runtime.clone(),
            batch,
            stopped: &self.stopped,
            ended: false,
            sizes: ports::describe_all(inputs),
            values: inputs.clone(),
        };
        host.follow(&self.steps.program, &mut self.parts)?;
        let results = self
            .steps
            .results
            .iter()
            .map(|name| host.get(name).cloned());
        let outputs = results.collect::<Result<_>>()?;
        ports::check_outputs(&self.runtime, &self.steps.outputs, outputs, &symbols)
    }

    fn stopper(&self) -> Option<Stopper> {
        let stopped = self.stopped.clone();
        let parts: Vec<_> = self.parts.values().filter_map(|p| p.stopper()).collect();
        Some(Arc::new(move || {
            stopped.store(true, Ordering::Relaxed);
            parts.iter().for_each(|stop| stop());
        }))
    }
}

/// What a host keeps while it follows a program.
struct Host<'a> {
    runtime: RuntimeId,
    batch: usize,
    stopped: &'a AtomicBool,
    ended: bool,
    sizes: String,
    values: Tensors,
}

impl Host<'_> {
    fn failed(&self, reason: String) -> Error {
        Error::Run {
            runtime: self.runtime.clone(),
            sizes: self.sizes.clone(),
            reason,
        }
    }

    fn get(&self, name: &str) -> Result<&Array> {
        let value = self.values.get(name);
        value.ok_or_else(|| self.failed(format!("there is no value {name:?}")))
    }

    fn follow(&mut self, program: &[Step], parts: &mut Parts) -> Result<()> {
        for step in program {
            match step {
                Step::Run(file) => self.call(file, parts)?,
                Step::Scan(scan) => self.scan(scan, parts)?,
            }
        }
        Ok(())
    }

    fn call(&mut self, file: &str, parts: &mut Parts) -> Result<()> {
        let Some(part) = parts.get_mut(file) else {
            return Err(self.failed(format!("there is no file {file:?}")));
        };
        let mut inputs = Tensors::new();
        for port in part.inputs() {
            inputs.insert(port.name.clone(), self.get(&port.name)?.clone());
        }
        let outputs = part.run(&inputs).map_err(|error| match error {
            Error::Run { reason, .. } => self.failed(format!("{file}: {reason}")),
            other => other,
        })?;
        self.values.extend(outputs);
        Ok(())
    }

    /// How often a loop runs.
    fn count(&self, count: &Count) -> Result<usize> {
        let name = match count {
            Count::Fixed(steps) => return Ok(*steps),
            Count::Value(name) => name,
            Count::Length { length_of, axis } => {
                let value = self.get(length_of)?;
                let length = value.shape().get(*axis).copied();
                return length.ok_or_else(|| {
                    self.failed(format!("{length_of:?} has no dimension {axis}: {value:?}"))
                });
            }
        };
        let value = self.get(name)?;
        match value.as_i64() {
            Ok(&[steps]) if steps >= 0 => Ok(steps as usize),
            _ => Err(self.failed(format!(
                "{name:?} says how often a loop runs, so it must be one i64 of at least 0, not {value:?}"
            ))),
        }
    }

    /// Fails once where the host was asked to end: what is outside has nothing to add.
    fn goes_on(&mut self, scan: &ScanSteps, turn: usize, turns: usize) -> Result<()> {
        if self.ended || !self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.ended = true;
        let of = scan.states.first().map_or("", |state| &state.end);
        Err(self.failed(format!(
            "it was asked to end in turn {turn} of {turns} of the loop that gives {of:?}"
        )))
    }

    fn scan(&mut self, scan: &ScanSteps, parts: &mut Parts) -> Result<()> {
        let steps = self.count(&scan.steps)?;
        for state in &scan.states {
            let start = self.get(&state.start)?.clone();
            self.values.insert(state.name.clone(), start);
        }
        let mut collected: Vec<Vec<Array>> = vec![Vec::new(); scan.outputs.len()];
        for i in 0..steps {
            self.goes_on(scan, i, steps)?;
            for input in &scan.inputs {
                let slice = self.get(&input.of)?.slice(input.axis, i);
                let slice = slice.ok_or_else(|| {
                    self.failed(format!(
                        "{:?} has no slice {i} along {}",
                        input.of, input.axis
                    ))
                })?;
                self.values.insert(input.name.clone(), slice);
            }
            if let Some(index) = &scan.index {
                let indices = Array::i64([self.batch], vec![i as i64; self.batch]);
                let indices = indices.map_err(|e| self.failed(e.to_string()))?;
                self.values.insert(index.clone(), indices);
            }
            if let Err(error) = self.follow(&scan.body, parts) {
                // Where a runtime was asked to end, in its own words it does not say in which loop.
                self.goes_on(scan, i, steps)?;
                return Err(error);
            }
            // All are read before any is written: a state may become what another was.
            let mut next = Vec::with_capacity(scan.states.len());
            for state in &scan.states {
                next.push(self.get(&state.next)?.clone());
            }
            for (all, output) in collected.iter_mut().zip(&scan.outputs) {
                all.push(self.get(&output.from)?.clone());
            }
            for (state, value) in scan.states.iter().zip(next) {
                self.values.insert(state.name.clone(), value);
            }
        }
        for state in &scan.states {
            let end = self.get(&state.name)?.clone();
            self.values.insert(state.end.clone(), end);
        }
        for (all, output) in collected.iter().zip(&scan.outputs) {
            let stacked = Array::stack(all, output.axis).ok_or_else(|| {
                self.failed(match steps {
                    0 => format!("no step gives {:?}", output.from),
                    _ => format!("{:?} has another shape in each step", output.from),
                })
            })?;
            self.values.insert(output.name.clone(), stacked);
        }
        Ok(())
    }
}
