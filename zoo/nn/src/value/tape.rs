//! Gradients: reverse mode over [`Value`]s.
//!
//! An operation says its vector-Jacobian product on values ([`Pull`]), so that a gradient is a value that can be differentiated again. Beside it may stand
//! a raw way back ([`Sink`]) for f32 on the CPU, which takes the first derivative faster and keeps less: gradients are accumulated in place, the first one
//! moves, nothing is computed for data, and memory goes back as soon as the pass has gone by. `tests/gradients/main.rs` holds both together.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{DType, Shape, Tensor, TensorId, Var};

use super::{Computed, Value};
use crate::{
    Error, Result,
    memory::{Floats, Held},
    recorder::Origin,
};

type Fallible<T> = candle_core::Result<T>;

/// Gives the gradients of an operation's inputs to the sink, from that of its result.
type Fast = Box<dyn Fn(Floats, &mut Sink<'_>) -> Fallible<()> + Send + Sync>;

/// How a value was computed.
pub(crate) struct Node {
    /// Later nodes have larger numbers: their order is that of the computation.
    pub(super) serial: u64,
    pub(super) shape: Shape,
    /// Whether it can be differentiated twice, and so all that is computed from it.
    twice: bool,
    work: Work,
}

enum Work {
    /// A parameter, by its tensor, or a variable of its own.
    Leaf(Option<TensorId>),
    Step {
        parents: Vec<Option<Arc<Node>>>,
        fast: Option<Fast>,
        exact: Option<Exact>,
    },
}

/// The way back on values.
struct Exact {
    inputs: Vec<Value>,
    output: Held,
    pull: Box<dyn Fn(&mut Pull<'_>) + Send + Sync>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.serial)
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Node {
    fn new(shape: Shape, twice: bool, work: Work) -> Arc<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            serial,
            shape,
            twice,
            work,
        })
    }

    fn parents(&self) -> impl Iterator<Item = &Arc<Self>> {
        let parents = match &self.work {
            Work::Leaf(_) => &[][..],
            Work::Step { parents, .. } => parents,
        };
        parents.iter().flatten()
    }

    /// Lets go of the nodes before it.
    fn release(&mut self) -> Vec<Arc<Self>> {
        let Work::Step { parents, exact, .. } = &mut self.work else {
            return vec![];
        };
        let inputs = exact.take().map(|exact| exact.inputs).unwrap_or_default();
        let kept = inputs.into_iter().filter_map(Value::into_node);
        std::mem::take(parents)
            .into_iter()
            .flatten()
            .chain(kept)
            .collect()
    }
}

/// One after the other: the history of a long loop is deeper than the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut queue = self.release();
        while let Some(node) = queue.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                queue.extend(node.release());
            }
        }
    }
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(true) };
    static TWICE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with a setting changed, which is restored also after a panic.
fn with<T>(cell: &'static std::thread::LocalKey<Cell<bool>>, to: bool, f: impl FnOnce() -> T) -> T {
    struct Restore(&'static std::thread::LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(to));
    f()
}

/// Runs `f` without remembering how values are computed: evaluation needs less memory so.
pub(crate) fn without_gradients<T>(f: impl FnOnce() -> T) -> T {
    with(&ON, false, f)
}

/// Runs `f` so that all that it computes from parameters can be differentiated twice with respect to them. What is computed from a [`Value::variable`] can be
/// without that. It keeps the inputs of every operation, so it needs more memory.
pub fn twice_differentiable<T>(f: impl FnOnce() -> T) -> T {
    with(&TWICE, true, f)
}

/// Where an operation's raw gradients go.
pub(crate) struct Sink<'a> {
    parents: &'a [Option<Arc<Node>>],
    pass: &'a mut Pass,
}

impl Sink<'_> {
    /// The node of input `i`, if it wants a gradient.
    fn node(&self, i: usize) -> Option<&'_ Arc<Node>> {
        let node = self.parents.get(i)?.as_ref()?;
        self.pass.needed.contains(&node.serial).then_some(node)
    }

    /// Whether input `i` wants a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.node(i).is_some()
    }

    /// Adds to the gradient of input `i`.
    pub fn give(&mut self, i: usize, gradient: Floats) -> Fallible<()> {
        match self.node(i).cloned() {
            Some(node) => self.pass.add_raw(node, gradient),
            None => Ok(()),
        }
    }

    /// The gradient of input `i` so far, to add to: zeros at first.
    pub fn sum(&mut self, i: usize) -> Fallible<Option<&mut [f32]>> {
        let Some(node) = self.node(i).cloned() else {
            return Ok(None);
        };
        let before = match self.pass.pending.remove(&node.serial) {
            Some((_, gradient)) => gradient.into_raw()?,
            None => Floats::zeros(node.shape.elem_count()),
        };
        let serial = node.serial;
        let entry = self.pass.pending.entry(serial);
        let (_, gradient) = entry.or_insert((node, Gradient::Raw(before)));
        Ok(match gradient {
            Gradient::Raw(sum) => Some(sum),
            Gradient::Whole(_) => None, // it was made raw above
        })
    }
}

