//! Types of a node's outputs from those of its inputs, for every operator of the table, with symbolic dimensions.
//!
//! What cannot be proved is an error: shapes that come from computed values, a batch that would have to be one fixed size.

mod control;
mod dims;
mod movement;
mod spatial;

use zoo_graph::{Array, DType, Dim, Node, ValueType};

use dims::Count;
pub(crate) use movement::{pads, permutation, ranges};
pub(crate) use spatial::{Window, output_padding, transposed_size};

use dims::broadcast;

/// A type whose dimensions may be beyond what a [`Dim`] can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inferred {
    pub dtype: DType,
    pub shape: Vec<Option<Dim>>,
}

impl Inferred {
    fn new(dtype: DType, shape: Vec<Option<Dim>>) -> Self {
        Self { dtype, shape }
    }

    fn of(ty: &ValueType) -> Self {
        Self::new(ty.dtype, known(&ty.shape))
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

fn known(shape: &[Dim]) -> Vec<Option<Dim>> {
    shape.iter().cloned().map(Some).collect()
}

/// A node with what is known of its inputs, in their order; `None` for an input left out.
pub(crate) struct Args<'a> {
    pub node: &'a Node,
    pub types: Vec<Option<&'a ValueType>>,
    pub constants: Vec<Option<&'a Array>>,
}

impl<'a> Args<'a> {
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

    /// Input `i`, a constant list of integers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, String> {
        let constant = self.constants.get(i).copied().flatten();
        let array = constant.ok_or_else(|| {
            format!("input {i} decides the shape, so it must be a constant, not a computed value")
        })?;
        match array.as_i64() {
            Ok(values) if array.shape().len() <= 1 => Ok(values.to_vec()),
            _ => Err(format!("input {i} must be a list of i64, not {array:?}")),
        }
    }

    fn text(&self, name: &str, default: &'a str) -> &'a str {
        match self.node.attributes.get(name) {
            Some(zoo_graph::Attribute::Text(text)) => text,
            _ => default,
        }
    }

    pub fn axis(&self, value: i64, rank: usize) -> Result<usize, String> {
        axis(value, rank)
    }

    fn float(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.ty(i)?;
        match ty.dtype {
            DType::F32 | DType::F64 | DType::F16 => Ok(ty),
            other => Err(format!("input {i} must be of floats, not {other}")),
        }
    }

    fn number(&self, i: usize) -> Result<&'a ValueType, String> {
        let ty = self.ty(i)?;
        match ty.dtype {
            DType::Bool => Err(format!("input {i} must be of numbers, not bool")),
            _ => Ok(ty),
        }
    }

