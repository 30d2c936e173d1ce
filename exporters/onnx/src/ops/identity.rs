//! Identity.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, _| true,
    evaluate: |of| Some(of.x().clone()),
    ..Operator::new(OpKind::Identity, ONE, &[], |args| {
        Inferred::same(args.ty(0)?)
    })
}];