/// The way back through an operation, on values: from the gradient of its result to those of its inputs.
pub(crate) struct Pull<'a> {
    inputs: &'a [Value],
    output: Value,
    gradient: Value,
    wants: Vec<bool>,
    given: Vec<(usize, Value)>,
    /// Whether the gradients are to be differentiated again.
    again: bool,
}

impl Pull<'_> {
    /// How many inputs the operation has.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Input `i` of the operation.
    pub fn x(&self, i: usize) -> &Value {
        &self.inputs[i]
    }

    /// The result of the operation.
    pub fn y(&self) -> &Value {
        &self.output
    }

    /// The gradient of the result.
    pub fn g(&self) -> &Value {
        &self.gradient
    }

    /// Gives the gradient of input `i`, computed only if it is wanted. What the input was broadcast to is summed.
    pub fn give(&mut self, i: usize, gradient: impl FnOnce(&Self) -> Value) {
        if self.wants.get(i) == Some(&true) {
            let gradient = gradient(self).sum_to(self.inputs[i].dims());
            self.given.push((i, gradient));
        }
    }
}

/// A gradient on its way.
pub(super) enum Gradient {
    Raw(Floats),
    Whole(Value),
}

impl Gradient {
    fn into_raw(self) -> Fallible<Floats> {
        match self {
            Self::Raw(floats) => Ok(floats),
            Self::Whole(value) => {
                let computed = value.into_computed().map_err(candle_core::Error::wrap)?;
                computed.held.detached().contiguous()?.into_floats()
            }
        }
    }

    pub(super) fn into_value(self, shape: &Shape) -> Fallible<Value> {
        match self {
            Self::Raw(floats) => {
                let held = Held::new(floats, shape.clone())?;
                Ok(Computed::untracked(held).into())
            }
            Self::Whole(value) => Ok(value),
        }
    }
}

/// A pass from a result back to what it was computed from.
struct Pass {
    needed: HashSet<u64>,
    pending: BTreeMap<u64, (Arc<Node>, Gradient)>,
}

impl Pass {
    fn add_raw(&mut self, node: Arc<Node>, gradient: Floats) -> Fallible<()> {
        let sum = match self.pending.remove(&node.serial) {
            None => gradient,
            Some((_, before)) => {
                let mut sum = before.into_raw()?;
                zoo_kernels::add_assign(&mut sum, &gradient).map_err(candle_core::Error::wrap)?;
                sum
            }
        };
        let serial = node.serial;
        self.pending.insert(serial, (node, Gradient::Raw(sum)));
        Ok(())
    }

    fn add(&mut self, node: Arc<Node>, gradient: Value) -> Fallible<()> {
        let sum = match self.pending.remove(&node.serial) {
            None => gradient,
            Some((_, before)) => before.into_value(&node.shape)? + gradient,
        };
        let serial = node.serial;
        self.pending.insert(serial, (node, Gradient::Whole(sum)));
        Ok(())
    }
}

/// What a pass was for.
pub(super) struct Wanted<'a> {
    pub parameters: &'a dyn Fn(TensorId) -> bool,
    /// Of nodes, by number.
    pub nodes: HashSet<u64>,
}

/// What a pass found, in its order, so that sums do not depend on the identities of tensors.
#[derive(Default)]
pub(super) struct Found {
    pub parameters: Vec<(TensorId, Shape, Gradient)>,
    pub nodes: HashMap<u64, Value>,
}

