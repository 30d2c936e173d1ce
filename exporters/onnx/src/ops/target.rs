//! What the runtimes can run.

use std::fmt;

use zoo_graph::{DType, Node};

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

/// What both targets compute right, in the form that this crate writes.
const COMMON: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Conv",
    "Cos",
    "CumSum",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Floor",
    "Gather",
    "GatherElements",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "If",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "ScatterND",
    "Sigmoid",
    "Sign",
    "Sin",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

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

    /// Whether its runtimes compute a lowered node, or what is missing.
    pub(super) fn runs(self, node: &Node) -> Result<(), String> {
        let op = node.op.as_str();
        match self {
            _ if COMMON.contains(&op) => self.accepts(node),
            Self::Ort | Self::Tract if op == "ConvTranspose" => Ok(()),
            Self::Ort if loops(node) => Ok(()),
            Self::Tract if op == "Scan" && !node.bodies().any(|b| b.nodes.iter().any(loops)) => {
                Ok(())
            }
            Self::Tract if loops(node) => Err(
                "it runs a Scan without loops inside, and no Loop; drive the steps from the host"
                    .into(),
            ),
            Self::CandleOnnx if loops(node) => {
                Err("it has no loops; drive the steps from the host".into())
            }
            _ => Err("the operator is missing there and has no exact rewrite".into()),
        }
    }

    /// Forms of common operators that one target lacks.
    fn accepts(self, node: &Node) -> Result<(), String> {
        if self != Self::CandleOnnx {
            return Ok(());
        }
        let uneven = |name: &str| {
            node.ints(name)
                .is_some_and(|v| v.iter().any(|x| *x != v[0]))
        };
        let padded = node.ints("pads").is_some_and(|v| v.iter().any(|&p| p != 0));
        match node.op.as_str() {
            "Conv" if uneven("strides") || uneven("dilations") => {
                Err("strides and dilations must be equal in height and width".into())
            }
            "MaxPool" | "AveragePool" if padded => Err("pooling with pads is missing there".into()),
            "MaxPool" | "AveragePool"
                if node.ints("kernel_shape").is_some_and(|k| k.len() != 2) =>
            {
                Err("only images are pooled there".into())
            }
            "CumSum" if node.int("exclusive") == Some(1) || node.int("reverse") == Some(1) => {
                Err("exclusive and reverse sums are missing there".into())
            }
            "Cast" if node.int("to") == Some(crate::tensor::dtype_code(DType::I32).into()) => {
                Err("it makes i32 into i64; cast to i64".into())
            }
            _ => Ok(()),
        }
    }
}

fn loops(node: &Node) -> bool {
    matches!(node.op.as_str(), "Loop" | "Scan")
        || node.bodies().any(|body| body.nodes.iter().any(loops))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.runtimes().join(", "))
    }
}
