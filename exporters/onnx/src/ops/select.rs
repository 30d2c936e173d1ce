//! Where.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    evaluate,
    ..broadcasting(OpKind::Where, (3, 3), infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.boolean(0)?;
    Inferred::one(args.same_dtype(1)?, args.broadcast_from(0)?)
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    fn each<T: Copy>(choice: &[u8], yes: &[T], no: &[T]) -> Vec<T> {
        let all = choice.iter().zip(yes.iter().zip(no));
        all.map(|(c, (y, n))| if *c != 0 { *y } else { *n })
            .collect()
    }
    let [choice, yes, no] = [of.expanded(0)?, of.expanded(1)?, of.expanded(2)?];
    let choice = choice.as_bool().ok()?;
    let data = match (yes.data(), no.data()) {
        (Data::F32(y), Data::F32(n)) => Data::F32(each(choice, y, n)),
        (Data::I64(y), Data::I64(n)) => Data::I64(each(choice, y, n)),
        _ => return None,
    };
    Array::new(of.shape.clone(), data).ok()
}
