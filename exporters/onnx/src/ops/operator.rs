//! What is known of an operator, and the signature that its nodes are held to.

use zoo_graph::{Array, Attribute, Node};

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

/// The types of a node's outputs.
pub(crate) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let op = super::find(&args.node.op).ok_or("the operator is unknown")?;
    (op.infer)(args)
}

/// Whether a target computes a node that was lowered, or what is missing.
pub(crate) fn runs(target: Target, node: &Node) -> Result<(), String> {
    let op = super::find(&node.op).ok_or("the operator is unknown")?;
    (op.runs)(target, node)
}

/// Holds a node against its operator: known, counts right, attributes known and of their kind, required inputs there.
pub(crate) fn conforms(node: &Node) -> Result<&'static Operator, String> {
    let op = super::find(&node.op).ok_or("the operator is unknown")?;
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
