//! Recurrences: loops with carried state that run in candle and are recorded as sub-graphs.
//!
//! In a trace a body is run once, on the first slices, and recorded as the body of an ONNX `Scan`; values from outside that it reads,
//! weights among them, stay outside. The exporter rewrites the scans for runtimes that lack them.

use std::panic::Location;

use candle_core::{DType, Device, Tensor};

use super::stack;
use crate::{
    Error, Result, Value, recorder,
    value::{Computed, op_results},
};

/// What the body of a [`scan`] gives.
#[derive(Clone, Debug)]
pub struct ScanStep {
    /// The states for the next step: as many as came in, of the same shapes.
    pub states: Vec<Value>,
    /// What the step adds to each output.
    pub outputs: Vec<Value>,
}

/// What a [`scan`] gives.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The states after the last step.
    pub states: Vec<Value>,
    /// The outputs of all steps side by side.
    pub outputs: Vec<Value>,
}

impl Scanned {
    fn failed(error: Error, states: usize, outputs: usize) -> Self {
        let failed = Value::failed(error);
        Self {
            states: vec![failed.clone(); states],
            outputs: vec![failed; outputs],
        }
    }
}

/// Runs `body` once for each slice of the inputs, in order.
///
/// Each of `inputs` is cut along the axis beside it; all have the same length there. `body` gets the states and the slices (without that
/// axis) and gives the next states and the step's outputs, which are laid side by side along a new axis: `output_axes` says which, one for each.
///
/// What it gives has failed, with the author's line, where lengths differ, or where the body gives other numbers of states and outputs, or states of other shapes.
#[track_caller]
pub fn scan(
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    body: impl Fn(&[Value], &[Value]) -> ScanStep,
) -> Scanned {
    scan_at(Location::caller(), states, inputs, output_axes, body)
}

/// [`scan`] on behalf of the author's call at `location`.
fn scan_at(
    location: &'static Location<'static>,
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    body: impl Fn(&[Value], &[Value]) -> ScanStep,
) -> Scanned {
    let place = Place {
        op: "scan",
        location,
    };
    match run(place, states, inputs, output_axes, body) {
        Ok(scanned) => scanned,
        Err(error) => Scanned::failed(error, states.len(), output_axes.len()),
    }
}

/// How often [`repeat`] runs its body.
#[derive(Clone, Copy, Debug)]
pub enum Steps<'a> {
    /// So often, at least once.
    Known(usize),
    /// As often as a value says, one i64 without dimensions, such as a graph's input [`Port::count`](crate::Port::count).
    Told(&'a Value),
}

impl From<usize> for Steps<'_> {
    fn from(steps: usize) -> Self {
        Self::Known(steps)
    }
}

impl<'a> From<&'a Value> for Steps<'a> {
    fn from(steps: &'a Value) -> Self {
        Self::Told(steps)
    }
}

/// Runs `body` again and again: it gets the states and the number of the step, an f32 without dimensions that counts from 0, and gives the next states. Gives
/// those after the last step.
///
/// ```
/// use zoo_nn::{Device, Tensor, Value, repeat};
/// # fn main() -> zoo_nn::Result<()> {
/// let x = Value::from(Tensor::new(&[3f32, 4.0], &Device::Cpu)?);
/// let y = repeat(3, &[x], |states, step| vec![&states[0] * 2.0 + step]);
/// assert_eq!(y[0].to_vec()?, [28.0, 36.0]);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn repeat<'a>(
    steps: impl Into<Steps<'a>>,
    states: &[Value],
    body: impl Fn(&[Value], &Value) -> Vec<Value>,
) -> Vec<Value> {
    let place = Place {
        op: "repeat",
        location: Location::caller(),
    };
    let done = match steps.into() {
        Steps::Known(steps) => counted(place, steps, states, body),
        Steps::Told(steps) => told(place, steps, states, body),
    };
    match done {
        Ok(states) => states,
        Err(error) => Scanned::failed(error, states.len(), 0).states,
    }
}

