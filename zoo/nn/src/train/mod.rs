//! One training loop for every model.

mod batches;
mod config;
mod evaluate;
mod stage;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::Device;
use zoo_sdk::{
    Checkpoint, Context, Control, Dataset, EvaluateRequest, Event, GraphKind, LossTerm, Metrics,
    StateRecord, StopReason, Stream, TrainReport, TrainRequest,
};

pub(crate) use batches::Batches;
pub use config::{PartConfig, TrainConfig};
pub(crate) use config::{parts, schema};
pub(crate) use evaluate::{evaluate, make};

use self::{config::Settings, stage::StageState};
use crate::{
    Error, GraphFn, Mode, Model, Net, Params, Result, StepCx,
    array::{array_of, tensor_of},
    model::Scalars,
    optim::Zip,
    settings,
    value::without_gradients,
};

/// Images in a preview grid.
const PREVIEW: usize = 64;
/// Pairs in a preview of a map from images to images.
const PREVIEW_PAIRS: usize = 12;

/// Trains `M` as `request` says. See `zoo_sdk::Plugin::train`.
pub(crate) fn train<M: Model>(
    request: &TrainRequest,
    data: &Dataset<'_>,
    cx: &mut dyn Context,
) -> Result<TrainReport> {
    let started = Instant::now();
    let mut trainer = Trainer::<M>::new(request, data)?;
    // What is too long for a duration is no limit.
    let limit = trainer.settings.all.max_seconds;
    let limit = limit.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    cx.progress(&Event::Started {
        step: trainer.step,
        steps: trainer.steps(),
        steps_per_epoch: trainer.stage().steps_per_epoch,
        parameters: trainer.params.trainable_values(),
    });
    if trainer.step == 0 && trainer.params.wait_for_data() {
        trainer.start_from_data(data)?;
    }
    let mut saved = None;
    let reason = loop {
        if trainer.steps().is_some_and(|steps| trainer.step >= steps) {
            break StopReason::Finished;
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            break StopReason::TimeLimit;
        }
        let control = trainer.advance(data, cx)?;
        let metrics = trainer.measure(data, cx)?;
        if trainer.every(trainer.settings.all.sample_every) {
            trainer.preview(data, cx)?;
        }
        if trainer.every(trainer.settings.all.checkpoint_every) || metrics.is_some() {
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

/// Everything that changes from step to step.
struct Trainer<M> {
    settings: Settings,
    request: Fixed,
    params: Params,
    model: M,
    /// Averaged weights.
    ema: Option<Params>,
    stages: Vec<StageState>,
    scalars: Arc<Scalars>,
    step: u64,
    batch: usize,
    /// Order of the images in the epoch of this number, of the stage of this number.
    order: (Option<(usize, u64)>, Vec<usize>),
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
        let device = crate::device::device(&request.device)?;
        let images = data.train.len();
        if images == 0 {
            return Err(Error::input(format!(
                "the data set {:?} has no training images",
                data.spec.name
            )));
        }
        let model: M = settings::model(&request.model, data.spec)?;
        let parts = model.stages();
        let settings = Settings::parse(&request.train, &parts)?;
        let batch = settings.all.batch.min(images);

        let start = request.resume.as_ref();
        let weights = start.map(|c| &c.model).or(request.init_from.as_ref());
        let params = match (weights, &request.init_part) {
            (Some(weights), Some(part)) if start.is_none() => {
                Params::partly(weights.clone(), part, request.seed, &device)
            }
            (Some(weights), _) => Params::given(weights.clone(), &device),
            (None, _) => Params::fresh(request.seed, &device),
        };
        let scalars = Arc::new(Scalars::new(settings.all.anneal.clone()));
        make(&model, &params, data.spec, &scalars)?;
        scalars.check()?;
        let ema = match settings.all.ema {
            Some(_) => Some(params.twin(start.and_then(|c| c.ema.as_ref()))?),
            None => None,
        };
        let stream = Stream::new(request.seed);
        let slots = images / batch;
        let mut stages: Vec<StageState> = Vec::new();
        for (part, own) in parts.into_iter().zip(&settings.stages) {
            let first = stages.last().map_or(Some((0, 0.0)), StageState::end);
            let after = first.ok_or_else(|| {
                Error::input(
                    "train.epochs or train.steps must say when a stage that others follow ends",
                )
            })?;
            let stream = match stages.len() {
                0 => stream,
                index => stream.named("stage").at(index as u64),
            };
            let mut stage = StageState::new(part, own, &params, slots, after, stream)?;
            if let Some(checkpoint) = start {
                stage.load(checkpoint)?;
            }
            stages.push(stage);
        }
        Ok(Self {
            settings,
            request: Fixed {
                stream,
                seed: request.seed,
                model: request.model.clone(),
                device,
            },
            params,
            model,
            ema,
            stages,
            scalars,
            step: start.map_or(0, |c| c.step),
            batch,
            order: (None, Vec::new()),
            speed: Speed::default(),
        })
    }

    /// The step to stop at, where that is known.
    fn steps(&self) -> Option<u64> {
        self.stages
            .last()
            .and_then(StageState::end)
            .map(|(step, _)| step)
    }

    /// Number of the stage that the next step belongs to.
    fn current(&self) -> usize {
        let begun = self.stages.iter().filter(|s| s.begins <= self.step).count();
        begun.max(1) - 1
    }

    fn stage(&self) -> &StageState {
        &self.stages[self.current()]
    }

    /// Images of the next batch but `repeat`, in the order of the epoch.
    fn indices(&mut self, images: usize, repeat: u64) -> (Vec<usize>, u64) {
        let (epoch, slot, stream) = self.stage().place(self.step, repeat);
        let place = (self.current(), epoch);
        if self.order.0 != Some(place) {
            let order = stream.named("order").at(epoch).permutation(images);
            self.order = (Some(place), order);
        }
        let from = slot as usize * self.batch;
        (self.order.1[from..from + self.batch].into(), epoch)
    }

    /// What a step knows, for networks at the root `net`.
    fn cx(&self, net: &Net, stream: Stream) -> StepCx {
        let keys = (0..self.batch as u64).collect();
        let mut cx = StepCx::new(Mode::Train, self.step, stream, keys, net, &self.scalars)
            .with_averaged(self.ema.as_ref().map(Net::new));
        cx.steps = self.steps();
        cx
    }

    /// One step: each phase's loss, gradients and update; then the averages.
    fn advance(&mut self, data: &Dataset<'_>, cx: &mut dyn Context) -> Result<Control> {
        let current = self.current();
        let (repeats, stream) = (self.stages[current].repeats, self.stages[current].stream);
        let stream = stream.named("step").at(self.step);
        let (mut losses, mut largest) = (Vec::new(), 0.0f64);
        for repeat in 0..repeats {
            let (indices, epoch) = self.indices(data.train.len(), repeat);
            let batches = Batches::new(&data.train, data.spec, &self.request.device)?;
            let batch = batches.training(&indices, self.request.stream, epoch)?;
            let stream = match repeat {
                0 => stream,
                repeat => stream.named("repeat").at(repeat),
            };
            let mut step = self.cx(&Net::new(&self.params), stream);
            losses.clear();
            let stage = &mut self.stages[current];
            for phase in stage.due(repeat) {
                let norm = phase.update(&self.model, &batch, &mut step, &mut losses)?;
                largest = largest.max(norm);
            }
        }
        for (name, anneal) in &self.scalars.scheduled {
            losses.push(LossTerm {
                name: name.clone(),
                value: anneal.at(self.step),
            });
        }
        let stage = &self.stages[current];
        let (learning_rate, epoch) = (stage.learning_rate(self.step), stage.epoch(self.step + 1));
        self.step += 1;
        self.average()?;
        self.speed.count(self.batch * repeats as usize);
        Ok(cx.progress(&Event::Step {
            step: self.step,
            epoch,
            losses,
            learning_rate,
            gradient_norm: largest,
            images_per_s: self.speed.images_per_s(),
        }))
    }

    /// Lets the parameters that start from data do so, by the first batch.
    fn start_from_data(&mut self, data: &Dataset<'_>) -> Result<()> {
        let (indices, epoch) = self.indices(data.train.len(), 0);
        let batches = Batches::new(&data.train, data.spec, &self.request.device)?;
        let batch = batches.training(&indices, self.request.stream, epoch)?;
        let stream = self.request.stream.named("start");
        let mut step = self.cx(&Net::new(&self.params).starting(), stream);
        for phase in &self.stages[0].phases {
            self.model
                .loss(&phase.phase, &batch, &mut step)?
                .total
                .check()?;
        }
        if let Some(ema) = &self.ema {
            ema.copy_from(&self.params)?;
        }
        Ok(())
    }

    /// Moves the averaged weights towards the new ones; buffers are copied.
    fn average(&mut self) -> Result<()> {
        let (Some(params), Some(decay)) = (&self.ema, self.settings.all.ema) else {
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
        match steps {
            Some(steps) => self.step.is_multiple_of(steps.max(1)),
            // The step just done may have been the last of its stage.
            None => self.stages.iter().any(|stage| stage.ends_epoch(self.step)),
        }
    }

    /// The weights to look at: the averaged ones, where there are any.
    fn best(&self) -> Net {
        Net::new(self.ema.as_ref().unwrap_or(&self.params))
    }

    /// Metrics over the held-out images, when it is time.
    fn measure(&self, data: &Dataset<'_>, cx: &mut dyn Context) -> Result<Option<Metrics>> {
        let Some(valid) = data.valid.as_ref().filter(|split| !split.is_empty()) else {
            return Ok(None);
        };
        if !self.every(self.settings.all.evaluate_every) {
            return Ok(None);
        }
        let batches = Batches::new(valid, data.spec, &self.request.device)?;
        let request = EvaluateRequest {
            seed: self.request.seed,
            batch: 256,
            importance_samples: 0,
            step: self.step,
        };
        let metrics = evaluate(
            &self.model,
            &self.best(),
            &batches,
            &request,
            &self.scalars,
            cx,
        )?;
        if let Some(metrics) = &metrics {
            cx.progress(&Event::Metrics {
                step: self.step,
                metrics: metrics.clone(),
            });
        }
        Ok(metrics)
    }

    /// Shows what the `sample` graph draws from the same noise each time, or what the `translate` graph makes of the same images.
    fn preview(&self, data: &Dataset<'_>, cx: &mut dyn Context) -> Result<()> {
        let graphs = self.model.graphs();
        let of_kind = |kind: GraphKind| {
            let mut graphs = graphs.iter();
            graphs.find(|graph| GraphKind::from(graph.name) == kind)
        };
        if let Some(translate) = of_kind(GraphKind::Translate) {
            return self.preview_pairs(translate, data, cx);
        }
        let Some(sample) = of_kind(GraphKind::Sample) else {
            return Ok(());
        };
        if sample.inputs.iter().any(zoo_sdk::must_be_given) {
            return Ok(()); // only whoever draws knows them
        }
        let arrays = zoo_sdk::draw_inputs(&sample.inputs, PREVIEW, self.request.seed, None)
            .map_err(Error::Host)?;
        let mut inputs = Vec::new();
        for port in &sample.inputs {
            inputs.push(tensor_of(&arrays[&port.name], &self.request.device)?.into());
        }
        let drawn = without_gradients(|| sample.call(&self.model, &self.best(), &inputs))?;
        let images = array_of(drawn[0].tensor()?)?;
        cx.images(self.step, sample.name, &images)
            .map_err(Error::Host)
    }

    /// Inputs enlarged by bicubic interpolation, what the model makes of them, and targets, side by side.
    fn preview_pairs(
        &self,
        translate: &GraphFn<M>,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<()> {
        let split = data.valid.as_ref().unwrap_or(&data.train);
        let indices: Vec<usize> = (0..split.len().min(PREVIEW_PAIRS)).collect();
        let stream = Stream::new(self.request.seed).named("preview");
        let batches = Batches::new(split, data.spec, &self.request.device)?;
        let image = batches.evaluation(&indices, stream)?.image(); // (N,C,H,W)
        let made = without_gradients(|| translate.call(&self.model, &self.best(), &[image]))?;
        let made = array_of(made[0].tensor()?)?;
        let sheet = zoo_sdk::side_by_side(split, data.spec, &indices, stream, &made);
        let sheet = sheet.map_err(Error::Host)?;
        cx.images(self.step, GraphKind::Sample.name(), &sheet)
            .map_err(Error::Host)
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
        for stage in &self.stages {
            stage.save(&mut optimizer, &mut updates)?;
        }
        let state = StateRecord {
            step: self.step,
            images: self
                .stages
                .iter()
                .map(|s| s.images(self.step, self.batch))
                .sum(),
            seed: self.request.seed,
            model: (M::INFO.name.into(), M::INFO.version.into()),
            config: self.request.model.clone(),
            updates,
            metrics,
        };
        let ema = self.ema.as_ref().map(Params::snapshot).transpose()?;
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
