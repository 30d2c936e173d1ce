//! Operators that move elements without computing.

use zoo_graph::{Array, DType, Dim};

use super::{
    Args, Count, Inferred, axes, broadcast,
    dims::{plus, times},
    known,
};

pub(super) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let shape = match args.node.op.as_str() {
        "Reshape" => reshape(args, &ty.shape)?,
        "Transpose" => {
            let perm = permutation(args)?;
            perm.iter().map(|&p| Some(ty.shape[p].clone())).collect()
        }
        "Concat" => concat(args)?,
        "Slice" => slice(args, &ty.shape)?,
        "Split" => return split(args),
        "Squeeze" => {
            let rank = ty.shape.len();
            let gone = match args.has(1) {
                true => axes(&args.ints(1)?, rank)?,
                false => {
                    return Err(
                        "its axes must be given: which sizes are 1 may depend on the batch".into(),
                    );
                }
            };
            if let Some(axis) = gone.iter().find(|&&a| ty.shape[a] != Dim::Fixed(1)) {
                return Err(format!(
                    "axis {axis} has the size {}, not 1",
                    ty.shape[*axis]
                ));
            }
            let kept = ty
                .shape
                .iter()
                .enumerate()
                .filter(|(i, _)| !gone.contains(i));
            kept.map(|(_, dim)| Some(dim.clone())).collect()
        }
        "Unsqueeze" => {
            let list = args.ints(1)?;
            let rank = ty.shape.len() + list.len();
            let new = axes(&list, rank)?;
            let mut rest = ty.shape.iter();
            (0..rank)
                .map(|i| {
                    if new.contains(&i) {
                        Some(Dim::Fixed(1))
                    } else {
                        rest.next().cloned()
                    }
                })
                .collect()
        }
        "Expand" => {
            let target = sizes(&args.ints(1)?)?;
            broadcast(&known(&ty.shape), &target)?
        }
        "Tile" => {
            let repeats = sizes(&args.ints(1)?)?;
            if repeats.len() != ty.shape.len() {
                return Err(format!(
                    "it needs {} repeats, not {}",
                    ty.shape.len(),
                    repeats.len()
                ));
            }
            let pairs = ty.shape.iter().zip(&repeats);
            pairs
                .map(|(dim, r)| times(dim, r.fixed().unwrap_or(0)))
                .collect::<Result<_, _>>()?
        }
        "Gather" => {
            let axis = args.axis(args.node.int("axis").unwrap_or(0), ty.shape.len())?;
            indices(args, ty.shape[axis].fixed())?;
            let (before, after) = (&ty.shape[..axis], &ty.shape[axis + 1..]);
            known(&[before, args.shape(1)?, after].concat())
        }
        "GatherElements" => {
            let axis = args.axis(args.node.int("axis").unwrap_or(0), ty.shape.len())?;
            indices(args, ty.shape[axis].fixed())?;
            let index = args.shape(1)?;
            let smaller = |(i, (a, b)): (usize, (&Dim, &Dim))| {
                i == axis
                    || a == b
                    || matches!((a.fixed(), b.fixed()), (Some(a), Some(b)) if a <= b)
            };
            if index.len() != ty.shape.len()
                || !index.iter().zip(&ty.shape).enumerate().all(smaller)
            {
                return Err("its indices do not fit the data".into());
            }
            known(index)
        }
        "ScatterND" => scatter(args, &ty.shape)?,
        "Pad" => pad(args, &ty.shape)?,
        other => return Err(format!("types cannot be inferred for {other}")),
    };
    Ok(vec![Inferred::new(ty.dtype, shape)])
}

/// Positive sizes as dimensions.
fn sizes(values: &[i64]) -> Result<Vec<Dim>, String> {
    let size = |&v: &i64| {
        usize::try_from(v)
            .map(Dim::Fixed)
            .map_err(|_| format!("the size {v} is negative"))
    };
    values.iter().map(size).collect()
}