/// A number of steps that is known is a scan over their numbers.
fn counted(
    place: Place,
    steps: usize,
    states: &[Value],
    body: impl Fn(&[Value], &Value) -> Vec<Value>,
) -> Result<Vec<Value>> {
    let device = match states.first() {
        Some(state) => state.get()?.held.peek().device().clone(),
        None => Device::Cpu,
    };
    let numbers: Vec<f32> = (0..steps).map(|step| step as f32).collect();
    let numbers = Value::constant(Tensor::from_vec(numbers, steps, &device)?); // (T)
    let scanned = run(place, states, &[(&numbers, 0)], &[], |states, slices| {
        ScanStep {
            states: body(states, &slices[0]),
            outputs: vec![],
        }
    })?;
    Ok(scanned.states)
}

/// A number of steps that an input tells is an ONNX `Loop`.
fn told(
    place: Place,
    steps: &Value,
    states: &[Value],
    body: impl Fn(&[Value], &Value) -> Vec<Value>,
) -> Result<Vec<Value>> {
    let count = steps.scalar()?;
    if !steps.dims().is_empty() || steps.dtype() != DType::I64 || count < 0.0 {
        return Err(place.refuse(format!(
            "the number of steps is one i64 of at least 0, not {count} of {:?} {:?}",
            steps.dtype(),
            steps.dims()
        )));
    }
    let step = |states: &[Value], step: &Value| {
        let step = ScanStep {
            states: body(states, step),
            outputs: vec![],
        };
        place.fits(&step, states, 0)?;
        Ok::<_, Error>(step.states)
    };
    let device = steps.tensor()?.device().clone();
    if !recorder::is_on() {
        let taken = if recorder::is_probing() {
            1
        } else {
            count as u64
        };
        let mut states = states.to_vec();
        for i in 0..taken {
            let number = Value::from(Tensor::new(i as f32, &device)?);
            states = step(&states, &number)?;
        }
        return Ok(states);
    }
    let mut fed = vec![
        ("iteration", Tensor::new(0i64, &device)?, false),
        ("goes_on", Tensor::new(1u8, &device)?, true),
    ];
    for state in states {
        fed.push(("state", state.tensor()?.clone(), false));
    }
    let fed = begin_body(place.op, fed)?;
    let given = step(&fed[2..], &fed[0].cast(DType::F32))?;
    let goes_on = fed[1].copied_truth();
    let results: Vec<Value> = std::iter::once(goes_on).chain(given).collect();
    let graph = end_body(&results)?;
    let computed = |value: &Value| Ok(Computed::untracked(value.tensor()?.clone()));
    let computed = results[1..]
        .iter()
        .map(computed)
        .collect::<Result<Vec<_>>>()?;
    let recorded = op_results(
        "Loop",
        place.location,
        &[steps],
        |_| Ok(computed),
        |node| {
            node.skip(); // no condition ends it
            for state in states {
                let state = state.get()?;
                node.input(&state.origin, state.held.peek())?;
            }
            node.graph("body", graph).done()
        },
    )?;
    Ok(recorded)
}

/// Begins a body whose ports have these names and tensors; gives the values to compute with.
fn begin_body(name: &str, ports: Vec<(&str, Tensor, bool)>) -> Result<Vec<Value>> {
    let named: Vec<_> = ports
        .iter()
        .map(|(name, t, truth)| (*name, t, *truth))
        .collect();
    let origins = recorder::begin_body(name, &named)?;
    let fed = ports.iter().zip(origins);
    Ok(fed
        .map(|((_, tensor, _), origin)| Value::with_origin(tensor.clone(), origin))
        .collect())
}

/// The author's call, which errors name.
#[derive(Clone, Copy)]
struct Place {
    op: &'static str,
    location: &'static Location<'static>,
}

impl Place {
    fn refuse(self, message: String) -> Error {
        Error::usage(self.op, self.location, message)
    }

    /// Checks what a body gave against the states before.
    fn fits(self, step: &ScanStep, states: &[Value], outputs: usize) -> Result<()> {
        if step.states.len() != states.len() || step.outputs.len() != outputs {
            return Err(self.refuse(format!(
                "{} states and {outputs} outputs are expected of the body, it gives {} and {}",
                states.len(),
                step.states.len(),
                step.outputs.len()
            )));
        }
        for (i, (before, after)) in states.iter().zip(&step.states).enumerate() {
            before.check()?;
            after.check()?;
            if before.dims() != after.dims() || before.dtype() != after.dtype() {
                return Err(self.refuse(format!(
                    "state {i} is {:?} {:?} before a step and {:?} {:?} after it",
                    before.dtype(),
                    before.dims(),
                    after.dtype(),
                    after.dims()
                )));
            }
        }
        step.outputs.iter().try_for_each(Value::check)
    }
}

