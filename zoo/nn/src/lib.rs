#![doc = include_str!("../README.md")]

mod array;
mod autoregressive;
mod device;
pub mod dist;
mod error;
pub mod field;
pub mod layers;
pub mod loss;
mod memory;
mod model;
mod net;
pub mod nets;
mod ops;
mod optim;
mod params;
mod plugin;
pub mod quality;
mod recorder;
mod settings;
pub mod testing;
mod trace;
pub mod train;
mod value;

pub use autoregressive::{Autoregressive, Causal};
pub use error::{Error, Result};
pub use field::{Field, List};
pub use model::{Anneal, Batch, GraphFn, Info, Losses, Model, Outputs, Phase, Role, Stage, StepCx};
pub use net::{Mode, Net};
pub use ops::{
    Pixel, Raster, Row, ScanStep, Scanned, Steps, concat, raster_scan, repeat, scan, stack,
};
pub use optim::{AdamConfig, Optimizer, Schedule};
pub use params::{Buffer, Init, Params};
pub use plugin::{ModelPlugin, fresh};
pub use trace::trace;
pub use value::{GradOptions, Gradients, Value, grad, twice_differentiable};
#[doc(hidden)] // for export_plugin!
pub use zoo_sdk as sdk;
pub use zoo_sdk::{Binarization, DataSpec, Dim, Metrics, Plugin, Port, Stream, Task};

pub use candle_core::{DType, Device, Tensor};