fn reshape(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    if args.node.int("allowzero").unwrap_or(0) != 0 {
        return Err("allowzero is not supported".into());
    }
    let target = args.ints(1)?;
    let mut shape: Vec<Option<Dim>> = Vec::with_capacity(target.len());
    for (i, &size) in target.iter().enumerate() {
        shape.push(match size {
            -1 => None,
            0 => {
                Some(x.get(i).cloned().ok_or_else(|| {
                    format!("0 keeps dimension {i}, which the input does not have")
                })?)
            }
            size => Some(
                usize::try_from(size)
                    .map(Dim::Fixed)
                    .map_err(|_| format!("the size {size} is negative"))?,
            ),
        });
    }
    let (all, known) = (Count::of(x)?, Count::of(shape.iter().flatten())?);
    match target.iter().filter(|&&size| size == -1).count() {
        0 if all == known => {}
        0 => {
            return Err(format!(
                "{target:?} does not hold as many elements as the input"
            ));
        }
        1 => {
            let rest = all.over(&known)?;
            shape
                .iter_mut()
                .filter(|d| d.is_none())
                .for_each(|d| *d = rest.clone());
        }
        _ => return Err(format!("{target:?} has more than one -1")),
    }
    Ok(shape)
}

/// The axes of a transposition, in their new order.
pub(crate) fn permutation(args: &Args<'_>) -> Result<Vec<usize>, String> {
    let rank = args.shape(0)?.len();
    let Some(perm) = args.node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    if perm.len() != rank || perm.iter().any(|&p| p < 0) || axes(perm, rank).is_err() {
        return Err(format!("perm {perm:?} is no order of {rank} axes"));
    }
    Ok(perm.iter().map(|&p| p as usize).collect())
}

fn concat(args: &Args<'_>) -> Result<Vec<Option<Dim>>, String> {
    args.same_dtype(0)?;
    let first = args.shape(0)?;
    let axis = args.axis(args.node.int("axis").ok_or("axis is missing")?, first.len())?;
    let mut shape = known(first);
    for i in 1..args.types.len() {
        let next = args.shape(i)?;
        let others = |s: &[Dim]| {
            s.iter()
                .enumerate()
                .filter(|(k, _)| *k != axis)
                .map(|(_, d)| d.clone())
                .collect::<Vec<_>>()
        };
        if next.len() != first.len() || others(next) != others(first) {
            return Err(format!("input {i} does not fit input 0 beside axis {axis}"));
        }
        shape[axis] = match &shape[axis] {
            Some(dim) => plus(dim, &next[axis])?,
            None => None,
        };
    }
    Ok(shape)
}

/// What a Slice takes of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub axis: usize,
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl Range {
    /// First index and number of elements along an axis of this size.
    pub fn within(&self, size: usize) -> (usize, usize) {
        let size = size as i128;
        let (start, end, step) = (
            i128::from(self.start),
            i128::from(self.end),
            i128::from(self.step),
        );
        let wrap = |v: i128| if v < 0 { v + size } else { v };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = wrap(start).clamp(low.max(0), high.max(0));
        let end = wrap(end).clamp(low, high);
        let span = if step > 0 { end - start } else { start - end };
        let count = if span > 0 && size > 0 {
            (span - 1) / step.abs() + 1
        } else {
            0
        };
        (start as usize, count as usize)
    }

    /// Whether all of an axis is taken, whatever its size.
    fn whole(&self) -> bool {
        self.start == 0 && self.step == 1 && self.end >= i64::from(i32::MAX)
    }
}

/// The ranges of a Slice, checked against the input's rank.
pub(crate) fn ranges(args: &Args<'_>) -> Result<Vec<Range>, String> {
    let rank = args.shape(0)?.len();
    let (starts, ends) = (args.ints(1)?, args.ints(2)?);
    let list = match args.has(3) {
        true => args.ints(3)?,
        false => (0..starts.len() as i64).collect(),
    };
    let steps = match args.has(4) {
        true => args.ints(4)?,
        false => vec![1; starts.len()],
    };
    if [ends.len(), list.len(), steps.len()]
        .iter()
        .any(|&n| n != starts.len())
    {
        return Err("starts, ends, axes and steps differ in length".into());
    }
    axes(&list, rank)?;
    (0..starts.len())
        .map(|i| match steps[i] {
            0 => Err("a step is 0".into()),
            step => Ok(Range {
                axis: args.axis(list[i], rank)?,
                start: starts[i],
                end: ends[i],
                step,
            }),
        })
        .collect()
}