fn run(
    place: Place,
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    body: impl Fn(&[Value], &[Value]) -> ScanStep,
) -> Result<Scanned> {
    let mut steps = None;
    for (input, axis) in inputs {
        let length = input.dim(*axis)?;
        if *steps.get_or_insert(length) != length {
            return Err(place.refuse(format!("inputs of {steps:?} and {length} steps")));
        }
    }
    let steps = match steps {
        Some(steps) if steps > 0 => steps,
        _ => return Err(place.refuse("needs at least one step".into())),
    };
    let step = |states: &[Value], slices: &[Value]| {
        let step = body(states, slices);
        place.fits(&step, states, output_axes.len())?;
        Ok(step)
    };
    if recorder::is_on() {
        return recorded(place, states, inputs, output_axes, steps, step);
    }
    let mut states = states.to_vec();
    let mut outputs = vec![Vec::with_capacity(steps); output_axes.len()];
    let taken = if recorder::is_probing() { 1 } else { steps };
    for i in 0..taken {
        let mut slices = Vec::with_capacity(inputs.len());
        for &(input, axis) in inputs {
            let slice = input.slice(axis as i64, i, i + 1);
            slices.push(slice.squeeze(axis as i64));
        }
        let step = step(&states, &slices)?;
        states = step.states;
        for (all, output) in outputs.iter_mut().zip(step.outputs) {
            all.extend(std::iter::repeat_n(output, 1 + steps - taken));
        }
    }
    let sides = outputs.iter().zip(output_axes);
    Ok(Scanned {
        states,
        outputs: sides.map(|(all, &axis)| stack(all, axis)).collect(),
    })
}

/// Records a `Scan`. Its results have the right shapes, and the values of the first step.
fn recorded(
    place: Place,
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    steps: usize,
    body: impl FnOnce(&[Value], &[Value]) -> Result<ScanStep>,
) -> Result<Scanned> {
    let mut ports = Vec::with_capacity(states.len() + inputs.len());
    for state in states {
        ports.push(("state", state.tensor()?.clone(), false));
    }
    for (input, axis) in inputs {
        let slice = input.tensor()?.narrow(*axis, 0, 1)?.squeeze(*axis)?;
        ports.push(("input", slice.contiguous()?, false));
    }
    let fed = begin_body(place.op, ports)?;
    let (own_states, slices) = fed.split_at(states.len());
    // An error leaves the body open; it also ends the trace.
    let step = body(own_states, slices)?;
    let results: Vec<Value> = step.states.into_iter().chain(step.outputs).collect();
    let graph = end_body(&results)?;
    let mut computed = Vec::with_capacity(results.len());
    for (i, result) in results.iter().enumerate() {
        let tensor = result.tensor()?;
        computed.push(Computed::untracked(match i.checked_sub(states.len()) {
            None => tensor.clone(),
            Some(output) => {
                let axis = output_axes[output];
                Tensor::cat(&vec![tensor.unsqueeze(axis)?; steps], axis)?
            }
        }));
    }
    let axes: Vec<usize> = inputs.iter().map(|(_, axis)| *axis).collect();
    let all: Vec<&Value> = states
        .iter()
        .chain(inputs.iter().map(|(v, _)| *v))
        .collect();
    let mut results = op_results(
        "Scan",
        place.location,
        &all,
        |_| Ok(computed),
        |node| {
            node.int("num_scan_inputs", axes.len() as i64)
                .int_list("scan_input_axes", &axes)
                .graph("body", graph);
            if !output_axes.is_empty() {
                node.int_list("scan_output_axes", output_axes);
            }
            Ok(())
        },
    )?;
    let outputs = results.split_off(states.len());
    Ok(Scanned {
        states: results,
        outputs,
    })
}

/// Ends the body that is being recorded. It gives each result under a name of its own that a node of it produces.
fn end_body(results: &[Value]) -> Result<zoo_graph::Graph> {
    let mut given: Vec<Value> = Vec::with_capacity(results.len());
    for result in results {
        let origin = &result.get()?.origin;
        let twice = given
            .iter()
            .any(|g| g.get().is_ok_and(|g| g.origin.is(origin)));
        given.push(if recorder::is_of_body(origin) && !twice {
            result.clone()
        } else {
            result.copied()
        });
    }
    let mut origins = Vec::with_capacity(given.len());
    for value in &given {
        origins.push(&value.get()?.origin);
    }
    recorder::end_body(&origins)
}

