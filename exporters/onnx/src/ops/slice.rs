//! Slice.

use super::{
    constants::{each_index, pick, strides},
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |args, same| same && ranges(args).is_ok_and(|r| r.iter().all(|r| r.step > 0)),
    evaluate,
    lower,
    ..Operator::new(OpKind::Slice, (3, 5), &[], infer)
}];

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

    /// What is taken of an axis whose size is open: all of it, or all but so many at its beginning and end.
    fn of_open(&self, size: &Dim) -> Option<Dim> {
        let left_out = match self.end {
            end if end >= i64::from(i32::MAX) => 0,
            end if end < 0 => end,
            _ => return None,
        };
        let known = self.step == 1 && self.start >= 0;
        known.then(|| size.moved(left_out.checked_sub(self.start)?))?
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
                axis: axis(list[i], rank)?,
                start: starts[i],
                end: ends[i],
                step,
            }),
        })
        .collect()
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let mut shape = known(&ty.shape);
    for range in ranges(args)? {
        shape[range.axis] = match &ty.shape[range.axis] {
            Dim::Fixed(size) => Some(Dim::Fixed(range.within(*size).1)),
            symbolic => range.of_open(symbolic),
        };
    }
    Inferred::one(ty.dtype, shape)
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    let x = of.x();
    let steps = strides(x.shape());
    let ranges = ranges(of.args).ok()?;
    let sources = each_index(&of.shape, |index| {
        let place = |(axis, &i): (usize, &usize)| match ranges.iter().find(|r| r.axis == axis) {
            Some(range) => {
                let first = range.within(x.shape()[axis]).0 as i64;
                (first + i as i64 * range.step) as usize * steps[axis]
            }
            None => i * steps[axis],
        };
        index.iter().enumerate().map(place).sum()
    });
    pick(x, &of.shape, &sources)
}

/// Starts and ends inside the fixed sizes; backward steps as Gather.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let mut x = cx.input(0)?.to_string();
    let sizes = cx.args.shape(0)?;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for range in ranges(&cx.args)? {
        let size = sizes[range.axis].fixed();
        let (start, count) = size.map_or((0, 0), |size| range.within(size));
        match size {
            Some(size) if (start, count, range.step) == (0, size, 1) => {}
            Some(_) if range.step > 0 => {
                let end = if count == 0 {
                    start as i64
                } else {
                    start as i64 + (count as i64 - 1) * range.step + 1
                };
                forward.push([start as i64, end, range.axis as i64, range.step]);
            }
            Some(_) => {
                let index: Vec<i64> = (0..count as i64)
                    .map(|k| start as i64 + k * range.step)
                    .collect();
                backward.push((range.axis, index));
            }
            None if range.step > 0 => {
                forward.push([range.start, range.end, range.axis as i64, range.step])
            }
            None => return Err("what has no fixed size cannot be reversed".into()),
        }
    }
    for (axis, index) in backward {
        let index = cx.list("index", &index)?;
        x = cx.emit_with("reversed", OpKind::Gather, &[&x, &index], along(axis))?;
    }
    if forward.is_empty() {
        cx.pass(&x);
        return Ok(());
    }
    let mut inputs = vec![x];
    for (k, name) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
        let column: Vec<i64> = forward.iter().map(|row| row[k]).collect();
        inputs.push(cx.list(name, &column)?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    cx.finish(OpKind::Slice, &inputs);
    Ok(())
}
