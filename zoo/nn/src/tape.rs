//! Gradients: reverse mode over [`Value`]s.
//!
//! Values on the CPU in f32 remember how they were computed in nodes of our own: gradients are accumulated in place, the first one moves,
//! nothing is computed for data, and memory goes back as soon as the pass has gone by. Elsewhere, and for what we have no kernel for, candle keeps its
//! own history; the two meet in leaves.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{Tensor, TensorId, Var};

use crate::{
    Result, Value,
    memory::{Floats, Held},
};

type Fallible<T> = candle_core::Result<T>;

/// Gives the gradients of an operation's inputs to the sink, from that of its result.
type Backward = Box<dyn Fn(Floats, &mut Sink<'_>) -> Fallible<()> + Send + Sync>;

/// How a value was computed.
pub(crate) struct Node {
    /// Later nodes have larger numbers: their order is that of the computation.
    serial: u64,
    /// Elements of the value.
    len: usize,
    work: Work,
}

enum Work {
    /// A tensor with candle's history: a parameter, or what candle computed.
    Leaf(Tensor),
    Step {
        parents: Vec<Option<Arc<Node>>>,
        backward: Backward,
    },
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.serial)
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Node {
    fn new(len: usize, work: Work) -> Arc<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { serial, len, work })
    }
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(true) };
}

/// Runs `f` without remembering how values are computed: evaluation needs less memory so.
pub(crate) fn without_gradients<T>(f: impl FnOnce() -> T) -> T {
    /// Restores the setting, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _restore = Restore(ON.replace(false));
    f()
}

/// Where an operation's gradients go.
pub(crate) struct Sink<'a> {
    parents: &'a [Option<Arc<Node>>],
    needed: &'a HashSet<u64>,
    pending: &'a mut BTreeMap<u64, (Arc<Node>, Floats)>,
}

impl Sink<'_> {
    /// The node of input `i`, if it wants a gradient.
    fn node(&self, i: usize) -> Option<&'_ Arc<Node>> {
        let node = self.parents.get(i)?.as_ref()?;
        self.needed.contains(&node.serial).then_some(node)
    }

    /// Whether input `i` wants a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.node(i).is_some()
    }

    /// Adds to the gradient of input `i`.
    pub fn give(&mut self, i: usize, gradient: Floats) -> Fallible<()> {
        let Some(node) = self.node(i).cloned() else {
            return Ok(());
        };
        match self.pending.get_mut(&node.serial) {
            Some((_, sum)) => {
                zoo_kernels::add_assign(sum, &gradient).map_err(candle_core::Error::wrap)?;
            }
            None => {
                self.pending.insert(node.serial, (node, gradient));
            }
        }
        Ok(())
    }

    /// The gradient of input `i` so far, to add to: zeros at first.
    pub fn sum(&mut self, i: usize) -> Option<&mut [f32]> {
        let node = self.node(i)?.clone();
        let (_, sum) = self.pending.entry(node.serial).or_insert_with(|| {
            let zeros = Floats::zeros(node.len);
            (node, zeros)
        });
        Some(sum)
    }
}

/// Gradients of a loss with respect to the parameters it was computed from.
#[derive(Debug, Default)]
pub struct Gradients {
    by: HashMap<TensorId, Held>,
}

impl Gradients {
    /// The gradient of a parameter, in its shape; `None` where the loss does not depend on it.
    pub fn get(&self, parameter: &Value) -> Option<Tensor> {
        self.of(parameter.held().peek())
            .map(|held| held.lend().clone())
    }

    pub(crate) fn of(&self, tensor: &Tensor) -> Option<&Held> {
        self.by.get(&tensor.id())
    }

    fn add(&mut self, id: TensorId, gradient: Tensor) -> Fallible<()> {
        let sum = match self.by.remove(&id) {
            Some(sum) => (sum.peek() + gradient)?,
            None => gradient,
        };
        self.by.insert(id, sum.detach().into());
        Ok(())
    }

    /// Adds what candle computes from `tensor` backwards.
    fn add_history(&mut self, tensor: &Tensor) -> Fallible<()> {
        let store = tensor.backward()?;
        for &id in store.get_ids() {
            if let Some(gradient) = store.get_id(id) {
                self.add(id, gradient.clone())?;
            }
        }
        Ok(())
    }
}

impl Value {
    /// Gradients of this value, or of the sum of its elements, with respect to all parameters that it was computed from.
    ///
    /// Each operation's memory is reused as soon as the pass has gone by it, if no other value needs it.
    pub fn backward(self) -> Result<Gradients> {
        self.backward_to(|_| true)
    }

