//! A stage of a training, and the phases of its steps.

use std::collections::BTreeMap;

use candle_core::Var;
use zoo_sdk::{Checkpoint, LossTerm, Stream, Tensors};

use super::TrainConfig;
use crate::{
    Batch, Error, Losses, Model, Params, Phase, Result, StepCx, model::Stage, optim::Adam,
};

/// A stage: where it stands in the training, and its phases.
pub(super) struct StageState {
    pub phases: Vec<PhaseState>,
    /// Batches of a step: the updates of the phase that has most.
    pub repeats: u64,
    pub steps_per_epoch: u64,
    /// Steps and epochs before it.
    pub begins: u64,
    pub first_epoch: f64,
    /// Its own steps, where that is known.
    pub steps: Option<u64>,
    /// Seeds its orders and steps.
    pub stream: Stream,
    /// Whole batches in the training images.
    slots: u64,
}

impl StageState {
    /// For so many whole batches in an epoch, after these steps and epochs.
    pub fn new(
        stage: Stage,
        (config, phases): &(TrainConfig, Vec<(TrainConfig, u64)>),
        params: &Params,
        slots: usize,
        (begins, first_epoch): (u64, f64),
        stream: Stream,
    ) -> Result<Self> {
        let repeats = phases
            .iter()
            .map(|(_, repeats)| *repeats)
            .max()
            .unwrap_or(1);
        let steps_per_epoch = (slots as u64 / repeats).max(1);
        let steps = config.total_steps(steps_per_epoch);
        let mut own = Vec::new();
        for (phase, (config, repeats)) in stage.phases.into_iter().zip(phases) {
            own.push(PhaseState::new(
                phase,
                config.clone(),
                *repeats,
                begins,
                steps,
                params,
            )?);
        }
        Ok(Self {
            phases: own,
            repeats,
            steps_per_epoch,
            begins,
            first_epoch,
            steps,
            stream,
            slots: slots as u64,
        })
    }

    /// Steps and epochs of the training when it is over.
    pub fn end(&self) -> Option<(u64, f64)> {
        let end = self.begins + self.steps?;
        Some((end, self.epoch(end)))
    }

    /// Epochs of the training that are done after `step` steps.
    pub fn epoch(&self, step: u64) -> f64 {
        let own = step.saturating_sub(self.begins);
        self.first_epoch + own as f64 / self.steps_per_epoch as f64
    }

    /// Whether `step` steps are whole epochs of this stage, or all of it.
    pub fn ends_epoch(&self, step: u64) -> bool {
        let own = step.saturating_sub(self.begins);
        let within = self.steps.is_none_or(|steps| own <= steps);
        own > 0 && within && (own.is_multiple_of(self.steps_per_epoch) || self.steps == Some(own))
    }

    /// Images that it has seen after `step` steps of the training.
    pub fn images(&self, step: u64, batch: usize) -> u64 {
        let own = step.saturating_sub(self.begins);
        own.min(self.steps.unwrap_or(own)) * self.repeats * batch as u64
    }

    /// The epoch of the stage that the step after `step` steps belongs to, which of its batches the update numbered `repeat` takes, and what seeds their order.
    pub fn place(&self, step: u64, repeat: u64) -> (u64, u64, Stream) {
        let own = step.saturating_sub(self.begins);
        let (epoch, within) = (own / self.steps_per_epoch, own % self.steps_per_epoch);
        (
            epoch,
            (within * self.repeats + repeat) % self.slots,
            self.stream,
        )
    }

    /// The phases that update with the batch numbered `repeat`: those with fewer updates take the last ones, so that what phases share is of one batch.
    pub fn due(&mut self, repeat: u64) -> impl Iterator<Item = &mut PhaseState> {
        let repeats = self.repeats;
        let due = move |phase: &&mut PhaseState| repeat + phase.repeats >= repeats;
        self.phases.iter_mut().filter(due)
    }

    /// The first phase's step size for the step after `step` steps.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let own = step.saturating_sub(self.begins);
        self.phases
            .first()
            .map_or(0.0, |phase| phase.learning_rate(own))
    }

    pub fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for PhaseState { phase, adam, .. } in &mut self.phases {
            let updates = checkpoint.state.updates.get(phase.name).copied();
            let updates = updates.unwrap_or(checkpoint.step);
            adam.load(&prefix(phase), &checkpoint.optimizer, updates)?;
        }
        Ok(())
    }

    pub fn save(&self, into: &mut Tensors, updates: &mut BTreeMap<String, u64>) -> Result<()> {
        for PhaseState { phase, adam, .. } in &self.phases {
            adam.save(&prefix(phase), into)?;
            updates.insert(phase.name.into(), adam.updates());
        }
        Ok(())
    }
}

/// A phase and its optimiser.
pub(super) struct PhaseState {
    pub phase: Phase,
    adam: Adam,
    config: TrainConfig,
    repeats: u64,
    /// Steps of its stage, where that is known.
    steps: Option<u64>,
    /// Steps before its stage.
    begins: u64,
}

impl PhaseState {
    fn new(
        phase: Phase,
        config: TrainConfig,
        repeats: u64,
        begins: u64,
        steps: Option<u64>,
        params: &Params,
    ) -> Result<Self> {
        let vars: BTreeMap<String, Var> = params
            .entries()
            .into_iter()
            .filter(|(path, entry)| entry.trainable && phase.trains(path))
            .map(|(path, entry)| (path, entry.var))
            .collect();
        if vars.is_empty() {
            return Err(Error::input(format!(
                "phase {:?} trains no parameter: its paths are {:?}",
                phase.name, phase.trains
            )));
        }
        Ok(Self {
            adam: Adam::new(config.adam(), vars)?,
            phase,
            config,
            repeats,
            steps,
            begins,
        })
    }

    /// The step size of the step after `own` steps of the stage.
    fn learning_rate(&self, own: u64) -> f64 {
        let TrainConfig {
            learning_rate,
            schedule,
            warmup_steps,
            ..
        } = self.config;
        learning_rate * schedule.factor(own, warmup_steps, self.steps)
    }

    /// Minimises the phase's loss by one update; gives the norm of its gradients.
    pub fn update<M: Model>(
        &mut self,
        model: &M,
        batch: &Batch,
        step: &mut StepCx,
        terms: &mut Vec<LossTerm>,
    ) -> Result<f64> {
        let number = step.step + 1; // people count from 1
        let phase = &self.phase;
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
                name.into()
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
        let gradients = loss.backward_to(|parameter| self.adam.trains(parameter))?;
        let norm = self.adam.gradient_norm(&gradients).map_err(at)?;
        let scale = match self.config.clip_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        let learning_rate = self.learning_rate(step.step.saturating_sub(self.begins));
        self.adam.update(&gradients, learning_rate, scale)?;
        Ok(norm)
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
