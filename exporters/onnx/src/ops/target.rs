//! What the runtimes can run.

use std::fmt;

use zoo_graph::RuntimeId;

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

    /// Its runtimes.
    pub fn runtimes(self) -> &'static [RuntimeId] {
        match self {
            Self::Ort => &[RuntimeId::Ort, RuntimeId::Web],
            Self::Tract => &[RuntimeId::Tract],
            Self::CandleOnnx => &[RuntimeId::CandleOnnx],
        }
    }

    /// The target that serves a runtime.
    pub fn of(runtime: &RuntimeId) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|target| target.runtimes().contains(runtime))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&RuntimeId::list(self.runtimes()))
    }
}
