//! Recurrences: loops with carried state that run in candle and are recorded as sub-graphs.
//!
//! In a trace a body is run once, on the first slices, and recorded as the body of an ONNX `Scan`; values from outside that it reads,
//! weights among them, stay outside. The exporter rewrites the scans for runtimes that lack them.

use std::panic::Location;

use candle_core::Tensor;

use crate::{Error, Result, Value, error::here, ops::stack, trace, value::record_all};

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

/// Runs `body` once for each slice of the inputs, in order.
///
/// Each of `inputs` is cut along the axis beside it; all have the same length there. `body` gets the states and the slices (without that
/// axis) and gives the next states and the step's outputs, which are laid side by side along a new axis: `output_axes` says which, one for each.
///
/// # Errors
/// Names the author's line where lengths differ, or where the body gives other numbers of states and outputs, or states of other shapes.
#[track_caller]
pub fn scan(
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    body: impl Fn(&[Value], &[Value]) -> Result<ScanStep>,
) -> Result<Scanned> {
    let location = Location::caller();
    let refuse = |message: String| Error::Usage {
        op: "scan",
        at: here(location),
        message,
    };
    let mut steps = None;
    for (input, axis) in inputs {
        let length = input.dim(*axis)?;
        if *steps.get_or_insert(length) != length {
            return Err(refuse(format!("inputs of {steps:?} and {length} steps")));
        }
    }
    let steps = match steps {
        Some(steps) if steps > 0 => steps,
        _ => return Err(refuse("needs an input with at least one step".into())),
    };
    let fits = |step: &ScanStep, states: &[Value]| {
        if step.states.len() != states.len() || step.outputs.len() != output_axes.len() {
            return Err(refuse(format!(
                "{} states and {} outputs are expected of the body, it gives {} and {}",
                states.len(),
                output_axes.len(),
                step.states.len(),
                step.outputs.len()
            )));
        }
        for (i, (before, after)) in states.iter().zip(&step.states).enumerate() {
            if before.dims() != after.dims() || before.dtype() != after.dtype() {
                return Err(refuse(format!(
                    "state {i} is {:?} {:?} before a step and {:?} {:?} after it",
                    before.dtype(),
                    before.dims(),
                    after.dtype(),
                    after.dims()
                )));
            }
        }
        Ok(())
    };
    if trace::is_on() {
        return recorded(states, inputs, output_axes, steps, |states, slices| {
            let step = body(states, slices)?;
            fits(&step, states)?;
            Ok(step)
        });
    }
    let mut states = states.to_vec();
    let mut outputs = vec![Vec::with_capacity(steps); output_axes.len()];
    for i in 0..steps {
        let mut slices = Vec::with_capacity(inputs.len());
        for (input, axis) in inputs {
            slices.push(slice(input, *axis, i)?);
        }
        let step = body(&states, &slices)?;
        fits(&step, &states)?;
        states = step.states;
        for (all, output) in outputs.iter_mut().zip(step.outputs) {
            all.push(output);
        }
    }
    let mut stacked = Vec::with_capacity(outputs.len());
    for (all, &axis) in outputs.iter().zip(output_axes) {
        stacked.push(stack(&all.iter().collect::<Vec<_>>(), axis)?);
    }
    Ok(Scanned {
        states,
        outputs: stacked,
    })
}

/// Slice `i` along `axis`, without the axis.
fn slice(value: &Value, axis: usize, i: usize) -> Result<Value> {
    value.slice(axis as i64, i, i + 1)?.squeeze(axis as i64)
}

