//! Networks outside a training step: measured, or run to make their parameters.

use std::sync::Arc;

use zoo_sdk::{Context, Control, DataSpec, EvaluateRequest, Event, Metrics, Stream, trial_sizes};

use super::Batches;
use crate::{
    Mode, Model, Net, Params, Result, StepCx,
    array::tensor_of,
    model::{Mean, Scalars},
    recorder::probing,
    trace::probe,
    value::without_gradients,
};

/// Metrics of `model` with these weights over all batches; `None` where it was cancelled.
pub(crate) fn evaluate<M: Model>(
    model: &M,
    net: &Net,
    batches: &Batches<'_>,
    request: &EvaluateRequest,
    scalars: &Arc<Scalars>,
    cx: &mut dyn Context,
) -> Result<Option<Metrics>> {
    let mut mean = Mean::default();
    let stream = Stream::new(request.seed).named("evaluate");
    let total = batches.len();
    let size = request.batch.max(1);
    for start in (0..total).step_by(size) {
        let indices: Vec<usize> = (start..total.min(start + size)).collect();
        let batch = batches.evaluation(&indices, stream)?;
        let keys = indices.iter().map(|&i| i as u64).collect();
        let mut step = StepCx::new(Mode::Eval, request.step, stream, keys, net, scalars);
        step.importance_samples = request.importance_samples;
        let metrics = without_gradients(|| model.evaluate(&batch, &mut step))?;
        mean.add(metrics, indices.len());
        let done = (start + indices.len()) as u64;
        if cx.progress(&Event::Evaluating {
            done,
            total: total as u64,
        }) == Control::Cancelled
        {
            return Ok(None);
        }
    }
    Ok(Some(mean.finish()))
}

/// Runs all of a model's networks once, so that they make their parameters: its graphs, and the losses of a training step.
pub(crate) fn make<M: Model>(
    model: &M,
    params: &Params,
    data: &DataSpec,
    scalars: &Arc<Scalars>,
) -> Result<()> {
    let net = Net::new(params);
    probing(|| -> Result<()> {
        for graph in model.graphs() {
            let sizes = trial_sizes(&graph.inputs, 1);
            let mut inputs = Vec::new();
            for port in &graph.inputs {
                inputs.push(tensor_of(&probe(port, &sizes)?, params.device())?.into());
            }
            without_gradients(|| graph.call(model, &net, &inputs))?;
        }
        let batch = Batches::probe(data, params.device())?;
        for stage in model.stages() {
            let keys = (0..batch.len() as u64).collect();
            let stream = Stream::new(0).named("probe");
            let mut step = StepCx::new(Mode::Train, 0, stream, keys, &net, scalars)
                .with_averaged(Some(net.clone()));
            for phase in &stage.phases {
                model.loss(phase, &batch, &mut step)?.total.check()?;
            }
        }
        Ok(())
    })?;
    params.finish()
}
