//! The operators that files may hold. All that the crate knows of one stands in its file: its signature at opset 17, the types that it
//! gives, its value over constants, its form for each target, and, for tests, its definition.
//!
//! The rest of the crate asks the registry, [`find`], and compares kinds; it never looks at an operator's name.

mod arg_extremum;
mod args;
mod arithmetic;
mod batch_normalization;
mod bodies;
mod branch;
pub(crate) mod cast;
mod clip;
mod comparison;
mod concat;
mod constants;
mod conv;
mod conv_transpose;
mod cumsum;
mod depth_to_space;
mod dims;
mod elu;
mod expand;
mod extremum;
mod gather;
mod gemm;
mod global_average_pool;
mod group_normalization;
mod identity;
mod layer_normalization;
mod logic;
mod matmul;
mod operator;
pub(crate) mod pad;
mod pool;
mod pow;
mod prelu;
mod prelude;
mod reduce;
#[cfg(test)]
mod reference;
pub(crate) mod repeat;
mod reshape;
mod resize;
mod rewrite;
pub(crate) mod scan;
mod scatter;
mod select;
pub(crate) mod slice;
mod softmax;
mod softplus;
mod split;
mod target;
mod tile;
mod transpose;
mod unary;
mod window;

use std::{collections::BTreeMap, sync::LazyLock};

use zoo_graph::{Array, Attribute, Dim, Node};

pub(crate) use args::{Args, Scope, Values};
pub(crate) use operator::Operator;
#[cfg(test)]
pub(crate) use reference::{T, by_definition, indices};
pub(crate) use rewrite::{Failure, Output, Rewrite};
pub use target::Target;

use args::Inferred;
use constants::{Constants, SMALL};
use operator::{Kind, MANY};

/// Declares the files of this folder with the operators that each holds.
macro_rules! operators {
    ($($file:ident: $($kind:ident),+;)+) => {
        /// An operator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum OpKind {
            $($($kind,)+)+
        }

        impl OpKind {
            /// All of them.
            #[cfg(test)]
            const ALL: &[Self] = &[$($(Self::$kind,)+)+];

            /// ONNX's name of the operator.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$kind => stringify!($kind),)+)+
                }
            }
        }

        /// The operators of all files.
        const FILES: &[&[Operator]] = &[$($file::OPERATORS),+];
    };
}

operators! {
    arg_extremum: ArgMax, ArgMin;
    arithmetic: Add, Sub, Mul, Div;
    batch_normalization: BatchNormalization;
    branch: If;
    cast: Cast;
    clip: Clip;
    comparison: Equal, Greater, GreaterOrEqual, Less, LessOrEqual;
    concat: Concat;
    conv: Conv;
    conv_transpose: ConvTranspose;
    cumsum: CumSum;
    depth_to_space: DepthToSpace;
    elu: Elu;
    expand: Expand;
    extremum: Max, Min;
    gather: Gather, GatherElements;
    gemm: Gemm;
    global_average_pool: GlobalAveragePool;
    group_normalization: GroupNormalization, InstanceNormalization;
    identity: Identity;
    layer_normalization: LayerNormalization;
    logic: And, Not, Or;
    matmul: MatMul;
    pad: Pad;
    pool: AveragePool, MaxPool;
    pow: Pow;
    prelu: LeakyRelu, PRelu;
    reduce: ReduceMax, ReduceMean, ReduceMin, ReduceSum;
    repeat: Loop;
    reshape: Reshape, Squeeze, Unsqueeze;
    resize: Resize;
    scan: Scan;
    scatter: ScatterND;
    select: Where;
    slice: Slice;
    softmax: LogSoftmax, Softmax;
    softplus: Softplus;
    split: Split;
    tile: Tile;
    transpose: Transpose;
    unary: Abs, Ceil, Cos, Erf, Exp, Floor, Log, Neg, Relu, Sigmoid, Sign, Sin, Sqrt, Tanh;
}

