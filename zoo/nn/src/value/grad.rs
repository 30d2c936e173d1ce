//! Asking for gradients.

use std::collections::{HashMap, HashSet};

use candle_core::{Tensor, TensorId};

use super::{
    Value,
    tape::{Found, Gradient, Wanted, island, pass},
};
use crate::{
    Error, Result,
    memory::{Floats, Held},
};

/// Gradients of a loss with respect to the parameters it was computed from.
#[derive(Debug, Default)]
pub struct Gradients {
    by: HashMap<TensorId, Held>,
}

impl Gradients {
    /// The gradient of a parameter, in its shape; `None` where the loss does not depend on it.
    pub fn get(&self, parameter: &Value) -> Option<Tensor> {
        let parameter = parameter.get().ok()?;
        self.of(parameter.held.peek())
            .map(|held| held.lend().clone())
    }

    pub(crate) fn of(&self, tensor: &Tensor) -> Option<&Held> {
        self.by.get(&tensor.id())
    }
}

/// How [`grad`] goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GradOptions {
    /// Whether the gradients are differentiable themselves, as those of a gradient penalty must be.
    pub create_graph: bool,
}

/// Gradients of `y`, or of the sum of its elements, with respect to each of `xs`: values of their shapes, zeros where `y` does not depend on one.
///
/// `xs` are parameters, values made by [`Value::variable`], or values computed from either. With `create_graph` they can be differentiated again; for that they, or
/// what they were computed from, must be variables, or all must be computed within [`twice_differentiable`](crate::twice_differentiable).
///
/// ```
/// use zoo_nn::{GradOptions, Tensor, Device, Value, grad};
/// # fn main() -> zoo_nn::Result<()> {
/// let x = Value::from(Tensor::new(&[1f32, 2.0], &Device::Cpu)?).variable();
/// let y = x.sqr() * &x; // x^3
/// let [slope] = grad(&y, [&x], GradOptions { create_graph: true });
/// let [bend] = grad(&slope, [&x], GradOptions::default());
/// assert_eq!(slope.to_vec()?, [3.0, 12.0]); // 3 x^2
/// assert_eq!(bend.to_vec()?, [6.0, 12.0]); // 6 x
/// # Ok(()) }
/// ```
pub fn grad<const I: usize>(y: &Value, xs: [&Value; I], options: GradOptions) -> [Value; I] {
    match gradients_of(y, &xs, options) {
        Ok(found) => found,
        Err(error) => {
            let failed = Value::failed(error);
            std::array::from_fn(|_| failed.clone())
        }
    }
}

fn gradients_of<const I: usize>(
    y: &Value,
    xs: &[&Value; I],
    options: GradOptions,
) -> Result<[Value; I]> {
    let result = y.get()?;
    // A parameter is known by its tensor, since each of its uses is a leaf of its own.
    let mut places = Vec::with_capacity(I);
    for x in xs {
        let x = x.get()?;
        places.push(match (&x.node, x.leaf()) {
            (Some(node), _) => Ok(node.serial),
            (None, Some(id)) => Err(id),
            (None, None) => {
                return Err(Error::input(
                    "a gradient is asked for with respect to a value without a history: make it a Value::variable first",
                ));
            }
        });
    }
    let parameters: HashSet<TensorId> = places.iter().filter_map(|p| p.err()).collect();
    let wanted = Wanted {
        parameters: &|id| parameters.contains(&id),
        nodes: places.iter().filter_map(|p| p.ok()).collect(),
    };
    let found = match result.node_of() {
        Some(root) => {
            let ones = Gradient::Whole(Value::from(result.held.peek().ones_like()?));
            pass(root, ones, &wanted, options.create_graph)?
        }
        None => Found::default(),
    };
    let mut by: HashMap<TensorId, Value> = HashMap::new();
    for (id, shape, gradient) in found.parameters {
        by.insert(id, gradient.into_value(&shape)?);
    }
    let mut gradients = Vec::with_capacity(I);
    for (place, x) in places.iter().zip(xs) {
        let known = match place {
            Ok(serial) => found.nodes.get(serial),
            Err(id) => by.get(id),
        };
        gradients.push(match known {
            Some(gradient) => gradient.clone(),
            None => Value::from(x.get()?.held.peek().zeros_like()?),
        });
    }
    <[Value; I]>::try_from(gradients).map_err(|_| Error::input("gradients were lost"))
}

impl Value {
    /// The same value as the start of a history: [`grad`] can be asked for gradients with respect to it, also of gradients. Like every value, it takes no
    /// gradient to what it was computed from: detach or compute with it instead.
    pub fn variable(&self) -> Self {
        match self.get() {
            Ok(computed) => computed.variable().into(),
            Err(_) => self.clone(),
        }
    }

    /// Gradients of this value, or of the sum of its elements, with respect to all parameters that it was computed from.
    ///
    /// Each operation's memory is reused as soon as the pass has gone by it, if no other value needs it.
    pub fn backward(self) -> Result<Gradients> {
        self.backward_to(|_| true)
    }

    /// [`Value::backward`] with respect to the parameters that `wanted` picks: nothing is computed for the others.
    pub(crate) fn backward_to(self, wanted: impl Fn(TensorId) -> bool) -> Result<Gradients> {
        let result = self.into_computed()?;
        let Some(root) = result.node_of() else {
            return Ok(Gradients::default());
        };
        let ones = if result.held.is_ours() {
            let mut ones = Floats::stale(root.shape.elem_count());
            ones.fill(1.0);
            Gradient::Raw(ones)
        } else {
            Gradient::Whole(Value::from(result.held.peek().ones_like()?))
        };
        drop(result);
        let wanted = Wanted {
            parameters: &wanted,
            nodes: HashSet::new(),
        };
        let found = pass(root, ones, &wanted, false)?;
        let mut gradients = Gradients::default();
        for (id, shape, gradient) in found.parameters {
            let value = gradient.into_value(&shape)?.into_computed()?;
            gradients.by.insert(id, value.held);
        }
        Ok(gradients)
    }

    /// What candle's own operations compute from `inputs`, for what `Value` has no operation for; gradients flow through it, but not their own. It leaves no
    /// node, so it cannot be exported.
    pub fn with_candle(
        inputs: &[&Self],
        compute: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
    ) -> Self {
        let all = inputs.iter().map(|v| v.get()).collect::<Result<Vec<_>>>();
        all.and_then(|all| Ok(island(&all, compute)?)).into()
    }
}