/// What [`raster_scan`] starts from.
#[derive(Clone, Debug)]
pub struct Raster<'a> {
    /// What is read pixel by pixel, noise first: each `[N,c,H,W]`.
    pub inputs: &'a [&'a Value],
    /// Carried from row to row.
    pub states: Vec<Value>,
    /// What stands in for the row above the first: `[N,E,W]` for each of a pixel's outputs.
    pub last: Vec<Value>,
}

/// What is computed once for a row of pixels.
#[derive(Clone, Debug)]
pub struct Row {
    /// For the next row.
    pub states: Vec<Value>,
    /// What the row's pixels read: each `[N,K,W]`.
    pub context: Vec<Value>,
    /// The states of the row's first pixel.
    pub pixels: Vec<Value>,
}

/// What is computed for a pixel.
#[derive(Clone, Debug)]
pub struct Pixel {
    /// For the next pixel of the row.
    pub states: Vec<Value>,
    /// The pixel `[N,C]`, then whatever the next row is to know of this one: each `[N,E]`.
    pub outputs: Vec<Value>,
}

/// Draws images pixel by pixel, row by row, keeping what was computed for earlier pixels: work for a pixel does not grow with the image.
///
/// `row(states, last)` runs once for each row: `last` is the row above of each of the pixels' outputs, `[N,E,W]`. `pixel(states, inputs, context)`
/// runs once for each pixel: it reads its slices of the inputs, `[N,c]`, and of the row's context, `[N,K]`. The result is what the pixels
/// gave first, `[N,C,H,W]`.
///
/// With a single output convolution stack this is the cached generation of Ramachandran et al., "Fast Generation for Convolutional Autoregressive Models" (2017).
#[track_caller]
pub fn raster_scan(
    raster: Raster<'_>,
    row: impl Fn(&[Value], &[Value]) -> Row,
    pixel: impl Fn(&[Value], &[Value], &[Value]) -> Pixel,
) -> Value {
    let Raster {
        inputs,
        states,
        last,
    } = raster;
    if last.is_empty() || inputs.iter().any(|input| input.rank() != 4) {
        return Value::refused(
            "raster_scan",
            "inputs are [N,c,H,W], and `last` has one value for each of a pixel's outputs, the pixel itself first",
        );
    }
    let (carried, outputs) = (states.len(), last.len());
    let start: Vec<Value> = states.into_iter().chain(last).collect();
    let rows: Vec<(&Value, usize)> = inputs.iter().map(|input| (*input, 2)).collect();
    let location = Location::caller();
    let drawn = scan_at(location, &start, &rows, &[2], |before, inputs| {
        let (states, last) = before.split_at(carried);
        let Row {
            mut states,
            context,
            pixels,
        } = row(states, last);
        // [N,c,W] and [N,K,W] along W
        let slices: Vec<(&Value, usize)> = inputs.iter().chain(&context).map(|v| (v, 2)).collect();
        let axes = vec![2; outputs];
        let line = scan_at(location, &pixels, &slices, &axes, |states, slices| {
            let (inputs, context) = slices.split_at(inputs.len());
            let Pixel { states, outputs } = pixel(states, inputs, context);
            ScanStep { states, outputs }
        });
        let x = line.outputs[0].clone(); // (N,C,W)
        states.extend(line.outputs);
        ScanStep {
            states,
            outputs: vec![x],
        }
    });
    drawn.outputs[0].clone() // (N,C,H,W)
}

impl Value {
    /// Zeros `[N, dims...]` with the batch of this value: a state to start from.
    #[track_caller]
    pub fn zeros_like_batch(&self, dims: &[usize]) -> Self {
        let mut one = self.clone();
        for axis in 1..self.rank() {
            one = one.slice(axis as i64, 0, 1);
        }
        let mut shape = vec![1; dims.len() + 1];
        shape[0] = -1;
        let one = one.reshape(&shape); // (N,1,..)
        let mut shape = vec![1];
        shape.extend_from_slice(dims);
        (one * 0.0).expand(&shape)
    }
}