    fn same_dtype(&self, first: usize) -> Result<DType, String> {
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

    fn broadcast_from(&self, first: usize) -> Result<Vec<Option<Dim>>, String> {
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

/// The types of the node's outputs.
pub(crate) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let one = |inferred: Inferred| Ok(vec![inferred]);
    match args.node.op.as_str() {
        "Abs" | "Neg" | "Sign" | "Clip" => {
            args.same_dtype(0)?;
            if args
                .types
                .iter()
                .skip(1)
                .flatten()
                .any(|ty| !ty.shape.is_empty())
            {
                return Err("its bounds must be scalars".into());
            }
            one(Inferred::of(args.number(0)?))
        }
        "Relu" | "LeakyRelu" | "Sigmoid" | "Tanh" | "Elu" | "Softplus" | "Exp" | "Log" | "Sqrt"
        | "Erf" | "Sin" | "Cos" | "Floor" | "Ceil" => one(Inferred::of(args.float(0)?)),
        "Identity" => one(Inferred::of(args.ty(0)?)),
        "Not" => {
            boolean(args, 0)?;
            one(Inferred::of(args.ty(0)?))
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "PRelu" => {
            args.number(0)?;
            one(Inferred::new(args.same_dtype(0)?, args.broadcast_from(0)?))
        }
        "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => {
            args.number(0)?;
            args.same_dtype(0)?;
            one(Inferred::new(DType::Bool, args.broadcast_from(0)?))
        }
        "Equal" => {
            args.same_dtype(0)?;
            one(Inferred::new(DType::Bool, args.broadcast_from(0)?))
        }
        "And" | "Or" => {
            boolean(args, 0)?;
            boolean(args, 1)?;
            one(Inferred::new(DType::Bool, args.broadcast_from(0)?))
        }
        "Where" => {
            boolean(args, 0)?;
            let dtype = args.same_dtype(1)?;
            one(Inferred::new(dtype, args.broadcast_from(0)?))
        }
        "Cast" => {
            let code = args
                .node
                .int("to")
                .and_then(|code| i32::try_from(code).ok());
            let dtype = code.and_then(crate::tensor::dtype_of);
            let dtype = dtype.ok_or("attribute \"to\" is no element type that graphs know")?;
            one(Inferred::new(dtype, known(args.shape(0)?)))
        }
        "Softmax" | "LogSoftmax" => {
            let ty = args.float(0)?;
            args.axis(args.node.int("axis").unwrap_or(-1), ty.shape.len())?;
            one(Inferred::of(ty))
        }
        "CumSum" => {
            let ty = args.number(0)?;
            if args.shape(1)?.iter().any(|d| *d != Dim::Fixed(1)) {
                return Err("its axis must be one number".into());
            }
            if args.constants[1].is_some() {
                let axis = args.ints(1)?;
                args.axis(axis.first().copied().unwrap_or(0), ty.shape.len())?;
            }
            one(Inferred::of(ty))
        }
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => reduce(args),
        "ArgMax" | "ArgMin" => {
            let shape = args.shape(0)?;
            let axis = args.axis(args.node.int("axis").unwrap_or(0), shape.len())?;
            let shape = reduced(shape, &[axis], args.node.int("keepdims").unwrap_or(1) != 0);
            one(Inferred::new(DType::I64, shape))
        }
        "MatMul" => matmul(args),
        "Gemm" => gemm(args),
        "LayerNormalization" => {
            let ty = args.float(0)?;
            args.same_dtype(0)?;
            let axis = args.axis(args.node.int("axis").unwrap_or(-1), ty.shape.len())?;
            for i in (1..3).filter(|&i| args.has(i)) {
                if broadcast(&known(&ty.shape[axis..]), args.shape(i)?)? != known(&ty.shape[axis..])
                {
                    return Err(format!("input {i} does not fit the normalised shape"));
                }
            }
            one(Inferred::of(ty))
        }
        "BatchNormalization" | "InstanceNormalization" | "GroupNormalization" => {
            let ty = args.float(0)?;
            args.same_dtype(0)?;
            let channels = ty.shape.get(1).ok_or("its input has no channels")?;
            for i in 1..args.types.len() {
                if args.shape(i)? != std::slice::from_ref(channels) {
                    return Err(format!(
                        "input {i} must have one element for each of the {channels} channels"
                    ));
                }
            }
            one(Inferred::of(ty))
        }
        "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Resize"
        | "DepthToSpace" => spatial::infer(args).and_then(one),
        "If" | "Loop" | "Scan" => control::infer(args),
        _ => movement::infer(args),
    }
}

fn boolean(args: &Args<'_>, i: usize) -> Result<(), String> {
    match args.ty(i)?.dtype {
        DType::Bool => Ok(()),
        other => Err(format!("input {i} must be of bool, not {other}")),
    }
}

fn reduced(shape: &[Dim], axes: &[usize], keep: bool) -> Vec<Option<Dim>> {
    let kept = shape
        .iter()
        .enumerate()
        .filter_map(|(i, dim)| match axes.contains(&i) {
            false => Some(dim.clone()),
            true => keep.then_some(Dim::Fixed(1)),
        });
    kept.map(Some).collect()
}

/// The axes that a reduction goes over.
pub(crate) fn reduced_axes(args: &Args<'_>) -> Result<Vec<usize>, String> {
    let rank = args.shape(0)?.len();
    let given = match args.node.op.as_str() {
        "ReduceSum" if args.has(1) => Some(args.ints(1)?),
        _ => args.node.ints("axes").map(<[i64]>::to_vec),
    };
    match given {
        Some(list) if !list.is_empty() => axes(&list, rank),
        _ if args.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

fn reduce(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.number(0)?;
    let keep = args.node.int("keepdims").unwrap_or(1) != 0;
    let shape = reduced(&ty.shape, &reduced_axes(args)?, keep);
    Ok(vec![Inferred::new(ty.dtype, shape)])
}

fn matmul(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let dtype = args.number(0)?.dtype;
    args.same_dtype(0)?;
    let (a, b) = (args.shape(0)?, args.shape(1)?);
    if a.is_empty() || b.is_empty() {
        return Err("a scalar cannot be multiplied as a matrix".into());
    }
    let inner = if b.len() == 1 { &b[0] } else { &b[b.len() - 2] };
    if a[a.len() - 1] != *inner {
        return Err(format!(
            "the inner sizes {} and {inner} differ",
            a[a.len() - 1]
        ));
    }
    let batch = |s: &[Dim]| s[..s.len().saturating_sub(2)].to_vec();
    let mut shape = broadcast(&known(&batch(a)), &batch(b))?;
    if a.len() > 1 {
        shape.push(Some(a[a.len() - 2].clone()));
    }
    if b.len() > 1 {
        shape.push(Some(b[b.len() - 1].clone()));
    }
    Ok(vec![Inferred::new(dtype, shape)])
}

fn gemm(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let dtype = args.float(0)?.dtype;
    args.same_dtype(0)?;
    let side = |i: usize, name: &str| -> Result<(Dim, Dim), String> {
        let [rows, columns] = args.shape(i)? else {
            return Err(format!("input {i} must have 2 dimensions"));
        };
        Ok(match args.node.int(name).unwrap_or(0) {
            0 => (rows.clone(), columns.clone()),
            _ => (columns.clone(), rows.clone()),
        })
    };
    let ((m, k), (l, n)) = (side(0, "transA")?, side(1, "transB")?);
    if k != l {
        return Err(format!("the inner sizes {k} and {l} differ"));
    }
    let shape = vec![Some(m), Some(n)];
    if args.has(2) && broadcast(&shape, args.shape(2)?)? != shape {
        return Err("input 2 does not fit the product".into());
    }
    Ok(vec![Inferred::new(dtype, shape)])
}
