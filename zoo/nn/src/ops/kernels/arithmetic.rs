//! Sums, products and their kin, with broadcasting.

use candle_core::{Shape, Tensor};
use zoo_kernels::{Arithmetic, View};

use super::{Result, check, ours};
use crate::{
    memory::{Floats, Held},
    ops::by_candle,
    value::{Computed, Pull, Sink},
};

/// `a op b`, broadcasting.
pub fn arithmetic(
    op: Arithmetic,
    a: &Computed,
    b: &Computed,
    pull: fn(&mut Pull<'_>),
) -> Result<Computed> {
    if !ours(&[a, b]) {
        let compute: fn(&Tensor, &Tensor) -> Result<Tensor> = match op {
            Arithmetic::Add => Tensor::broadcast_add,
            Arithmetic::Sub => Tensor::broadcast_sub,
            Arithmetic::Mul => Tensor::broadcast_mul,
            Arithmetic::Div => Tensor::broadcast_div,
        };
        let held = by_candle(&[a, b], |t| compute(&t[0], &t[1]))?;
        return Ok(Computed::tracked(held, &[a, b], pull));
    }
    let shape = a
        .held
        .peek()
        .shape()
        .broadcast_shape_binary_op(b.held.peek().shape(), "arithmetic")?;
    let held = combined(op, &a.held, &b.held, &shape)?;
    Ok(Computed::by_kernel(held, &[a, b], pull, |y| {
        // Only products need their operands.
        let (product, quotient) = (op == Arithmetic::Mul, op == Arithmetic::Div);
        let kept_a = product.then(|| a.held.detached());
        let kept_b = (product || quotient).then(|| b.held.detached());
        let kept_y = quotient.then(|| y.clone());
        let shapes = [a.held.peek().shape().clone(), b.held.peek().shape().clone()];
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let gradient = Held::new(gradient, shape.clone())?;
            if sink.wants(1) {
                let of_b = match (op, &kept_a, &kept_b, &kept_y) {
                    (Arithmetic::Mul, Some(a), ..) => {
                        Some(combined(Arithmetic::Mul, &gradient, a, &shape)?)
                    }
                    (Arithmetic::Div, _, Some(b), Some(y)) => {
                        let scaled = combined(Arithmetic::Mul, &gradient, y, &shape)?;
                        Some(combined(Arithmetic::Div, &scaled, b, &shape)?)
                    }
                    _ => None,
                };
                let scale = if matches!(op, Arithmetic::Sub | Arithmetic::Div) {
                    -1.0
                } else {
                    1.0
                };
                let of_b = of_b.as_ref().unwrap_or(&gradient);
                sink.give(1, broadcast_back(of_b, &shapes[1], scale)?)?;
            }
            if sink.wants(0) {
                let of_a = match (op, &kept_b) {
                    (Arithmetic::Mul | Arithmetic::Div, Some(b)) => {
                        combined(op, &gradient, b, &shape)?
                    }
                    _ => gradient,
                };
                let gradient = if shape == shapes[0] {
                    of_a.into_floats()?
                } else {
                    broadcast_back(&of_a, &shapes[0], 1.0)?
                };
                sink.give(0, gradient)?;
            }
            Ok(())
        }
    }))
}

/// `a op b` in `shape`.
fn combined(op: Arithmetic, a: &Held, b: &Held, shape: &Shape) -> Result<Held> {
    let (a, b) = (
        a.view(|t| t.broadcast_as(shape))?,
        b.view(|t| t.broadcast_as(shape))?,
    );
    let ((values_a, at_a), (values_b, at_b)) = (a.storage()?, b.storage()?);
    Held::fill(shape.dims(), |out| {
        let a = View {
            values: &values_a[at_a..],
            strides: a.peek().stride(),
        };
        let b = View {
            values: &values_b[at_b..],
            strides: b.peek().stride(),
        };
        zoo_kernels::combine(op, shape.dims(), a, b, out)
    })
}

/// The gradient, times `scale`, of what was broadcast from `shape`: summed over all places that an element went to.
pub fn broadcast_back(gradient: &Held, shape: &Shape, scale: f64) -> Result<Floats> {
    let (dims, small) = (gradient.dims(), shape.dims());
    let values = gradient.read()?;
    let mut out = Floats::stale(shape.elem_count());
    // Dimensions are aligned at the end.
    let missing = dims.len() - small.len();
    let keep: Vec<bool> = (0..dims.len())
        .map(|i| i >= missing && small[i - missing] == dims[i])
        .collect();
    check(zoo_kernels::sum_to(dims, &keep, &values, scale, &mut out))?;
    Ok(out)
}
