//! What is known of a node's inputs, and of its outputs.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, DType, Dim, Graph, Node, ValueType};

use super::dims::broadcast;

/// What a node sees: the types and constants of its graph and of the graphs around it.
pub(crate) trait Values {
    /// The type of a value.
    fn ty(&self, name: &str) -> Option<&ValueType>;
    /// The value of an initializer.
    fn constant(&self, name: &str) -> Option<&Array>;
}

/// A graph within the graphs around it.
pub(crate) struct Scope<'a> {
    graph: &'a Graph,
    constants: BTreeMap<&'a str, &'a Array>,
    outer: Option<&'a dyn Values>,
}

impl<'a> Scope<'a> {
    pub fn new(graph: &'a Graph, outer: Option<&'a dyn Values>) -> Self {
        let constants = graph.initializers.iter();
        Self {
            graph,
            constants: constants.map(|i| (i.name.as_str(), &i.value)).collect(),
            outer,
        }
    }
}

impl Values for Scope<'_> {
    fn ty(&self, name: &str) -> Option<&ValueType> {
        let own = self.graph.types.get(name);
        own.or_else(|| self.outer.and_then(|outer| outer.ty(name)))
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        let own = self.constants.get(name).copied();
        own.or_else(|| self.outer.and_then(|outer| outer.constant(name)))
    }
}

/// A type whose dimensions may be beyond what a [`Dim`] can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inferred {
    pub dtype: DType,
    pub shape: Vec<Option<Dim>>,
}

impl Inferred {
    /// A single output of this type.
    pub(super) fn one(dtype: DType, shape: Vec<Option<Dim>>) -> Result<Vec<Self>, String> {
        Ok(vec![Self { dtype, shape }])
    }

    pub(super) fn of(ty: &ValueType) -> Self {
        Self {
            dtype: ty.dtype,
            shape: known(&ty.shape),
        }
    }

    /// A single output of the type of an input.
    pub(super) fn same(ty: &ValueType) -> Result<Vec<Self>, String> {
        Ok(vec![Self::of(ty)])
    }

    /// The type, where all of it is known.
    pub fn complete(&self) -> Option<ValueType> {
        Some(ValueType {
            dtype: self.dtype,
            shape: self.shape.iter().cloned().collect::<Option<_>>()?,
        })
    }

    /// Whether `ty` can be this type.
    pub fn admits(&self, ty: &ValueType) -> bool {
        self.dtype == ty.dtype
            && self.shape.len() == ty.shape.len()
            && self
                .shape
                .iter()
                .zip(&ty.shape)
                .all(|(inferred, dim)| inferred.as_ref().is_none_or(|d| d == dim))
    }
}

impl std::fmt::Display for Inferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self
            .shape
            .iter()
            .map(|d| d.as_ref().map_or("?".into(), Dim::to_string))
            .collect();
        write!(f, "{}[{}]", self.dtype, dims.join(","))
    }
}

pub(super) fn known(shape: &[Dim]) -> Vec<Option<Dim>> {
    shape.iter().cloned().map(Some).collect()
}

/// A node with what is known of its inputs, in their order; `None` for an input left out.
pub(crate) struct Args<'a> {
    pub node: &'a Node,
    pub types: Vec<Option<&'a ValueType>>,
    pub constants: Vec<Option<&'a Array>>,
}

impl<'a> Args<'a> {
    /// What `values` say of the node's inputs.
    pub fn of(node: &'a Node, values: &'a dyn Values) -> Self {
        let present = |name: &'a String| (!name.is_empty()).then_some(name.as_str());
        let inputs = || node.inputs.iter().map(present);
        Self {
            node,
            types: inputs().map(|name| values.ty(name?)).collect(),
            constants: inputs().map(|name| values.constant(name?)).collect(),
        }
    }

    pub fn ty(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.types.get(i).copied().flatten();
        ty.ok_or_else(|| format!("input {i} is missing"))
    }

    pub fn shape(&self, i: usize) -> Result<&'a [Dim], String> {
        Ok(&self.ty(i)?.shape)
    }

    pub fn has(&self, i: usize) -> bool {
        matches!(self.types.get(i), Some(Some(_)))
    }

    /// Input `i`, where it is a constant.
    pub fn constant(&self, i: usize) -> Option<&'a Array> {
        self.constants.get(i).copied().flatten()
    }

    /// Input `i`, a constant list of integers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, String> {
        let array = self.constant(i).ok_or_else(|| {
            format!("input {i} decides the shape, so it must be a constant, not a computed value")
        })?;
        match array.as_i64() {
            Ok(values) if array.shape().len() <= 1 => Ok(values.to_vec()),
            _ => Err(format!("input {i} must be a list of i64, not {array:?}")),
        }
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    pub fn text(&self, name: &str, default: &'a str) -> &'a str {
        match self.node.attributes.get(name) {
            Some(Attribute::Text(text)) => text,
            _ => default,
        }
    }

    /// The attribute `axis`, or its default, among those of input 0.
    pub fn axis(&self, default: i64) -> Result<usize, String> {
        axis(self.int("axis", default), self.shape(0)?.len())
    }

    pub fn float(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.ty(i)?;
        match ty.dtype {
            DType::F32 | DType::F64 | DType::F16 => Ok(ty),
            other => Err(format!("input {i} must be of floats, not {other}")),
        }
    }

    pub fn boolean(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.ty(i)?;
        match ty.dtype {
            DType::Bool => Ok(ty),
            other => Err(format!("input {i} must be of bool, not {other}")),
        }
    }

    pub fn number(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.ty(i)?;
        match ty.dtype {
            DType::Bool => Err(format!("input {i} must be of numbers, not bool")),
            _ => Ok(ty),
        }
    }

    pub fn same_dtype(&self, first: usize) -> Result<DType, String> {
        let dtype = self.ty(first)?.dtype;
        for i in first + 1..self.types.len() {
            if let Some(ty) = self.types[i]
                && ty.dtype != dtype
            {
                return Err(format!("its inputs are of {dtype} and {}", ty.dtype));
            }
        }
        Ok(dtype)
    }

    pub fn broadcast_from(&self, first: usize) -> Result<Vec<Option<Dim>>, String> {
        let mut shape = known(self.shape(first)?);
        for i in first + 1..self.types.len() {
            shape = broadcast(&shape, self.shape(i)?)?;
        }
        Ok(shape)
    }
}

/// `axis` from 0 to `rank`, counted from the end where negative.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let from_start = if axis < 0 {
        axis.checked_add(rank as i64)
    } else {
        Some(axis)
    };
    from_start
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
        .ok_or_else(|| format!("the axis {axis} does not exist in {rank} dimensions"))
}

/// Different axes of `rank` dimensions, in order.
pub(crate) fn axes(values: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut axes = values
        .iter()
        .map(|&a| axis(a, rank))
        .collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    match axes.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err("an axis is given twice".into()),
        false => Ok(axes),
    }
}