/// The operator of this name, if files may hold it.
pub(crate) fn find(name: &str) -> Option<&'static Operator> {
    static BY_NAME: LazyLock<BTreeMap<&str, &Operator>> = LazyLock::new(|| {
        let all = FILES.iter().copied().flatten();
        all.map(|op| (op.kind.name(), op)).collect()
    });
    BY_NAME.get(name).copied()
}

/// A node's operator.
pub(crate) fn kind(node: &Node) -> Option<OpKind> {
    find(&node.op).map(|op| op.kind)
}

/// Whether a node is of this operator.
pub(crate) fn is(node: &Node, kind: OpKind) -> bool {
    node.op == kind.name()
}

/// Whether a node is a loop.
pub(crate) fn is_loop(node: &Node) -> bool {
    matches!(kind(node), Some(OpKind::Scan | OpKind::Loop))
}

/// Whether a node is a loop, or has one in a body.
pub(crate) fn loops(node: &Node) -> bool {
    is_loop(node) || node.bodies().any(|body| body.nodes.iter().any(loops))
}

/// The types of a node's outputs.
pub(crate) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let op = find(&args.node.op).ok_or("the operator is unknown")?;
    (op.infer)(args)
}

/// Whether a target computes a node that was lowered, or what is missing.
pub(crate) fn runs(target: Target, node: &Node) -> Result<(), String> {
    let op = find(&node.op).ok_or("the operator is unknown")?;
    (op.runs)(target, node)
}

/// Holds a node against its operator: known, counts right, attributes known and of their kind, required inputs there.
pub(crate) fn conforms(node: &Node) -> Result<&'static Operator, String> {
    let op = find(&node.op).ok_or("the operator is unknown")?;
    for (what, n, (least, most)) in [
        ("inputs", node.inputs.len(), op.inputs),
        ("outputs", node.outputs.len(), op.outputs),
    ] {
        if n < least || n > most {
            let range = match (least, most) {
                (least, MANY) => format!("at least {least}"),
                (least, most) if least == most => format!("{least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(format!("it has {n} {what}, the operator takes {range}"));
        }
    }
    let mut required = node.inputs.iter().take(op.required);
    if let Some(i) = required.position(String::is_empty) {
        return Err(format!("input {i} is left out"));
    }
    if node.outputs[0].is_empty() {
        return Err("its first output has no name".into());
    }
    for (name, value) in &node.attributes {
        let Some((_, kind)) = op.attributes.iter().find(|(known, _)| known == name) else {
            return Err(format!("the operator has no attribute {name:?}"));
        };
        let got = match value {
            Attribute::Int(_) => Some(Kind::Int),
            Attribute::Float(_) => Some(Kind::Float),
            Attribute::Text(_) => Some(Kind::Text),
            Attribute::Ints(_) => Some(Kind::Ints),
            Attribute::Graph(_) => Some(Kind::Graph),
            Attribute::Floats(_) | Attribute::Tensor(_) => None,
        };
        if got != Some(*kind) {
            return Err(format!("attribute {name:?} is not of the kind {kind:?}"));
        }
    }
    Ok(op)
}

/// The outputs of a node whose inputs are all constant, where its operator has an evaluation for the types.
pub(crate) fn evaluate(args: &Args<'_>) -> Option<Array> {
    let op = find(&args.node.op)?;
    let inputs: Vec<&Array> = args.constants.iter().copied().collect::<Option<_>>()?;
    if inputs.is_empty() || args.node.outputs.len() != 1 {
        return None;
    }
    let ty = infer(args).ok()?.first()?.complete()?;
    let shape: Vec<usize> = ty.shape.iter().map(Dim::fixed).collect::<Option<_>>()?;
    let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if size > SMALL.max(2 * inputs.iter().map(|a| a.len()).sum::<usize>()) {
        return None;
    }
    let value = (op.evaluate)(&Constants {
        args,
        inputs,
        dtype: ty.dtype,
        shape,
    })?;
    (value.dtype() == ty.dtype).then_some(value)
}

#[cfg(test)]
mod tests;
