//! The operators that files may hold. All that the crate knows of one stands in its file: its signature at opset 17, the types that it
//! gives, its value over constants, its form for each target, and, for tests, its definition.
//!
//! The rest of the crate asks the registry, [`find`], and compares kinds; it never looks at an operator's name.

mod arg_extremum;
mod args;
mod arithmetic;
mod batch_normalization;
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

use zoo_graph::Node;

pub(crate) use args::{Args, Scope, Values};
pub(crate) use constants::evaluate;
#[cfg(test)]
pub(crate) use operator::infer;
pub(crate) use operator::{Operator, conforms, runs};
#[cfg(test)]
pub(crate) use reference::{T, by_definition, indices};
pub(crate) use rewrite::{Failure, Output, Rewrite};
pub use target::Target;

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

#[cfg(test)]
mod tests;
