//! The one [`Loaded`]: checks around whatever engine computes.

use zoo_sdk::{Array, Port, Tensors};

use crate::{
    Error, Loaded, Result, RuntimeId, Stopper,
    guard::{guarded, shorten},
    model::Model,
    ports::{check_inputs, check_outputs, describe_all},
};

/// What a runtime adds to the checks. Its errors are plain text; a panic in it is caught.
pub(crate) trait Engine: Send {
    /// Computes the outputs in the file's order from inputs that fit the file's ports.
    fn run(&mut self, ports: &[Port], inputs: &Tensors) -> Result<Vec<Array>, String>;

    /// As [`Loaded::stopper`].
    fn stopper(&self) -> Option<Stopper> {
        None
    }
}

/// Reads and checks the file, then lets `engine` prepare it.
pub(crate) fn load<E: Engine + 'static>(
    runtime: RuntimeId,
    bytes: &[u8],
    engine: impl FnOnce(&Model) -> Result<E, String>,
) -> Result<Box<dyn Loaded>> {
    let model = Model::read(bytes)?;
    let engine = guarded(|| engine(&model))
        .and_then(|engine| engine)
        .map_err(|reason| Error::Load {
            runtime: runtime.clone(),
            reason: shorten(&reason),
        })?;
    Ok(Box::new(Session {
        runtime,
        inputs: model.inputs,
        outputs: model.outputs,
        engine: Box::new(engine),
    }))
}

struct Session {
    runtime: RuntimeId,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    engine: Box<dyn Engine>,
}

impl Loaded for Session {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &Tensors) -> Result<Tensors> {
        let symbols = check_inputs(&self.inputs, inputs)?;
        let outputs = guarded(|| self.engine.run(&self.outputs, inputs))
            .and_then(|outputs| outputs)
            .and_then(|outputs| match outputs.len() == self.outputs.len() {
                true => Ok(outputs),
                false => Err(format!("it gave {} outputs", outputs.len())),
            })
            .map_err(|reason| Error::Run {
                runtime: self.runtime.clone(),
                sizes: describe_all(inputs),
                reason: shorten(&reason),
            })?;
        check_outputs(&self.runtime, &self.outputs, outputs, &symbols)
    }

    fn stopper(&self) -> Option<Stopper> {
        self.engine.stopper()
    }
}
