//! One training loop for every model.

mod batches;
mod config;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use candle_core::{Device, Var};
use zoo_sdk::{
    Checkpoint, Context, Control, Dataset, EvaluateRequest, Event, LossTerm, Metrics, StateRecord,
    StopReason, Stream, TrainReport, TrainRequest,
};

pub(crate) use batches::Batches;
pub use config::{Optimizer, TrainConfig};

use crate::{
    Batch, Error, Losses, Mode, Model, Params, Phase, Result, StepCx,
    model::Mean,
    optim::{Adam, Zip},
    params::{array_of, tensor_of},
    tape::without_gradients,
};

/// Images in a preview grid.
const PREVIEW: usize = 64;

/// Trains `M` as `request` says. See `zoo_sdk::Plugin::train`.
pub(crate) fn train<M: Model>(
    request: &TrainRequest,
    data: &Dataset<'_>,
    cx: &mut dyn Context,
) -> Result<TrainReport> {
    let started = Instant::now();
    let mut trainer = Trainer::<M>::new(request, data)?;
    let limit = trainer.settings.max_seconds.map(Duration::from_secs_f64);
    cx.progress(&Event::Started {
        step: trainer.step,
        steps: trainer.steps,
        steps_per_epoch: trainer.steps_per_epoch,
        parameters: trainer.params.trainable_values(),
    });
    let mut saved = None;
    let reason = loop {
        if trainer.steps.is_some_and(|steps| trainer.step >= steps) {
            break StopReason::Finished;
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            break StopReason::TimeLimit;
        }
        let control = trainer.advance(data, cx)?;
        let metrics = trainer.measure(data, cx)?;
        if trainer.every(trainer.settings.sample_every) {
            trainer.preview(cx)?;
        }
        if trainer.every(trainer.settings.checkpoint_every) || metrics.is_some() {
            trainer.save(metrics.unwrap_or_default(), cx)?;
            saved = Some(trainer.step);
        }
        if control == Control::Cancelled {
            break StopReason::Cancelled;
        }
    };
    if saved != Some(trainer.step) {
        trainer.save(Metrics::new(), cx)?;
    }
    Ok(TrainReport {
        reason,
        step: trainer.step,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Metrics of `model` over `split`.
pub(crate) fn evaluate<M: Model>(
    model: &M,
    batches: &Batches<'_>,
    request: &EvaluateRequest,
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
        let mut step = StepCx::new(Mode::Eval, 0, stream, keys, batches.device());
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

/// Everything that changes from step to step.
struct Trainer<M> {
    settings: TrainConfig,
    request: Fixed,
    params: Params,
    model: M,
    /// Averaged weights, and the same network over them.
    ema: Option<(Params, M)>,
    phases: Vec<(Phase, Adam)>,
    step: u64,
    steps: Option<u64>,
    steps_per_epoch: u64,
    batch: usize,
    /// Order of the images in the epoch of this number.
    order: (Option<u64>, Vec<usize>),
    speed: Speed,
}

/// What a run keeps from its request.
struct Fixed {
    stream: Stream,
    seed: u64,
    model: serde_json::Value,
    device: Device,
}

impl<M: Model> Trainer<M> {
    fn new(request: &TrainRequest, data: &Dataset<'_>) -> Result<Self> {
        let settings = TrainConfig::parse(&request.train)?;
        let config: M::Config = serde_json::from_value(request.model.clone())
            .map_err(|e| Error::input(format!("model settings: {e}")))?;
        let device = crate::plugin::device(&request.device)?;
        let images = data.train.len();
        if images == 0 {
            return Err(Error::input(format!(
                "the data set {:?} has no training images",
                data.spec.name
            )));
        }
        let batch = settings.batch.min(images);
        let steps_per_epoch = (images / batch) as u64;

        let start = request.resume.as_ref();
        let weights = start.map(|c| &c.model).or(request.init_from.as_ref());
        let params = match weights {
            Some(weights) => Params::given(weights.clone(), &device),
            None => Params::fresh(request.seed, &device),
        };
        let model = M::new(&config, data.spec, &params)?;
        params.finish()?;
        let ema = match settings.ema {
            Some(_) => {
                let averaged = start
                    .and_then(|c| c.ema.clone())
                    .map_or_else(|| params.snapshot(), Ok)?;
                let params = Params::given(averaged, &device);
                let model = M::new(&config, data.spec, &params)?;
                params.finish()?;
                Some((params, model))
            }
            None => None,
        };

        let mut phases = Vec::new();
        for phase in model.phases() {
            let vars: BTreeMap<String, Var> = params
                .entries()
                .into_iter()
                .filter(|(path, entry)| entry.trainable && phase.trains(path))
                .map(|(path, entry)| (path, entry.var))
                .collect();
            if vars.is_empty() {
                return Err(Error::input(format!(
                    "phase {:?} trains no parameter: its paths are {:?}",
                    phase.name, phase.parameters
                )));
            }
            let mut adam = Adam::new(settings.adam(), vars)?;
            if let Some(checkpoint) = start {
                let updates = checkpoint
                    .state
                    .updates
                    .get(phase.name)
                    .copied()
                    .unwrap_or(checkpoint.step);
                adam.load(&prefix(&phase), &checkpoint.optimizer, updates)?;
            }
            phases.push((phase, adam));
        }
        let steps = settings.total_steps(steps_per_epoch);
        let request = Fixed {
            stream: Stream::new(request.seed),
            seed: request.seed,
            model: request.model.clone(),
            device,
        };
        let step = start.map_or(0, |c| c.step);
        Ok(Self {
            settings,
            request,
            params,
            model,
            ema,
            phases,
            step,
            steps,
            steps_per_epoch,
            batch,
            order: (None, Vec::new()),
            speed: Speed::default(),
        })
    }

    /// One step: each phase's loss, gradients and update; then the averages.
    fn advance(&mut self, data: &Dataset<'_>, cx: &mut dyn Context) -> Result<Control> {
        let (epoch, within) = (
            self.step / self.steps_per_epoch,
            (self.step % self.steps_per_epoch) as usize,
        );
        if self.order.0 != Some(epoch) {
            self.order = (
                Some(epoch),
                self.request
                    .stream
                    .named("order")
                    .at(epoch)
                    .permutation(data.train.len()),
            );
        }
        let indices = &self.order.1[within * self.batch..(within + 1) * self.batch];
        let batch = Batches::new(&data.train, data.spec, &self.request.device)?.training(
            indices,
            self.request.stream,
            epoch,
        )?;
        let stream = self.request.stream.named("step").at(self.step);
        let mut step = StepCx::new(
            Mode::Train,
            self.step,
            stream,
            (0..self.batch as u64).collect(),
            &self.request.device,
        );

        let learning_rate = self.settings.learning_rate
            * self
                .settings
                .schedule
                .factor(self.step, self.settings.warmup_steps, self.steps);
        let mut losses = Vec::new();
        let mut largest: f64 = 0.0;
        for (phase, adam) in &mut self.phases {
            largest = largest.max(Self::phase_step(
                &self.model,
                phase,
                adam,
                &batch,
                &mut step,
                &self.settings,
                learning_rate,
                &mut losses,
            )?);
        }
        self.step += 1;
        self.average()?;
        self.speed.count(self.batch);
        Ok(cx.progress(&Event::Step {
            step: self.step,
            epoch: self.step as f64 / self.steps_per_epoch as f64,
            losses,
            learning_rate,
            gradient_norm: largest,
            images_per_s: self.speed.images_per_s(),
        }))
    }

    /// Minimises one phase's loss by one update; gives the norm of its gradients.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of self, borrowed apart"
    )]
    fn phase_step(
        model: &M,
        phase: &Phase,
        adam: &mut Adam,
        batch: &Batch,
        step: &mut StepCx,
        settings: &TrainConfig,
        learning_rate: f64,
        terms: &mut Vec<LossTerm>,
    ) -> Result<f64> {
        let number = step.step + 1; // people count from 1
        let at = |error| match error {
            Error::Diverged(message) => Error::Diverged(format!("step {number}: {message}")),
            other => other,
        };
        let Losses {
            total: loss,
            terms: named,
        } = model.loss(phase, batch, step)?;
        for (name, value) in named {
            let name = if phase.name.is_empty() {
                (*name).into()
            } else {
                format!("{}/{name}", phase.name)
            };
            let value = value.scalar()?;
            if !value.is_finite() {
                return Err(at(Error::Diverged(format!("the loss {name:?} is {value}"))));
            }
            terms.push(LossTerm { name, value });
        }
        let total = loss.scalar()?;
        if !total.is_finite() {
            return Err(at(Error::Diverged(format!(
                "the loss of phase {:?} is {total}",
                phase.name
            ))));
        }
        let gradients = loss.backward_to(|parameter| adam.trains(parameter))?;
        let norm = adam.gradient_norm(&gradients).map_err(at)?;
        let scale = match settings.clip_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        adam.update(&gradients, learning_rate, scale)?;
        Ok(norm)
    }

    /// Moves the averaged weights towards the new ones; buffers are copied.
    fn average(&mut self) -> Result<()> {
        let (Some((params, _)), Some(decay)) = (&self.ema, self.settings.ema) else {
            return Ok(());
        };
        // As in TensorFlow's ExponentialMovingAverage: early steps count more.
        let decay = decay.min((1.0 + self.step as f64) / (10.0 + self.step as f64)) as f32;
        let current = self.params.entries();
        for (path, averaged) in params.entries() {
            let Some(entry) = current.get(&path) else {
                continue;
            };
            if !entry.trainable {
                averaged.var.set(&entry.var.as_detached_tensor())?;
            } else if entry.var.device().is_cpu() {
                let zip = Zip(|a: &mut [f32], w: &[f32]| {
                    a.iter_mut()
                        .zip(w)
                        .for_each(|(a, w)| *a += (1.0 - decay) * (w - *a));
                    Ok(())
                });
                averaged.var.inplace_op2(entry.var.as_tensor(), &zip)?;
            } else {
                let next = ((averaged.var.as_tensor() * f64::from(decay))?
                    + (entry.var.as_tensor() * f64::from(1.0 - decay))?)?;
                averaged.var.set(&next.detach())?;
            }
        }
        Ok(())
    }

    /// Whether now is the time for what happens every so many steps, or every epoch.
    fn every(&self, steps: Option<u64>) -> bool {
        self.step
            .is_multiple_of(steps.unwrap_or(self.steps_per_epoch).max(1))
    }

    /// The network to look at: the averaged one, where there is one.
    fn best(&self) -> &M {
        self.ema.as_ref().map_or(&self.model, |(_, model)| model)
    }

    /// Metrics over the held-out images, when it is time.
    fn measure(&self, data: &Dataset<'_>, cx: &mut dyn Context) -> Result<Option<Metrics>> {
        let Some(valid) = data.valid.as_ref().filter(|split| !split.is_empty()) else {
            return Ok(None);
        };
        if !self.every(self.settings.evaluate_every) {
            return Ok(None);
        }
        let batches = Batches::new(valid, data.spec, &self.request.device)?;
        let request = EvaluateRequest {
            seed: self.request.seed,
            batch: 256,
            importance_samples: 0,
        };
        let metrics = evaluate(self.best(), &batches, &request, cx)?;
        if let Some(metrics) = &metrics {
            cx.progress(&Event::Metrics {
                step: self.step,
                metrics: metrics.clone(),
            });
        }
        Ok(metrics)
    }

    /// Shows what the `sample` graph draws from the same noise each time.
    fn preview(&self, cx: &mut dyn Context) -> Result<()> {
        let graphs = self.model.graphs();
        let Some(sample) = graphs.iter().find(|g| g.name == "sample") else {
            return Ok(());
        };
        let arrays = zoo_sdk::draw_inputs(&sample.inputs, PREVIEW, self.request.seed, None)
            .map_err(Error::Host)?;
        let mut inputs = Vec::new();
        for port in &sample.inputs {
            inputs.push(tensor_of(&arrays[&port.name], &self.request.device)?.into());
        }
        let drawn = without_gradients(|| sample.call(self.best(), &inputs))?;
        let images = array_of(drawn[0].held().peek())?;
        cx.images(self.step, "sample", &images).map_err(Error::Host)
    }

    fn save(&self, metrics: Metrics, cx: &mut dyn Context) -> Result<()> {
        let model = self.params.snapshot()?;
        let wrong = model.iter().find(|(_, array)| {
            array
                .as_f32()
                .is_ok_and(|v| v.iter().any(|x| !x.is_finite()))
        });
        if let Some((name, _)) = wrong {
            return Err(Error::Diverged(format!(
                "step {}: parameter {name:?} is not finite",
                self.step
            )));
        }
        let mut optimizer = zoo_sdk::Tensors::new();
        let mut updates = BTreeMap::new();
        for (phase, adam) in &self.phases {
            adam.save(&prefix(phase), &mut optimizer)?;
            updates.insert(phase.name.to_string(), adam.updates());
        }
        let state = StateRecord {
            step: self.step,
            images: self.step * self.batch as u64,
            seed: self.request.seed,
            model: (M::INFO.name.into(), M::INFO.version.into()),
            config: self.request.model.clone(),
            updates,
            metrics,
        };
        let ema = self
            .ema
            .as_ref()
            .map(|(params, _)| params.snapshot())
            .transpose()?;
        cx.checkpoint(&Checkpoint {
            step: self.step,
            model,
            ema,
            optimizer,
            state,
        })
        .map_err(Error::Host)
    }
}

/// Where a phase's moments stand in the optimiser's state.
fn prefix(phase: &Phase) -> String {
    if phase.name.is_empty() {
        String::new()
    } else {
        format!("{}.", phase.name)
    }
}

/// Images a second, over a sliding window.
#[derive(Default)]
struct Speed {
    window: std::collections::VecDeque<(Instant, usize)>,
}

impl Speed {
    fn count(&mut self, images: usize) {
        self.window.push_back((Instant::now(), images));
        if self.window.len() > 32 {
            self.window.pop_front();
        }
    }

    fn images_per_s(&self) -> f64 {
        let (Some((from, _)), Some((to, _))) = (self.window.front(), self.window.back()) else {
            return 0.0;
        };
        let images: usize = self.window.iter().skip(1).map(|(_, images)| images).sum();
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 {
            images as f64 / seconds
        } else {
            0.0
        }
    }
}
