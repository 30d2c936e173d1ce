//! The cheap operators over constants, for folding. Not a runtime: what it does not know stays a node.

use zoo_graph::{Array, DType, Data, Dim, ValueType};

use crate::shape::{self, Args};

/// A constant may grow to this many elements, or to twice the elements that it comes from.
const SMALL: usize = 4096;

/// A scalar of an element type.
pub(crate) fn scalar(dtype: DType, value: f64) -> Result<Array, String> {
    let data = match dtype {
        DType::F32 => Data::F32(vec![value as f32]),
        DType::F64 => Data::F64(vec![value]),
        DType::F16 => Data::F16(vec![half::f16::from_f64(value).to_bits()]),
        DType::I64 => Data::I64(vec![value as i64]),
        DType::I32 => Data::I32(vec![value as i32]),
        DType::U8 => Data::U8(vec![value as u8]),
        DType::Bool => Data::Bool(vec![u8::from(value != 0.0)]),
    };
    Array::new([], data).map_err(|e| e.to_string())
}

/// The outputs of a node whose inputs are all constant, where this evaluator knows the operator and the types.
pub(crate) fn evaluate(args: &Args<'_>) -> Option<Vec<Array>> {
    let inputs: Vec<&Array> = args.constants.iter().copied().collect::<Option<_>>()?;
    let types = shape::infer(args).ok()?;
    let types: Vec<ValueType> = types
        .iter()
        .map(shape::Inferred::complete)
        .collect::<Option<_>>()?;
    let shapes = types
        .iter()
        .map(|ty| ty.shape.iter().map(Dim::fixed).collect());
    let shapes: Vec<Vec<usize>> = shapes.collect::<Option<_>>()?;
    let size = |shape: &Vec<usize>| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let total = shapes
        .iter()
        .try_fold(0usize, |n, shape| n.checked_add(size(shape)?))?;
    if total > SMALL.max(2 * inputs.iter().map(|a| a.len()).sum::<usize>()) {
        return None;
    }
    let shape = shapes.first()?.clone();
    let x = *inputs.first()?;
    let one = match args.node.op.as_str() {
        "Identity" => x.clone(),
        "Reshape" | "Squeeze" | "Unsqueeze" => x.clone().reshaped(shape).ok()?,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" => {
            let mut sum = expand(x, &shape)?;
            for next in &inputs[1..] {
                sum = arithmetic(&args.node.op, &sum, next, shape.clone())?;
            }
            sum
        }
        "Greater" | "Less" | "Equal" => compare(&args.node.op, x, inputs[1], shape)?,
        "Neg" | "Abs" | "Exp" | "Log" | "Sqrt" | "Relu" | "Tanh" | "Sigmoid" => {
            unary(&args.node.op, x)?
        }
        "Not" => Array::bool(
            shape,
            x.as_bool().ok()?.iter().map(|v| 1 - v).collect::<Vec<_>>(),
        )
        .ok()?,
        "Cast" => cast(x, types[0].dtype)?,
        "Where" => {
            let choice = pick(
                inputs[0],
                &shape,
                &broadcast_sources(inputs[0].shape(), &shape),
            )?;
            let (yes, no) = (expand(inputs[1], &shape)?, expand(inputs[2], &shape)?);
            choose(choice.as_bool().ok()?, &yes, &no)?
        }
        "Expand" => expand(x, &shape)?,
        "Transpose" => {
            let perm = shape::permutation(args).ok()?;
            let steps = strides(x.shape());
            let sources = each_index(&shape, |index| {
                index.iter().zip(&perm).map(|(i, &p)| i * steps[p]).sum()
            });
            pick(x, &shape, &sources)?
        }
        "Slice" => {
            let steps = strides(x.shape());
            let ranges = shape::ranges(args).ok()?;
            let sources = each_index(&shape, |index| {
                let place =
                    |(axis, &i): (usize, &usize)| match ranges.iter().find(|r| r.axis == axis) {
                        Some(range) => {
                            let first = range.within(x.shape()[axis]).0 as i64;
                            (first + i as i64 * range.step) as usize * steps[axis]
                        }
                        None => i * steps[axis],
                    };
                index.iter().enumerate().map(place).sum()
            });
            pick(x, &shape, &sources)?
        }
        "Concat" => concat(args, &inputs, shape)?,
        _ => return None,
    };
    (shapes.len() == 1 && one.dtype() == types[0].dtype).then(|| vec![one])
}

