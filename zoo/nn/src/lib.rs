//! What a generative model is written with, on candle.
//!
//! A network computes on [`Value`]s: candle tensors that, while a trace is on, also write down the graph node of each operation
//! they go through. So one `forward` trains and exports. Around it stand [`Params`], [`layers`], losses and distributions,
//! the [`Model`] trait, one trainer for every model, and [`ModelPlugin`], which makes a `zoo_sdk::Plugin` of a model.

pub mod dist;
mod error;
pub mod layers;
pub mod loss;
mod memory;
mod model;
mod ops;
mod optim;
mod params;
mod plugin;
mod scan;
mod tape;
pub mod testing;
mod trace;
pub mod train;
mod value;

pub use error::{Error, Result};
pub use model::{Batch, GraphFn, Info, Losses, Mode, Model, Phase, StepCx};
pub use ops::{concat, stack};
pub use optim::{AdamConfig, Schedule};
pub use params::{Buffer, Init, Params};
pub use plugin::ModelPlugin;
pub use scan::{Pixel, Raster, Row, ScanStep, Scanned, raster_scan, scan};
pub use tape::Gradients;
pub use trace::trace;
pub use value::Value;
#[doc(hidden)] // for export_plugin!
pub use zoo_sdk as sdk;
pub use zoo_sdk::{Binarization, DataSpec, Metrics, Plugin, Port, Stream};

pub use candle_core::{DType, Device, Tensor};