fn slice(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let mut shape = known(x);
    for range in ranges(args)? {
        shape[range.axis] = match &x[range.axis] {
            Dim::Fixed(size) => Some(Dim::Fixed(range.within(*size).1)),
            symbolic => range.whole().then(|| symbolic.clone()),
        };
    }
    Ok(shape)
}

fn split(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let axis = args.axis(args.node.int("axis").unwrap_or(0), ty.shape.len())?;
    let parts = args.node.outputs.len();
    let size = ty.shape[axis].fixed();
    let sizes: Vec<usize> = match (args.has(1), size) {
        (true, _) => {
            let given = args.ints(1)?;
            let given: Option<Vec<usize>> =
                given.iter().map(|&v| usize::try_from(v).ok()).collect();
            given.ok_or("a part has a negative size")?
        }
        (false, Some(size)) if size % parts == 0 => vec![size / parts; parts],
        _ => {
            return Err(format!(
                "axis {axis} cannot be divided into {parts} equal parts"
            ));
        }
    };
    let total = sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
    if sizes.len() != parts || total.is_none() || total != size {
        return Err(format!(
            "the parts {sizes:?} do not make up axis {axis} in {parts} outputs"
        ));
    }
    let part = |size: usize| {
        let mut shape = known(&ty.shape);
        shape[axis] = Some(Dim::Fixed(size));
        Inferred::new(ty.dtype, shape)
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// Indices are integers, and constant ones lie inside.
fn indices(args: &Args<'_>, size: Option<usize>) -> Result<(), String> {
    let dtype = args.ty(1)?.dtype;
    if !matches!(dtype, DType::I64 | DType::I32) {
        return Err(format!("its indices must be integers, not {dtype}"));
    }
    if let (Some(constant), Some(size)) = (args.constants.get(1).copied().flatten(), size) {
        let size = size as i64;
        let outside = constant
            .as_i64()
            .ok()
            .and_then(|v| v.iter().find(|&&i| i < -size || i >= size));
        if let Some(i) = outside {
            return Err(format!("the index {i} lies outside of {size} elements"));
        }
    }
    Ok(())
}

fn scatter(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let (index, updates) = (args.ty(1)?, args.ty(2)?);
    if index.dtype != DType::I64 || updates.dtype != args.ty(0)?.dtype {
        return Err("its indices must be i64, its updates of the data's type".into());
    }
    let depth = index
        .shape
        .last()
        .and_then(Dim::fixed)
        .filter(|d| *d <= x.len());
    let depth =
        depth.ok_or("the last size of its indices must be fixed and at most the data's rank")?;
    let expected = [&index.shape[..index.shape.len() - 1], &x[depth..]].concat();
    match expected == updates.shape {
        true => Ok(known(x)),
        false => Err("its updates do not fit its indices".into()),
    }
}

/// Pads before and after each axis.
pub(crate) fn pads(args: &Args<'_>) -> Result<Vec<(usize, usize)>, String> {
    let rank = args.shape(0)?.len();
    let pads = args.ints(1)?;
    if pads.len() != 2 * rank {
        return Err(format!("it needs {} pads, not {}", 2 * rank, pads.len()));
    }
    let size = |v: i64| usize::try_from(v).ok().filter(|v| *v < 1 << 24);
    let pairs: Option<Vec<_>> = (0..rank)
        .map(|i| Some((size(pads[i])?, size(pads[rank + i])?)))
        .collect();
    pairs.ok_or_else(|| "negative pads are not supported, slice instead".into())
}

fn pad(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let mode = args.text("mode", "constant");
    if !["constant", "reflect", "edge"].contains(&mode) {
        return Err(format!("the mode {mode:?} is unknown"));
    }
    if args.has(2)
        && args
            .constants
            .get(2)
            .copied()
            .flatten()
            .is_none_or(|c: &Array| c.len() != 1)
    {
        return Err("its value must be one constant".into());
    }
    let pairs = x.iter().zip(pads(args)?);
    pairs
        .map(|(dim, (before, after))| plus(dim, &Dim::Fixed(before + after)))
        .collect()
}
