//! The two traits behind which every model stands.

use crate::{
    Array, Checkpoint, Control, Dataset, Description, EvaluateRequest, Event, Graph, GraphInfo,
    Metrics, OpenRequest, Result, Split, Tensors, TrainReport, TrainRequest,
};

/// A model that can be described, trained and opened.
pub trait Plugin: Send + Sync {
    /// What the model is. The same answer each time.
    fn describe(&self) -> Description;

    /// Trains until the settings or `cx` say stop. The last step always leaves a checkpoint.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) for settings or data that do not fit, before anything is computed;
    /// [`Error::Diverged`](crate::Error::Diverged) in the step where a value stops being finite.
    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport>;

    /// Opens trained weights.
    ///
    /// # Errors
    /// Names the first tensor that is missing, left over or of another shape.
    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>>;
}

/// A trained model, ready to compute.
pub trait Session: Send {
    /// Signatures of all its graphs.
    fn graphs(&self) -> Result<Vec<GraphInfo>>;

    /// Computes the graph called `graph`. Every input has the same batch size.
    fn run(&self, graph: &str, inputs: &Tensors) -> Result<Tensors>;

    /// Metrics over a split, per image.
    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        cx: &mut dyn Context,
    ) -> Result<Metrics>;

    /// Records the graph called `graph` with its weights.
    fn export(&self, graph: &str) -> Result<Graph>;
}

/// The host's side of a running call.
pub trait Context: Send {
    /// Takes note of `event`; the answer decides whether to go on.
    fn progress(&mut self, event: &Event) -> Control;

    /// Keeps a checkpoint. Returns after it is safe.
    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()>;

    /// Shows images `[N,C,H,W]` in `[0, 1]` drawn by the half-trained model.
    fn images(&mut self, step: u64, name: &str, images: &Array) -> Result<()>;
}

/// A context that keeps nothing and never cancels.
#[derive(Debug, Default)]
pub struct Silent;

impl Context for Silent {
    fn progress(&mut self, _: &Event) -> Control {
        Control::Continue
    }

    fn checkpoint(&mut self, _: &Checkpoint) -> Result<()> {
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> Result<()> {
        Ok(())
    }
}
