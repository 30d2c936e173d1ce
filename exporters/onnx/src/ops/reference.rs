//! What the definitions of operators are written with: f64, one element at a time.

use zoo_graph::{Array, DType, Dim};

use super::args::Args;

/// A value.
pub(crate) struct T {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl T {
    pub fn of(array: &Array) -> Self {
        Self {
            shape: array.shape().to_vec(),
            values: array.to_f64(),
        }
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        let pairs = index.iter().zip(&self.shape);
        self.values[pairs.fold(0, |flat, (i, d)| flat * d + i)]
    }

    /// The element, or none outside.
    pub fn padded(&self, index: &[i64]) -> Option<f64> {
        let mut pairs = index.iter().zip(&self.shape);
        let inside = pairs.all(|(&i, &d)| i >= 0 && i < d as i64);
        inside.then(|| self.at(&index.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    }

    /// The element that stands at `index` of a shape that this is broadcast to.
    pub fn broadcast(&self, index: &[usize]) -> f64 {
        let tail = &index[index.len() - self.shape.len()..];
        let pairs = tail.iter().zip(&self.shape);
        let own: Vec<usize> = pairs.map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
        self.at(&own)
    }
}

/// One output: its element at an index.
pub(crate) type Element = Box<dyn Fn(&[usize]) -> f64>;

/// The inputs of a node, and the shapes of its outputs.
pub(crate) struct Operands<'a> {
    pub args: &'a Args<'a>,
    pub shapes: Vec<Vec<usize>>,
}

impl Operands<'_> {
    /// Input 0.
    pub(super) fn x(&self) -> T {
        self.get(0)
    }

    /// Input `i`, which must be there.
    pub(super) fn get(&self, i: usize) -> T {
        self.operand(i).unwrap()
    }

    /// Input `i`, if it is there.
    pub(super) fn operand(&self, i: usize) -> Option<T> {
        self.args.constant(i).map(T::of)
    }

    /// An attribute, or its default.
    pub(super) fn float(&self, name: &str, default: f32) -> f64 {
        self.args.node.float(name).unwrap_or(default).into()
    }

    /// `f` of each element.
    pub(super) fn map(&self, f: impl Fn(f64) -> f64 + 'static) -> Vec<Element> {
        let x = self.x();
        vec![Box::new(move |i| f(x.at(i)))]
    }

    /// `f` of the elements of two inputs, broadcast.
    pub(super) fn pairs(&self, f: impl Fn(f64, f64) -> f64 + 'static) -> Vec<Element> {
        let (a, b) = (self.x(), self.get(1));
        vec![Box::new(move |i| f(a.broadcast(i), b.broadcast(i)))]
    }

    /// `reduce` of the elements that differ along `axes` only.
    pub(super) fn over(
        &self,
        axes: Vec<usize>,
        keep: bool,
        reduce: fn(&[f64]) -> f64,
    ) -> Vec<Element> {
        let x = self.x();
        let all = indices(&x.shape);
        vec![Box::new(move |i| {
            let place = |j: &[usize]| -> Vec<usize> {
                let kept = j.iter().enumerate();
                let kept = kept.filter(|(k, _)| keep || !axes.contains(k));
                kept.map(|(k, &v)| if axes.contains(&k) { 0 } else { v })
                    .collect()
            };
            let peers = all.iter().filter(|j| place(j) == i);
            reduce(&peers.map(|j| x.at(j)).collect::<Vec<_>>())
        })]
    }

    /// Each element less the mean of its `same` ones, by their deviation, then times and plus what `affine` gives.
    pub(super) fn standardised(
        &self,
        same: impl Fn(&[usize], &[usize]) -> bool + 'static,
        affine: impl Fn(&[usize]) -> (f64, f64) + 'static,
    ) -> Vec<Element> {
        let (x, epsilon) = (self.x(), self.float("epsilon", 1e-5));
        let all = indices(&x.shape);
        vec![Box::new(move |i| {
            let peers = all.iter().filter(|j| same(i, j));
            let peers: Vec<f64> = peers.map(|j| x.at(j)).collect();
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let centre = mean(&peers);
            let squares: Vec<f64> = peers.iter().map(|v| (v - centre).powi(2)).collect();
            let (scale, shift) = affine(i);
            (x.at(i) - centre) / (mean(&squares) + epsilon).sqrt() * scale + shift
        })]
    }
}

/// Every index of a shape, in row-major order.
pub(crate) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &d in shape {
        let longer = |head: Vec<usize>| (0..d).map(move |i| [head.clone(), vec![i]].concat());
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

/// The outputs of a node over constants, by its operator's definition.
pub(crate) fn by_definition(args: &Args<'_>) -> Vec<Array> {
    let node = args.node;
    let op = super::find(&node.op).unwrap();
    let types = (op.infer)(args).unwrap_or_else(|e| panic!("{}: {e}", node.op));
    let shape = |ty: &super::args::Inferred| -> Vec<usize> {
        let ty = ty.complete().unwrap();
        ty.shape.iter().map(|d| Dim::fixed(d).unwrap()).collect()
    };
    let shapes = types.iter().map(shape).collect();
    let of = Operands { args, shapes };
    let outputs = (op.reference)(&of).into_iter().zip(&of.shapes);
    outputs
        .map(|(element, shape)| {
            let values = indices(shape).into_iter().map(|i| element(&i));
            let shape = shape.as_slice();
            match types[0].dtype {
                DType::F32 => Array::f32(shape, values.map(|v| v as f32).collect::<Vec<_>>()),
                DType::I64 => Array::i64(shape, values.map(|v| v as i64).collect::<Vec<_>>()),
                DType::Bool => Array::bool(shape, values.map(|v| v as u8).collect::<Vec<_>>()),
                other => panic!("{other}"),
            }
            .unwrap()
        })
        .collect()
}