/// Records a `Scan`. Its results have the right shapes, and the values of the first step.
#[track_caller]
fn recorded(
    states: &[Value],
    inputs: &[(&Value, usize)],
    output_axes: &[usize],
    steps: usize,
    body: impl FnOnce(&[Value], &[Value]) -> Result<ScanStep>,
) -> Result<Scanned> {
    let mut fed: Vec<(&str, &Value)> = states.iter().map(|state| ("state", state)).collect();
    let mut slices = Vec::with_capacity(inputs.len());
    for (input, axis) in inputs {
        let tensor = input.tensor().narrow(*axis, 0, 1)?.squeeze(*axis)?;
        slices.push(Value::from(tensor.contiguous()?));
    }
    fed.extend(slices.iter().map(|slice| ("input", slice)));
    let (graph, results) = trace::body("scan", &fed, |fed| {
        let (states, slices) = fed.split_at(states.len());
        let ScanStep {
            states,
            mut outputs,
        } = body(states, slices)?;
        let mut results = states;
        results.append(&mut outputs);
        Ok(results)
    })?;
    let mut values: Vec<Value> = Vec::with_capacity(results.len());
    for (i, result) in results.iter().enumerate() {
        let tensor = result.tensor();
        values.push(match i.checked_sub(states.len()) {
            None => tensor.clone().into(),
            Some(output) => {
                let axis = output_axes[output];
                Tensor::cat(&vec![tensor.unsqueeze(axis)?; steps], axis)?.into()
            }
        });
    }
    let axes: Vec<usize> = inputs.iter().map(|(_, axis)| *axis).collect();
    let mut results = record_all(values, "Scan", |node| {
        for state in states {
            node.input(state)?;
        }
        for (input, _) in inputs {
            node.input(input)?;
        }
        node.int("num_scan_inputs", inputs.len() as i64)
            .int_list("scan_input_axes", &axes)
            .graph("body", graph);
        if !output_axes.is_empty() {
            node.int_list("scan_output_axes", output_axes);
        }
        Ok(())
    })?;
    let outputs = results.split_off(states.len());
    Ok(Scanned {
        states: results,
        outputs,
    })
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
    row: impl Fn(&[Value], &[Value]) -> Result<Row>,
    pixel: impl Fn(&[Value], &[Value], &[Value]) -> Result<Pixel>,
) -> Result<Value> {
    let Raster {
        inputs,
        states,
        last,
    } = raster;
    if last.is_empty() || inputs.iter().any(|input| input.rank() != 4) {
        return Err(Error::usage(
            "raster_scan",
            "inputs are [N,c,H,W], and `last` has one value for each of a pixel's outputs, the pixel itself first",
        ));
    }
    let (carried, outputs) = (states.len(), last.len());
    let start: Vec<Value> = states.into_iter().chain(last).collect();
    let rows: Vec<(&Value, usize)> = inputs.iter().map(|input| (*input, 2)).collect();
    let drawn = scan(&start, &rows, &[2], |before, inputs| {
        let (states, last) = before.split_at(carried);
        let Row {
            mut states,
            context,
            pixels,
        } = row(states, last)?;
        // [N,c,W] and [N,K,W] along W
        let slices: Vec<(&Value, usize)> = inputs.iter().chain(&context).map(|v| (v, 2)).collect();
        let line = scan(&pixels, &slices, &vec![2; outputs], |states, slices| {
            let (inputs, context) = slices.split_at(inputs.len());
            let Pixel { states, outputs } = pixel(states, inputs, context)?;
            Ok(ScanStep { states, outputs })
        })?;
        let x = line.outputs[0].clone(); // (N,C,W)
        states.extend(line.outputs);
        Ok(ScanStep {
            states,
            outputs: vec![x],
        })
    })?;
    Ok(drawn.outputs[0].clone()) // (N,C,H,W)
}

impl Value {
    /// Zeros `[N, dims...]` with the batch of this value: a state to start from.
    #[track_caller]
    pub fn zeros_like_batch(&self, dims: &[usize]) -> Result<Self> {
        let mut one = self.clone();
        for axis in 1..self.rank() {
            one = one.slice(axis as i64, 0, 1)?;
        }
        let mut shape = vec![1; dims.len() + 1];
        shape[0] = -1;
        let one = one.reshape(&shape)?; // (N,1,..)
        let mut shape = vec![1];
        shape.extend_from_slice(dims);
        one.mul_scalar(0.0)?.expand(&shape)
    }
}
