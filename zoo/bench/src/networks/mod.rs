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
use zoo_nn::{DataSpec, Error, Info, Net, Result, Value};

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

/// What all have: data and noise in their weights.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    batch: usize,
    image: [usize; 3],
}

impl Suite {
    fn new(settings: &Settings, data: &DataSpec) -> Result<Self> {
        let [c, h, w] = data.image;
        if c != 1 || h % 4 != 0 || w % 4 != 0 || h == 0 || w == 0 {
            return Err(Error::input(format!(
                "the suite takes images of one channel whose sides are multiples of 4, not {:?}",
                data.image
            )));
        }
        Ok(Self {
            batch: settings.batch,
            image: data.image,
        })
    }

    /// The images `[N,1,H,W]` of a weights file.
    fn images(self, net: &Net) -> Result<Value> {
        let [c, h, w] = self.image;
        Ok(net.buffer("x", &[self.batch, c, h, w], 0.0)?.value())
    }

    /// The noise `[N,size]` of a weights file.
    fn noise(self, name: &str, size: usize, net: &Net) -> Result<Value> {
        Ok(net.buffer(name, &[self.batch, size], 0.0)?.value())
    }

    /// A quarter of the images' height and width.
    fn quarter(self) -> [usize; 2] {
        [self.image[1] / 4, self.image[2] / 4]
    }
}

/// The rest of a model of the suite, which is trained, but not evaluated and not exported.
macro_rules! trained_only {
    () => {
        type Config = super::Settings;

        fn new(settings: &super::Settings, data: &zoo_nn::DataSpec) -> zoo_nn::Result<Self> {
            super::Suite::new(settings, data).map(Self)
        }

        fn evaluate(
            &self,
            _: &zoo_nn::Batch,
            _: &mut zoo_nn::StepCx,
        ) -> zoo_nn::Result<zoo_nn::Metrics> {
            Ok(zoo_nn::Metrics::new())
        }

        fn graphs(&self) -> Vec<zoo_nn::GraphFn<Self>> {
            Vec::new()
        }
    };
}
use trained_only;

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
