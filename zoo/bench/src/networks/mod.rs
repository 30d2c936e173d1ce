//! The five networks, as `python/torch_suite.py` has them: the same layers, losses and names of the weights.
//!
//! Data and noise stand in the weights file, so they are buffers here: each step sees the same ones, as in the script.

mod dcgan;
mod masked;
mod pixelcnn;
mod row_lstm;
mod vae;

pub use dcgan::Dcgan;
pub use pixelcnn::PixelCnn;
pub use row_lstm::RowLstm;
pub use vae::{ConvVae, MlpVae};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{Buffer, DataSpec, Error, Info, Losses, Metrics, Params, Result, Value};

/// Settings of every network of the suite.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Images in the weights file.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { batch: 64 }
    }
}

impl Settings {
    /// The images `[N,1,H,W]` of a weights file.
    fn images(&self, data: &DataSpec, params: &Params) -> Result<Buffer> {
        let [c, h, w] = data.image;
        if c != 1 || h % 4 != 0 || w % 4 != 0 || h == 0 || w == 0 {
            return Err(Error::input(format!(
                "the suite takes images of one channel whose sides are multiples of 4, not {:?}",
                data.image
            )));
        }
        params.buffer("x", &[self.batch, c, h, w], 0.0)
    }

    /// The noise `[N,size]` of a weights file.
    fn noise(&self, name: &str, size: usize, params: &Params) -> Result<Buffer> {
        params.buffer(name, &[self.batch, size], 0.0)
    }
}

/// What is known of a network of the suite.
const fn info(name: &'static str, summary: &'static str) -> Info {
    Info {
        name,
        summary,
        family: "benchmark",
        density: "none",
        title: "",
        authors: "",
        year: 0,
        url: "",
        version: "1",
        graphs: &[],
        best_metric: None,
        defaults: "",
    }
}

/// One loss without parts.
fn only(loss: Value) -> Losses {
    Losses {
        total: loss.clone(),
        terms: vec![("loss", loss)],
    }
}

/// A suite's network is trained, not evaluated.
fn no_metrics() -> Result<Metrics> {
    Ok(Metrics::new())
}
