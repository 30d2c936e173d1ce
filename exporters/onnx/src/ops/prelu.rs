//! PRelu, and LeakyRelu, whose slope is an attribute.

use super::{arithmetic, prelude::*, unary::floats};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        #[cfg(test)]
        reference: |of| {
            let alpha = of.float("alpha", 0.01);
            of.map(move |v| if v > 0.0 { v } else { alpha * v })
        },
        ..Operator::new(OpKind::LeakyRelu, ONE, &[("alpha", Float)], floats)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.pairs(|v, slope| if v > 0.0 { v } else { slope * v }),
        ..broadcasting(OpKind::PRelu, TWO, arithmetic::infer)
    },
];