/// Elements from one position to the next along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        steps[i - 1] = steps[i] * shape[i];
    }
    steps
}

/// `source` of every index of `shape`, in row-major order.
fn each_index(shape: &[usize], source: impl Fn(&[usize]) -> usize) -> Vec<usize> {
    let total = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut sources = Vec::with_capacity(total);
    for _ in 0..total {
        sources.push(source(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    sources
}

/// Where each element of `shape` comes from when `from` is broadcast to it.
fn broadcast_sources(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let steps = strides(from);
    let lead = shape.len() - from.len();
    each_index(shape, |index| {
        let place = |(i, step): (usize, &usize)| {
            if from[i] == 1 {
                0
            } else {
                index[lead + i] * step
            }
        };
        steps.iter().enumerate().map(place).sum()
    })
}

/// The elements at `sources`, of any type.
fn pick(array: &Array, shape: &[usize], sources: &[usize]) -> Option<Array> {
    fn of<T: Copy>(values: &[T], sources: &[usize]) -> Option<Vec<T>> {
        sources.iter().map(|&i| values.get(i).copied()).collect()
    }
    let data = match array.data() {
        Data::F32(v) => Data::F32(of(v, sources)?),
        Data::F64(v) => Data::F64(of(v, sources)?),
        Data::F16(v) => Data::F16(of(v, sources)?),
        Data::I64(v) => Data::I64(of(v, sources)?),
        Data::I32(v) => Data::I32(of(v, sources)?),
        Data::U8(v) => Data::U8(of(v, sources)?),
        Data::Bool(v) => Data::Bool(of(v, sources)?),
    };
    Array::new(shape, data).ok()
}

fn expand(array: &Array, shape: &[usize]) -> Option<Array> {
    pick(array, shape, &broadcast_sources(array.shape(), shape))
}

fn arithmetic(op: &str, a: &Array, b: &Array, shape: Vec<usize>) -> Option<Array> {
    let (a, b) = (expand(a, &shape)?, expand(b, &shape)?);
    if let (Ok(a), Ok(b)) = (a.as_i64(), b.as_i64()) {
        let apply = |(&a, &b): (&i64, &i64)| match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            _ => None,
        };
        return Array::i64(
            shape,
            a.iter().zip(b).map(apply).collect::<Option<Vec<_>>>()?,
        )
        .ok();
    }
    let apply = |(&a, &b): (&f32, &f32)| {
        Some(match op {
            "Add" => a + b,
            "Sub" => a - b,
            "Mul" => a * b,
            "Div" => a / b,
            "Pow" => a.powf(b),
            // NaN wins, as in ONNX.
            "Min" if a.is_nan() || a < b => a,
            "Max" if a.is_nan() || a > b => a,
            "Min" | "Max" => b,
            _ => return None,
        })
    };
    let values = a.as_f32().ok()?.iter().zip(b.as_f32().ok()?).map(apply);
    Array::f32(shape, values.collect::<Option<Vec<_>>>()?).ok()
}

fn compare(op: &str, a: &Array, b: &Array, shape: Vec<usize>) -> Option<Array> {
    fn by<T: PartialOrd>(op: &str, a: &[T], b: &[T]) -> Vec<u8> {
        let holds = |(a, b): (&T, &T)| match op {
            "Greater" => a > b,
            "Less" => a < b,
            _ => a == b,
        };
        a.iter().zip(b).map(|pair| u8::from(holds(pair))).collect()
    }
    let (a, b) = (expand(a, &shape)?, expand(b, &shape)?);
    let values = match (a.data(), b.data()) {
        (Data::F32(a), Data::F32(b)) => by(op, a, b),
        (Data::I64(a), Data::I64(b)) => by(op, a, b),
        _ => return None,
    };
    Array::bool(shape, values).ok()
}

fn unary(op: &str, x: &Array) -> Option<Array> {
    if let (Ok(values), "Neg" | "Abs") = (x.as_i64(), op) {
        let apply = |v: &i64| {
            if op == "Neg" {
                v.checked_neg()
            } else {
                v.checked_abs()
            }
        };
        return Array::i64(
            x.shape(),
            values.iter().map(apply).collect::<Option<Vec<_>>>()?,
        )
        .ok();
    }
    let apply = |v: &f32| match op {
        "Neg" => -v,
        "Abs" => v.abs(),
        "Exp" => v.exp(),
        "Log" => v.ln(),
        "Sqrt" => v.sqrt(),
        "Tanh" => v.tanh(),
        "Sigmoid" => 1.0 / (1.0 + (-v).exp()),
        _ if v.is_nan() => *v,
        _ => v.max(0.0),
    };
    Array::f32(
        x.shape(),
        x.as_f32().ok()?.iter().map(apply).collect::<Vec<_>>(),
    )
    .ok()
}

fn cast(x: &Array, to: DType) -> Option<Array> {
    let data = match (x.data(), to) {
        (Data::F32(v), DType::Bool) => Data::Bool(v.iter().map(|&v| u8::from(v != 0.0)).collect()),
        (Data::F32(v), DType::F16) => Data::F16(
            v.iter()
                .map(|&v| half::f16::from_f32(v).to_bits())
                .collect(),
        ),
        (Data::F16(v), DType::F32) => Data::F32(
            v.iter()
                .map(|&v| half::f16::from_bits(v).to_f32())
                .collect(),
        ),
        (Data::F32(v), DType::I64) => Data::I64(v.iter().map(|&v| v as i64).collect()),
        (Data::I64(v), DType::F32) => Data::F32(v.iter().map(|&v| v as f32).collect()),
        (Data::I64(v), DType::Bool) => Data::Bool(v.iter().map(|&v| u8::from(v != 0)).collect()),
        (Data::U8(v) | Data::Bool(v), DType::F32) => {
            Data::F32(v.iter().map(|&v| f32::from(v)).collect())
        }
        (Data::U8(v) | Data::Bool(v), DType::I64) => {
            Data::I64(v.iter().map(|&v| i64::from(v)).collect())
        }
        (_, to) if x.dtype() == to => return Some(x.clone()),
        _ => return None,
    };
    Array::new(x.shape(), data).ok()
}

fn choose(choice: &[u8], yes: &Array, no: &Array) -> Option<Array> {
    fn of<T: Copy>(choice: &[u8], yes: &[T], no: &[T]) -> Vec<T> {
        let pairs = yes.iter().zip(no);
        choice
            .iter()
            .zip(pairs)
            .map(|(c, (y, n))| if *c != 0 { *y } else { *n })
            .collect()
    }
    let data = match (yes.data(), no.data()) {
        (Data::F32(y), Data::F32(n)) => Data::F32(of(choice, y, n)),
        (Data::I64(y), Data::I64(n)) => Data::I64(of(choice, y, n)),
        _ => return None,
    };
    Array::new(yes.shape(), data).ok()
}

fn concat(args: &Args<'_>, inputs: &[&Array], shape: Vec<usize>) -> Option<Array> {
    let axis = args.axis(args.node.int("axis")?, shape.len()).ok()?;
    let outer: usize = shape[..axis].iter().product();
    let dtype = inputs[0].dtype();
    let mut bytes = Vec::new();
    let parts: Vec<Vec<u8>> = inputs.iter().map(|a| a.to_le_bytes()).collect();
    for row in 0..outer {
        for part in &parts {
            let width = part.len() / outer;
            bytes.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    Array::from_le_bytes(dtype, shape, &bytes).ok()
}

#[cfg(test)]
mod tests;
