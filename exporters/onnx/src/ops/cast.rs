//! Cast.

use super::prelude::*;
use crate::tensor;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, same| same,
    evaluate,
    lower,
    runs,
    ..Operator::new(OpKind::Cast, ONE, &[("to", Int)], infer)
}];

/// The attributes of a cast.
pub(crate) fn to(dtype: DType) -> Attributes {
    let code = tensor::dtype_code(dtype);
    attributes([("to", Attribute::Int(code.into()))])
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let code = args
        .node
        .int("to")
        .and_then(|code| i32::try_from(code).ok());
    let dtype = code.and_then(tensor::dtype_of);
    let dtype = dtype.ok_or("attribute \"to\" is no element type that graphs know")?;
    Inferred::one(dtype, known(args.shape(0)?))
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    use half::f16;
    let x = of.x();
    let data = match (x.data(), of.dtype) {
        (_, to) if x.dtype() == to => return Some(x.clone()),
        (Data::F32(v), DType::Bool) => Data::Bool(v.iter().map(|&v| u8::from(v != 0.0)).collect()),
        (Data::F32(v), DType::F16) => {
            Data::F16(v.iter().map(|&v| f16::from_f32(v).to_bits()).collect())
        }
        (Data::F16(v), DType::F32) => {
            Data::F32(v.iter().map(|&v| f16::from_bits(v).to_f32()).collect())
        }
        (Data::F32(v), DType::I64) => Data::I64(v.iter().map(|&v| v as i64).collect()),
        (Data::I64(v), DType::F32) => Data::F32(v.iter().map(|&v| v as f32).collect()),
        (Data::I64(v), DType::Bool) => Data::Bool(v.iter().map(|&v| u8::from(v != 0)).collect()),
        (Data::U8(v) | Data::Bool(v), DType::F32) => {
            Data::F32(v.iter().map(|&v| f32::from(v)).collect())
        }
        (Data::U8(v) | Data::Bool(v), DType::I64) => {
            Data::I64(v.iter().map(|&v| i64::from(v)).collect())
        }
        _ => return None,
    };
    Array::new(x.shape(), data).ok()
}

/// A cast to bool as `!(x == 0)`: candle-onnx keeps the value.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let (from, dtype) = (cx.args.ty(0)?.dtype, cx.result(0)?.dtype);
    if from == dtype {
        cx.pass(x);
    } else if dtype == DType::Bool {
        let zero = cx.scalar("zero", 0.0, x)?;
        let is_zero = cx.emit("is_zero", OpKind::Equal, &[x, &zero])?;
        cx.finish(OpKind::Not, &[&is_zero]);
    } else {
        cx.rewritten(to(dtype));
    }
    Ok(())
}

fn runs(target: Target, node: &Node) -> Result<(), String> {
    let i32_code = i64::from(tensor::dtype_code(DType::I32));
    match target == Target::CandleOnnx && node.int("to") == Some(i32_code) {
        true => Err("it makes i32 into i64; cast to i64".into()),
        false => Ok(()),
    }
}
