//! What is done with a trained model: it is exported as ONNX files, verified, measured, and drawn from, on every runtime.

mod draw;
pub mod engine;
mod error;
mod evaluate;
mod export;
pub mod onnx_file;
pub mod pretrained;
mod reference;
mod sample;
mod translate;
mod verify;

pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use export::{ExportOptions, Exported, export};
pub use sample::{Given, Known, SampleOptions, Samples, sample};
pub use translate::{TranslateOptions, Translator};
pub use verify::{Verification, VerifyOptions, verify};