/// Goes back from `root`. With `again` the gradients are values that can be differentiated.
pub(super) fn pass(
    root: Arc<Node>,
    ones: Gradient,
    wanted: &Wanted<'_>,
    again: bool,
) -> Result<Found> {
    let mut pass = Pass {
        needed: needed(&root, wanted),
        pending: BTreeMap::new(),
    };
    pass.pending.insert(root.serial, (root, ones));
    let mut found = Found::default();
    while let Some((serial, (node, mut gradient))) = pass.pending.pop_last() {
        if wanted.nodes.contains(&serial) {
            let value = gradient.into_value(&node.shape)?;
            found.nodes.insert(serial, value.clone());
            gradient = Gradient::Whole(value);
        }
        match &node.work {
            Work::Leaf(None) => {}
            Work::Leaf(Some(id)) => {
                let known = found.parameters.iter_mut().find(|(t, ..)| t == id);
                match known {
                    None => found.parameters.push((*id, node.shape.clone(), gradient)),
                    Some((_, shape, sum)) => {
                        let before = std::mem::replace(sum, Gradient::Raw(Floats::default()));
                        *sum = add(before, gradient, shape)?;
                    }
                }
            }
            Work::Step {
                parents,
                fast,
                exact,
            } => {
                if !parents
                    .iter()
                    .flatten()
                    .any(|p| pass.needed.contains(&p.serial))
                {
                    continue;
                }
                match (fast, exact) {
                    (Some(fast), _) if !again => {
                        let mut sink = Sink {
                            parents,
                            pass: &mut pass,
                        };
                        fast(gradient.into_raw()?, &mut sink)?;
                    }
                    (_, Some(exact)) => {
                        let gradient = gradient.into_value(&node.shape)?;
                        let on_values = || exact.run(&node, parents, gradient, &mut pass, again);
                        if again {
                            on_values()
                        } else {
                            without_gradients(on_values)
                        }?;
                    }
                    _ => {
                        return Err(Error::input(
                            "a value cannot be differentiated twice that was computed from parameters alone: \
                             begin with Value::variable, or compute it within twice_differentiable",
                        ));
                    }
                }
            }
        }
    }
    Ok(found)
}

fn add(a: Gradient, b: Gradient, shape: &Shape) -> Fallible<Gradient> {
    Ok(match (a, b) {
        (Gradient::Raw(mut sum), Gradient::Raw(b)) => {
            zoo_kernels::add_assign(&mut sum, &b).map_err(candle_core::Error::wrap)?;
            Gradient::Raw(sum)
        }
        (a, b) => Gradient::Whole(a.into_value(shape)? + b.into_value(shape)?),
    })
}

impl Exact {
    fn run(
        &self,
        node: &Arc<Node>,
        parents: &[Option<Arc<Node>>],
        gradient: Value,
        pass: &mut Pass,
        again: bool,
    ) -> Result<()> {
        let wants =
            |p: &Option<Arc<Node>>| p.as_ref().is_some_and(|p| pass.needed.contains(&p.serial));
        let mut pull = Pull {
            inputs: &self.inputs,
            output: Computed {
                held: self.output.clone(),
                origin: Origin::Unknown,
                node: Some(node.clone()),
            }
            .into(),
            gradient,
            wants: parents.iter().map(wants).collect(),
            given: Vec::new(),
            again,
        };
        (self.pull)(&mut pull);
        for (i, gradient) in pull.given {
            gradient.check()?;
            if let Some(node) = &parents[i] {
                pass.add(node.clone(), gradient)?;
            }
        }
        Ok(())
    }
}

/// The nodes from which `root` was computed and that lead to what is wanted.
fn needed(root: &Arc<Node>, wanted: &Wanted<'_>) -> HashSet<u64> {
    let mut reached: BTreeMap<u64, &Node> = BTreeMap::new();
    let mut next: Vec<&Node> = vec![root];
    while let Some(node) = next.pop() {
        if reached.insert(node.serial, node).is_none() {
            next.extend(node.parents().map(|parent| &**parent));
        }
    }
    let mut needed = HashSet::new();
    // Inputs come before what is computed from them.
    for (serial, node) in reached {
        let leads = wanted.nodes.contains(&serial)
            || matches!(node.work, Work::Leaf(Some(id)) if (wanted.parameters)(id))
            || node.parents().any(|parent| needed.contains(&parent.serial));
        if leads {
            needed.insert(serial);
        }
    }
    needed
}

impl Value {
    pub(crate) fn into_computed(self) -> Result<Computed> {
        let got = self.get().cloned();
        drop(self);
        got
    }

    fn into_node(self) -> Option<Arc<Node>> {
        self.into_computed().ok()?.node
    }
}

/// By candle's own operations and history, with copies of the inputs as its variables.
pub(super) fn island(
    inputs: &[&Computed],
    compute: impl Fn(&[Tensor]) -> Fallible<Tensor>,
) -> Fallible<Computed> {
    let tracked = inputs.iter().any(|input| input.node_of().is_some());
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        tensors.push(if tracked && input.is_real() {
            Var::from_tensor(&input.lent())?.into_inner()
        } else {
            input.lent()
        });
    }
    let result = compute(&tensors)?;
    let held = Held::from(result.detach());
    if !tracked || !result.track_op() {
        return Ok(Computed::untracked(held));
    }
    Ok(Computed::tracked(held, inputs, move |pull| {
        if pull.again {
            let message = "what Value::with_candle computes has no second derivative";
            pull.given.push((0, Value::failed(Error::input(message))));
            return;
        }
        let store = pull
            .g()
            .tensor()
            .and_then(|g| Ok((&result * g)?.backward()?));
        for (i, tensor) in tensors.iter().enumerate() {
            pull.give(i, |_| match &store {
                Ok(store) => match store.get(tensor) {
                    Some(gradient) => Value::from(gradient.detach()),
                    None => tensor.zeros_like().map_err(Error::from).into(),
                },
                Err(error) => Value::failed(Error::input(error.to_string())),
            });
        }
    }))
}