    /// [`Value::backward`] with respect to the parameters that `wanted` picks: nothing is computed for the others.
    pub(crate) fn backward_to(self, wanted: impl Fn(TensorId) -> bool) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        let Some(node) = self.node() else {
            if self.held().peek().track_op() {
                gradients.add_history(self.held().peek())?;
            }
            return Ok(gradients);
        };
        drop(self);
        let mut ones = Floats::stale(node.len);
        ones.fill(1.0);
        let needed = needed(&node, wanted);
        // In the order of the pass, so that sums do not depend on the identities of tensors.
        let mut sums: Vec<(Tensor, Floats)> = Vec::new();
        let mut pending = BTreeMap::from([(node.serial, (node.clone(), ones))]);
        drop(node);
        while let Some((_, (node, gradient))) = pending.pop_last() {
            match &node.work {
                Work::Leaf(tensor) => match sums.iter_mut().find(|(t, _)| t.id() == tensor.id()) {
                    Some((_, sum)) => {
                        zoo_kernels::add_assign(sum, &gradient).map_err(candle_core::Error::wrap)?
                    }
                    None => sums.push((tensor.clone(), gradient)),
                },
                Work::Step { parents, backward } => {
                    let mut sink = Sink {
                        parents,
                        needed: &needed,
                        pending: &mut pending,
                    };
                    backward(gradient, &mut sink)?;
                }
            }
        }
        for (tensor, gradient) in sums {
            let gradient = Held::new(gradient, tensor.shape())?;
            if !tensor.is_variable() {
                gradients.add_history(&(&tensor * gradient.lend())?)?;
            } else if gradients.of(&tensor).is_some() {
                gradients.add(tensor.id(), gradient.lend().clone())?;
            } else {
                gradients.by.insert(tensor.id(), gradient);
            }
        }
        Ok(gradients)
    }

    /// Its node, where gradients are wanted: its own, or a leaf for candle's history.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        if !ON.get() || !self.held().is_ours() {
            return None;
        }
        let tensor = self.held().peek();
        let leaf = || {
            tensor
                .track_op()
                .then(|| Node::new(tensor.elem_count(), Work::Leaf(tensor.clone())))
        };
        self.own_node().cloned().or_else(leaf)
    }

    /// What an operation of ours computed from `inputs`. `backward` makes the way back, and is called only if an input wants a gradient.
    pub(crate) fn computed<B>(
        held: Held,
        inputs: &[&Self],
        backward: impl FnOnce(&Held) -> B,
    ) -> Self
    where
        B: Fn(Floats, &mut Sink<'_>) -> Fallible<()> + Send + Sync + 'static,
    {
        let parents: Vec<_> = inputs.iter().map(|input| input.node()).collect();
        if parents.iter().all(Option::is_none) {
            return Self::untracked(held);
        }
        let backward = Box::new(backward(&held));
        let node = Node::new(held.peek().elem_count(), Work::Step { parents, backward });
        Self::tracked(held, node)
    }
}

/// The nodes from which `root` was computed and that lead to a wanted parameter.
fn needed(root: &Arc<Node>, wanted: impl Fn(TensorId) -> bool) -> HashSet<u64> {
    let mut reached: BTreeMap<u64, &Node> = BTreeMap::new();
    let mut next: Vec<&Node> = vec![root];
    while let Some(node) = next.pop() {
        if reached.insert(node.serial, node).is_none()
            && let Work::Step { parents, .. } = &node.work
        {
            next.extend(parents.iter().flatten().map(|parent| &**parent));
        }
    }
    let mut needed = HashSet::new();
    // Inputs come before what is computed from them.
    for (serial, node) in reached {
        let leads = match &node.work {
            Work::Leaf(tensor) => !tensor.is_variable() || wanted(tensor.id()),
            Work::Step { parents, .. } => parents
                .iter()
                .flatten()
                .any(|parent| needed.contains(&parent.serial)),
        };
        if leads {
            needed.insert(serial);
        }
    }
    needed
}

/// Computes by candle's own operations, gradients included.
pub(crate) fn by_candle(
    inputs: &[&Value],
    f: impl Fn(&[Tensor]) -> Fallible<Tensor>,
) -> Fallible<Value> {
    let lent = |value: &&Value| value.held().lend().clone();
    if !ON.get() {
        let tensors: Vec<Tensor> = inputs.iter().map(|v| lent(v).detach()).collect();
        return f(&tensors).map(Value::from);
    }
    if inputs.iter().all(|v| v.own_node().is_none()) {
        let tensors: Vec<Tensor> = inputs.iter().map(lent).collect();
        return f(&tensors).map(Value::from); // candle's history goes on
    }
    // An island of candle's history, with copies of our values as its variables.
    let mut tensors = Vec::with_capacity(inputs.len());
    for value in inputs {
        tensors.push(if value.node().is_some() {
            Var::from_tensor(&lent(value).detach())?.into_inner()
        } else {
            lent(value)
        });
    }
    let result = f(&tensors)?;
    let held = Held::from(result.detach());
    if !held.is_ours() || !result.track_op() {
        return Ok(Value::untracked(held)); // truth values and indices have no gradient
    }
    Ok(Value::computed(held, inputs, |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let gradient = Held::new(gradient, result.shape())?;
            let store = (&result * gradient.lend())?.backward()?;
            for (i, tensor) in tensors.iter().enumerate() {
                if !sink.wants(i) {
                    continue;
                }
                if let Some(gradient) = store.get(tensor) {
                    let gradient = Held::from(gradient.contiguous()?);
                    sink.give(i, Floats::copy(&gradient.read()?))?;
                }
            }
            Ok(())
        }
    }))
}
