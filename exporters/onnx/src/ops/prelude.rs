//! What the files of operators are written with.

pub(super) use zoo_graph::{Array, Attribute, DType, Data, Dim, Node};

pub(super) use super::{
    OpKind, Target,
    args::{Args, Inferred, axes, axis, known},
    constants::Constants,
    dims::{Derived, broadcast, plus, times},
    operator::{
        AXIS,
        Kind::{Float, Int, Ints, Text},
        MANY, ONE, Operator, TWO, broadcasting, missing,
    },
    rewrite::{Attributes, Failure, Rewrite, along, attributes, ints},
};

#[cfg(test)]
pub(super) use super::reference::{Element, Operands, indices};