impl Computed {
    /// The same as the start of a history, unless none is kept.
    pub(super) fn variable(&self) -> Self {
        if !self.is_real() || !ON.get() {
            return self.clone();
        }
        let shape = self.held.peek().shape().clone();
        Self {
            held: self.held.detached(),
            origin: self.origin.clone(),
            node: Some(Node::new(shape, true, Work::Leaf(None))),
        }
    }

    /// Whether it can have a gradient.
    fn is_real(&self) -> bool {
        let dtype = self.held.peek().dtype();
        matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// Its tensor's identity, if it is a parameter.
    pub(super) fn leaf(&self) -> Option<TensorId> {
        let tensor = self.held.peek();
        tensor.is_variable().then(|| tensor.id())
    }

    /// Its node, where gradients are wanted: its own, or a leaf for a parameter.
    pub fn node_of(&self) -> Option<Arc<Node>> {
        if !ON.get() || !self.is_real() {
            return None;
        }
        self.node.clone().or_else(|| {
            let id = self.leaf()?;
            let shape = self.held.peek().shape().clone();
            Some(Node::new(shape, TWICE.get(), Work::Leaf(Some(id))))
        })
    }

    /// Whether it wants a gradient that can be differentiated again: then it is computed by operations that have one.
    pub fn is_twice(&self) -> bool {
        ON.get() && self.node_of().is_some_and(|node| node.twice)
    }

    /// What an operation computed from `inputs`; `pull` is its vector-Jacobian product.
    pub fn tracked(
        held: impl Into<Held>,
        inputs: &[&Self],
        pull: impl Fn(&mut Pull<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::made(held.into(), inputs, pull, |_| None)
    }

    /// What a kernel computed from `inputs`. `fast` makes the raw way back, and is called only if an input wants a gradient.
    pub fn by_kernel<B>(
        held: Held,
        inputs: &[&Self],
        pull: impl Fn(&mut Pull<'_>) + Send + Sync + 'static,
        fast: impl FnOnce(&Held) -> B,
    ) -> Self
    where
        B: Fn(Floats, &mut Sink<'_>) -> Fallible<()> + Send + Sync + 'static,
    {
        Self::made(held, inputs, pull, |held| Some(Box::new(fast(held))))
    }

    /// What a fused kernel computed, which stands for operations that have gradients of gradients: it has none of its own.
    pub fn fused<B>(held: Held, inputs: &[&Self], fast: impl FnOnce(&Held) -> B) -> Self
    where
        B: Fn(Floats, &mut Sink<'_>) -> Fallible<()> + Send + Sync + 'static,
    {
        let parents: Vec<_> = inputs.iter().map(|input| input.node_of()).collect();
        if parents.iter().all(Option::is_none) {
            return Self::untracked(held);
        }
        let work = Work::Step {
            parents,
            fast: Some(Box::new(fast(&held))),
            exact: None,
        };
        Self::step(held, false, work)
    }

    fn made(
        held: Held,
        inputs: &[&Self],
        pull: impl Fn(&mut Pull<'_>) + Send + Sync + 'static,
        fast: impl FnOnce(&Held) -> Option<Fast>,
    ) -> Self {
        let parents: Vec<_> = inputs.iter().map(|input| input.node_of()).collect();
        if parents.iter().all(Option::is_none) {
            return Self::untracked(held);
        }
        let twice = parents.iter().flatten().any(|parent| parent.twice);
        let fast = fast(&held);
        // Inputs are kept only where they are needed: it is most of a step's memory.
        let exact = (twice || fast.is_none()).then(|| Exact {
            inputs: inputs.iter().map(|&input| input.clone().into()).collect(),
            output: held.clone(),
            pull: Box::new(pull),
        });
        let work = Work::Step {
            parents,
            fast,
            exact,
        };
        Self::step(held, twice, work)
    }

    fn step(held: Held, twice: bool, work: Work) -> Self {
        let node = Node::new(held.peek().shape().clone(), twice, work);
        Self {
            held,
            origin: Origin::Unknown,
            node: Some(node),
        }
    }
}
