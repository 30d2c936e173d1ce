//! What is known of an operator, and the signature that its nodes are held to.

use zoo_graph::{Array, Node};

use super::{
    OpKind, Target,
    args::{Args, Inferred},
    constants::Constants,
    rewrite::{Failure, Rewrite},
};

/// The kind of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Text,
    Ints,
    Graph,
}

/// The end of a variadic list.
pub(super) const MANY: usize = usize::MAX;
/// Exactly one input, or output.
pub(super) const ONE: (usize, usize) = (1, 1);
/// Exactly two.
pub(super) const TWO: (usize, usize) = (2, 2);
/// An axis as the only attribute.
pub(super) const AXIS: &[(&str, Kind)] = &[("axis", Kind::Int)];

/// An operator. Its file states what differs from [`Operator::new`].
pub(crate) struct Operator {
    pub kind: OpKind,
    /// Least and most.
    pub inputs: (usize, usize),
    /// How many of the first inputs may not be left out.
    pub required: usize,
    pub outputs: (usize, usize),
    pub attributes: &'static [(&'static str, Kind)],
    /// The operator set that it came with, where files of an older one are written without it.
    pub since: Option<i64>,
    /// Whether it works on each element, of inputs that are broadcast to one shape.
    pub broadcasts: bool,
    /// The types of the outputs. What cannot be proved is an error.
    pub infer: fn(&Args<'_>) -> Result<Vec<Inferred>, String>,
    /// Whether the output is the first input, and every other input only says so; told whether both have one type.
    pub idle: fn(&Args<'_>, bool) -> bool,
    /// The only output over constants, for folding: cheap operators have it, where types allow.
    pub evaluate: fn(&Constants<'_>) -> Option<Array>,
    /// Writes the node in the form that the target computes.
    pub lower: fn(&mut Rewrite<'_>) -> Result<(), Failure>,
    /// Whether a target computes a node that was lowered, or what is missing.
    pub runs: fn(Target, &Node) -> Result<(), String>,
    /// Each output by definition, one element at a time.
    #[cfg(test)]
    pub reference: fn(&super::reference::Operands<'_>) -> Vec<super::reference::Element>,
}

impl Operator {
    /// An operator that every target computes as it is, and that is not folded.
    pub const fn new(
        kind: OpKind,
        inputs: (usize, usize),
        attributes: &'static [(&'static str, Kind)],
        infer: fn(&Args<'_>) -> Result<Vec<Inferred>, String>,
    ) -> Self {
        Self {
            kind,
            inputs,
            required: inputs.0,
            outputs: ONE,
            attributes,
            since: None,
            broadcasts: false,
            infer,
            idle: |_, _| false,
            evaluate: |_| None,
            lower: |cx| {
                cx.copy(cx.node.clone());
                Ok(())
            },
            runs: |_, _| Ok(()),
            #[cfg(test)]
            reference: |of| panic!("the reference has no {}", of.args.node.op),
        }
    }
}

/// An operator without attributes that broadcasts its inputs.
pub(super) const fn broadcasting(
    kind: OpKind,
    inputs: (usize, usize),
    infer: fn(&Args<'_>) -> Result<Vec<Inferred>, String>,
) -> Operator {
    Operator {
        broadcasts: true,
        ..Operator::new(kind, inputs, &[], infer)
    }
}

/// Says of an operator that rewrites take apart that no target has it.
pub(super) fn missing(_: Target, _: &Node) -> Result<(), String> {
    Err("the operator is missing there and has no exact rewrite".into())
}
