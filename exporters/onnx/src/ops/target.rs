//! What the runtimes can run.

use std::fmt;

/// A set of runtimes that one form of a graph serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// ONNX Runtime, native and on the web.
    Ort,
    /// tract, whose only loop is a flat Scan.
    Tract,
    /// candle-onnx, which has fewer operators.
    CandleOnnx,
}

impl Target {
    /// All targets, the widest first.
    pub const ALL: [Self; 3] = [Self::Ort, Self::Tract, Self::CandleOnnx];

    /// The names of its runtimes.
    pub fn runtimes(self) -> &'static [&'static str] {
        match self {
            Self::Ort => &["ort", "web"],
            Self::Tract => &["tract"],
            Self::CandleOnnx => &["candle-onnx"],
        }
    }

    /// The target that serves a runtime.
    pub fn of(runtime: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|target| target.runtimes().contains(&runtime))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.runtimes().join(", "))
    }
}
