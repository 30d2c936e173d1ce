//! How an operation runs: failed inputs go through, errors get its name and the author's line, a trace gets its node.

use std::panic::Location;

use candle_core::Tensor;
use zoo_kernels::KernelError;

use super::{Computed, Value};
use crate::{
    Error, Result,
    error::here,
    recorder::{self, NodeBuilder},
};

/// Why an operation did not work, before its name and place are known.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It got what it cannot take.
    Message(String),
    Candle(candle_core::Error),
    /// Something that says itself where.
    Whole(Error),
}

/// What an operation computes.
pub(crate) type Outcome<T = Computed> = Result<T, Fault>;

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::Message(message.into())
    }
}

impl From<candle_core::Error> for Fault {
    fn from(error: candle_core::Error) -> Self {
        Self::Candle(error)
    }
}

impl From<KernelError> for Fault {
    fn from(error: KernelError) -> Self {
        Self::Candle(candle_core::Error::wrap(error))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

impl Fault {
    fn at(self, op: &'static str, location: &Location<'_>) -> Error {
        match self {
            Self::Message(message) => Error::usage(op, location, message),
            Self::Candle(source) => Error::Op {
                op,
                at: here(location),
                source: Box::new(source),
            },
            Self::Whole(error) => error,
        }
    }
}

/// Runs the operation `name` of ONNX on `inputs`, which are its node's first inputs. `describe` adds the node's attributes and further inputs; it runs only
/// in a trace.
#[track_caller]
pub(crate) fn op<const I: usize>(
    name: &'static str,
    inputs: [&Value; I],
    compute: impl FnOnce([&Computed; I]) -> Outcome,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Value {
    let location = Location::caller();
    // On the stack: a drawing runs some hundred small operations for a pixel.
    let Some(first) = inputs.first() else {
        return Value::failed(Fault::from("takes no inputs").at(name, location));
    };
    let run = || -> Result<Computed> {
        let mut all = [first.get()?; I];
        for (computed, input) in all.iter_mut().zip(inputs) {
            *computed = input.get()?;
        }
        recorded(name, location, &all, compute(all), describe)
    };
    run().into()
}

/// What an operation computed, with its node where a trace is on.
fn recorded(
    name: &'static str,
    location: &'static Location<'static>,
    inputs: &[&Computed],
    outcome: Outcome,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Computed> {
    let mut result = outcome.map_err(|fault| fault.at(name, location))?;
    let results = std::slice::from_mut(&mut result);
    record(name, location, inputs, results, describe)?;
    Ok(result)
}

/// [`op`] for a number of inputs that is not known beforehand.
#[track_caller]
pub(crate) fn op_list(
    name: &'static str,
    inputs: &[&Value],
    compute: impl FnOnce(&[&Computed]) -> Outcome,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Value {
    let location = Location::caller();
    let run = || -> Result<Computed> {
        let all = inputs.iter().map(|v| v.get()).collect::<Result<Vec<_>>>()?;
        recorded(name, location, &all, compute(&all), describe)
    };
    run().into()
}

/// [`op`] with several results, called by the author at `location`.
pub(crate) fn op_results(
    name: &'static str,
    location: &'static Location<'static>,
    inputs: &[&Value],
    compute: impl FnOnce(&[&Computed]) -> Outcome<Vec<Computed>>,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Vec<Value>> {
    let all = inputs.iter().map(|v| v.get()).collect::<Result<Vec<_>>>()?;
    let mut results = compute(&all).map_err(|fault| fault.at(name, location))?;
    record(name, location, &all, &mut results, describe)?;
    Ok(results.into_iter().map(Value::from).collect())
}

/// In a trace, gives the results their places in the graph.
fn record(
    name: &'static str,
    location: &Location<'_>,
    inputs: &[&Computed],
    results: &mut [Computed],
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<()> {
    if !recorder::is_on() {
        return Ok(());
    }
    let tensors: Vec<&Tensor> = results.iter().map(|v| v.held.peek()).collect();
    let origins = recorder::record(name, location, &tensors, |node| {
        for input in inputs {
            node.input(&input.origin, input.held.peek())?;
        }
        describe(node)
    })?;
    for (result, origin) in results.iter_mut().zip(origins) {
        result.origin = origin;
    }
    Ok(())
}

impl Value {
    /// What an operation gives that cannot take its inputs.
    #[track_caller]
    pub(crate) fn refused(name: &'static str, fault: impl Into<Fault>) -> Self {
        Self::failed(fault.into().at(name, Location::caller()))
    }
}

/// What an operation that is composed of others needs to begin: the result, or a failed value that names the operation and the author's line.
macro_rules! attempt {
    ($name:expr, $made:expr) => {
        match $made {
            Ok(made) => made,
            Err(fault) => return $crate::Value::refused($name, fault),
        }
    };
}
pub(crate) use attempt;
