//! What a causal network computes on that sees an image as a list of binary values: the whole list or, while one is drawn, the next value.

use std::{
    cell::{Cell, RefCell},
    fmt::Debug,
    rc::Rc,
};

use super::layer::{part, unknown};
use crate::{
    Error, Init, Net, Result, ScanStep, Value, dist::PixelDistribution, layers::CausalLinear,
    recorder::Origin, scan,
};

/// A list of values, features that are computed from those before each, or what follows for each.
///
/// In training it holds all of them: `[N,D]`. [`draw_list`] runs the same function for one value after the other, with what earlier ones left: then it
/// holds what is known for the next, `[N,1]`, or features for it.
#[derive(Clone, Debug)]
pub struct List(Form);

#[derive(Clone, Debug)]
enum Form {
    Whole(Value),
    Drawn(Rc<Run>, What),
}

/// What is known while a list is drawn.
#[derive(Clone, Debug)]
enum What {
    /// The list itself: values are known once they are drawn.
    Values,
    /// Features or the result for the next value; nothing in the plan.
    Now(Option<Value>),
}

/// A layer while a list is drawn. It was made before, outside the loop.
trait Layer: Debug {
    /// What is carried from value to value: zeros with the batch of `like`, and what is added to them.
    fn start(&self, like: &Value) -> Vec<Value> {
        let _ = like;
        vec![]
    }

    /// Weights that are cut, a part for each value, and the axis.
    fn weights(&self) -> Vec<(Value, usize)> {
        vec![]
    }

    /// What it gives for the next value, from features of it.
    fn now(&self, x: Option<&Value>, states: &[Value], weights: &[Value]) -> Value;

    /// Goes on by a value `[N,1]`.
    fn after(&self, x: &Value, states: &[Value], weights: &[Value]) -> Vec<Value> {
        let _ = (x, weights);
        states.to_vec()
    }
}

#[derive(Debug, Default)]
struct Run {
    planned: Cell<bool>,
    layers: RefCell<Vec<Planned>>,
    next: Cell<usize>,
    states: RefCell<Vec<Value>>,
    weights: RefCell<Vec<Value>>,
    fault: RefCell<Option<Error>>,
}

#[derive(Clone, Debug)]
struct Planned {
    layer: Rc<dyn Layer>,
    /// Where its states begin, and how many there are.
    states: [usize; 2],
    /// Where each of its weights stands among those of all.
    weights: Vec<usize>,
}

impl Planned {
    fn states(&self, all: &[Value]) -> Vec<Value> {
        let [from, count] = self.states;
        (from..from + count).map(|i| part(all, i)).collect()
    }

    fn weights(&self, all: &[Value]) -> Vec<Value> {
        self.weights.iter().map(|&i| part(all, i)).collect()
    }
}

impl From<&Value> for List {
    /// All values of images `[N,C,H,W]`, plane by plane.
    fn from(image: &Value) -> Self {
        Self(Form::Whole(image.flatten(1)))
    }
}

impl List {
    /// The whole list, `[N,D]`.
    pub fn value(&self) -> Value {
        match &self.0 {
            Form::Whole(value) => value.clone(),
            Form::Drawn(..) => Value::failed(Error::input(
                "while a list is drawn, no value holds all of it: compute on the list",
            )),
        }
    }

    /// What `f` makes of each element.
    #[track_caller]
    pub fn map(&self, f: impl FnOnce(&Value) -> Value) -> Self {
        Self::combined(std::slice::from_ref(self), |all| f(&all[0]))
    }

    /// What `f` makes of lists that are alike, element by element.
    #[track_caller]
    pub fn combined(lists: &[Self], f: impl FnOnce(&[Value]) -> Value) -> Self {
        let mut values = Vec::with_capacity(lists.len());
        let mut run = None;
        for list in lists {
            match &list.0 {
                Form::Whole(value) => values.push(value.clone()),
                Form::Drawn(own, what) => {
                    run = Some(own.clone());
                    match what {
                        What::Values => own.fail(Error::input(
                            "the list itself goes through a layer that sees the values before each, first",
                        )),
                        What::Now(value) => values.extend(value.clone()),
                    }
                }
            }
        }
        match run {
            None => Self(Form::Whole(f(&values))),
            Some(run) => {
                let known = values.len() == lists.len();
                Self(Form::Drawn(run, What::Now(known.then(|| f(&values)))))
            }
        }
    }

    #[track_caller]
    fn layer(
        &self,
        whole: impl FnOnce(&Value) -> Value,
        make: impl FnOnce() -> Result<Rc<dyn Layer>>,
    ) -> Self {
        match &self.0 {
            Form::Whole(value) if value.check().is_err() => self.clone(),
            Form::Whole(value) => Self(Form::Whole(whole(value))),
            Form::Drawn(run, what) => {
                let x = match what {
                    What::Values => None,
                    What::Now(value) => value.as_ref(),
                };
                Self(Form::Drawn(run.clone(), What::Now(run.apply(x, make))))
            }
        }
    }

    /// A linear layer with what `weights` makes, which is what `drawn` makes of it while the list is drawn.
    #[track_caller]
    fn linear_by<L: Layer + 'static>(
        &self,
        weights: impl Fn() -> (Value, Value),
        drawn: impl FnOnce(Value, Value) -> L,
    ) -> Self {
        self.layer(
            |x| {
                let (weight, bias) = weights();
                x.linear(&weight, Some(&bias))
            },
            || {
                let (weight, bias) = weights();
                Ok(Rc::new(drawn(weight, bias)))
            },
        )
    }

    /// A linear layer from the list to features, with what `weights` makes: `[H,D]` and `[H]`. Features are to count for later values only.
    #[track_caller]
    pub fn to_features(&self, weights: impl Fn() -> (Value, Value)) -> Self {
        self.linear_by(weights, |weight, bias| Growing { weight, bias })
    }

    /// A linear layer between features, with what `weights` makes: `[O,H]` and `[O]`.
    #[track_caller]
    pub fn linear(&self, weights: impl Fn() -> (Value, Value)) -> Self {
        self.linear_by(weights, |weight, bias| Between { weight, bias })
    }

    /// A linear layer from features to a result for each value, with what `weights` makes: `[D,H]` and `[D]`.
    #[track_caller]
    pub fn of_features(&self, weights: impl Fn() -> (Value, Value)) -> Self {
        self.linear_by(weights, |weight, bias| Each { weight, bias })
    }

    /// The layer itself, for the list.
    #[track_caller]
    pub(crate) fn causal(
        &self,
        layer: impl Fn() -> Result<CausalLinear>,
        bias: impl Fn() -> Option<Value>,
    ) -> Self {
        self.layer(
            |x| {
                let apply = |layer: CausalLinear| x.linear(&layer.weight(), bias().as_ref());
                layer().map(apply).into()
            },
            || {
                let layer = layer()?;
                Ok(Rc::new(Onward {
                    onward: layer.onward(),
                    bias: bias(),
                    size: layer.size(),
                }))
            },
        )
    }
}

impl Net {
    /// b_i + sum_{j<i} W_ij x_j over the last `context` values before each of D, with `weight [D,D]` that starts at 0, and `bias [D]` if there is one.
    #[track_caller]
    pub fn causal_linear(&self, x: &List, size: usize, context: usize, bias: bool) -> List {
        x.causal(
            || CausalLinear::new(self, size, context),
            || bias.then(|| self.param("bias", &[size], Init::Constant(0.0))),
        )
    }

    /// The logits of a neural autoregressive distribution estimator (Larochelle & Murray, 2011) of D values with H hidden units:
    /// b_i + v_i sigmoid(c + sum_{j<i} w_j x_j), with `w` and `v [D,H]`, `c [H]` and `b [D]`.
    #[track_caller]
    pub fn nade(&self, x: &List, size: usize, hidden: usize) -> List {
        let weights = || Nade {
            w: self.param("w", &[size, hidden], Init::fan_in(size)),
            c: self.param("c", &[hidden], Init::Constant(0.0)),
            v: self.param("v", &[size, hidden], Init::fan_in(hidden)),
            b: self.param("b", &[size], Init::Constant(0.0)),
            hidden,
        };
        x.layer(
            |x| {
                let Nade { w, c, v, b, .. } = weights();
                x.nade(&w, &c, &v) + b
            },
            || Ok(Rc::new(weights())),
        )
    }
}

impl Run {
    fn fail(&self, error: Error) {
        self.fault.borrow_mut().get_or_insert(error);
    }

    #[track_caller]
    fn apply(
        &self,
        x: Option<&Value>,
        make: impl FnOnce() -> Result<Rc<dyn Layer>>,
    ) -> Option<Value> {
        if !self.planned.get() {
            match make() {
                Ok(layer) => self.layers.borrow_mut().push(Planned {
                    layer,
                    states: [0; 2],
                    weights: vec![],
                }),
                Err(error) => self.fail(error),
            }
            return None;
        }
        let i = self.next.replace(self.next.get() + 1);
        let planned = self.layers.borrow().get(i).cloned()?;
        let states = planned.states(&self.states.borrow());
        let weights = planned.weights(&self.weights.borrow());
        Some(planned.layer.now(x, &states, &weights))
    }
}

/// Binary images `[N,C,H,W]`, drawn value by value from what `network` says of each: its logit.
///
/// `inputs` are noise `[N,C,H,W]`, uniform, and where a part of the image is given, an image and its mask, 1 for what is given.
#[track_caller]
pub fn draw_list(net: &Net, inputs: &[&Value], network: impl Fn(&Net, &List) -> List) -> Value {
    drawn(inputs, |x| network(&net.again(), x)).into()
}

#[track_caller]
fn drawn(inputs: &[&Value], network: impl Fn(&List) -> List) -> Result<Value> {
    let noise = inputs
        .first()
        .ok_or_else(|| Error::input("an image is drawn from noise, and there is none"))?;
    let run = Rc::new(Run::default());
    let values = || List(Form::Drawn(run.clone(), What::Values));
    network(&values());
    if let Some(fault) = run.fault.borrow_mut().take() {
        return Err(fault);
    }
    run.planned.set(true);

    // What the layers carry, and the weights that are cut for them, each once.
    let mut start = Vec::new();
    let mut cut: Vec<(Value, usize)> = Vec::new();
    for planned in run.layers.borrow_mut().iter_mut() {
        let own = planned.layer.start(noise);
        planned.states = [start.len(), own.len()];
        start.extend(own);
        for (weight, axis) in planned.layer.weights() {
            let known = cut.iter().position(|(w, a)| *a == axis && same(w, &weight));
            planned.weights.push(known.unwrap_or(cut.len()));
            if known.is_none() {
                cut.push((weight, axis));
            }
        }
    }
    let lists: Vec<Value> = inputs.iter().map(|input| input.flatten(1)).collect(); // (N,D)
    let cut_up: Vec<(Value, usize)> = cut
        .into_iter()
        .map(|(weight, axis)| match weight.rank() {
            1 => (weight.unsqueeze(1), axis), // (D,1)
            _ => (weight, axis),
        })
        .collect();
    let mut slices: Vec<(&Value, usize)> = cut_up.iter().map(|(w, axis)| (w, *axis)).collect();
    slices.extend(lists.iter().map(|list| (list, 1)));
    let drawn = scan(&start, &slices, &[1], |states, slices| {
        let (weights, inputs) = slices.split_at(cut_up.len());
        *run.states.borrow_mut() = states.to_vec();
        *run.weights.borrow_mut() = weights.to_vec();
        run.next.set(0);
        let logit = match network(&values()).0 {
            Form::Drawn(_, What::Now(Some(logit))) => logit, // (N,1)
            _ => unknown(),
        };
        let inputs: Vec<Value> = inputs.iter().map(|input| input.unsqueeze(1)).collect(); // (N,1)
        let x = PixelDistribution::BINARY.draw_colours(&logit, &inputs); // (N,1)
        let go_on = |planned: &Planned| {
            let (states, weights) = (planned.states(states), planned.weights(weights));
            planned.layer.after(&x, &states, &weights)
        };
        ScanStep {
            states: run.layers.borrow().iter().flat_map(go_on).collect(),
            outputs: vec![x.squeeze(1)],
        }
    });
    let mut shape: Vec<i64> = noise.dims().iter().map(|&side| side as i64).collect();
    if let Some(batch) = shape.first_mut() {
        *batch = -1;
    }
    Ok(drawn.outputs[0].reshape(&shape)) // (N,C,H,W)
}

/// Whether both are the same parameter.
fn same(a: &Value, b: &Value) -> bool {
    match (a.get(), b.get()) {
        (Ok(a), Ok(b)) => matches!(a.origin, Origin::Param(_)) && a.origin.is(&b.origin),
        _ => false,
    }
}

/// From the list to features: sums that grow by a value at a time.
#[derive(Debug)]
struct Growing {
    /// (H,D)
    weight: Value,
    /// (H)
    bias: Value,
}

impl Layer for Growing {
    fn start(&self, like: &Value) -> Vec<Value> {
        let features = self.bias.dims().first().copied().unwrap_or(0);
        vec![like.zeros_like_batch(&[features]) + &self.bias]
    }

    fn weights(&self) -> Vec<(Value, usize)> {
        vec![(self.weight.clone(), 1)]
    }

    fn now(&self, _: Option<&Value>, states: &[Value], _: &[Value]) -> Value {
        part(states, 0) // (N,H)
    }

    fn after(&self, x: &Value, states: &[Value], weights: &[Value]) -> Vec<Value> {
        vec![part(states, 0) + x * part(weights, 0).unsqueeze(0)]
    }
}

/// From features to features.
#[derive(Debug)]
struct Between {
    weight: Value,
    bias: Value,
}

impl Layer for Between {
    fn now(&self, x: Option<&Value>, _: &[Value], _: &[Value]) -> Value {
        let x = x.cloned().unwrap_or_else(unknown);
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// From features to each value's result.
#[derive(Debug)]
struct Each {
    /// (D,H)
    weight: Value,
    /// (D)
    bias: Value,
}

impl Layer for Each {
    fn weights(&self) -> Vec<(Value, usize)> {
        vec![(self.bias.clone(), 0), (self.weight.clone(), 0)]
    }

    fn now(&self, x: Option<&Value>, _: &[Value], weights: &[Value]) -> Value {
        let x = x.cloned().unwrap_or_else(unknown);
        let (bias, weight) = (part(weights, 0), part(weights, 1)); // (1), (H)
        x.linear(&weight.unsqueeze(0), Some(&bias)) // (N,1)
    }
}

/// From the list to each value's result: sums of the next one and those after it.
#[derive(Debug)]
struct Onward {
    /// (D,D)
    onward: Value,
    /// (D)
    bias: Option<Value>,
    size: usize,
}

impl Layer for Onward {
    fn start(&self, like: &Value) -> Vec<Value> {
        let zeros = like.zeros_like_batch(&[self.size]); // (N,D)
        vec![match &self.bias {
            Some(bias) => zeros + bias,
            None => zeros,
        }]
    }

    fn weights(&self) -> Vec<(Value, usize)> {
        vec![(self.onward.clone(), 0)]
    }

    fn now(&self, _: Option<&Value>, states: &[Value], _: &[Value]) -> Value {
        part(states, 0).slice(1, 0, 1) // (N,1)
    }

    fn after(&self, x: &Value, states: &[Value], weights: &[Value]) -> Vec<Value> {
        vec![CausalLinear::next(&part(states, 0), &part(weights, 0), x)]
    }
}

/// Hidden sums that grow by a value at a time, and a result for each.
#[derive(Debug)]
struct Nade {
    w: Value,
    c: Value,
    v: Value,
    b: Value,
    hidden: usize,
}

impl Layer for Nade {
    fn start(&self, like: &Value) -> Vec<Value> {
        vec![like.zeros_like_batch(&[self.hidden]) + &self.c] // (N,H)
    }

    fn weights(&self) -> Vec<(Value, usize)> {
        [&self.w, &self.v, &self.b].map(|w| (w.clone(), 0)).into()
    }

    fn now(&self, _: Option<&Value>, states: &[Value], weights: &[Value]) -> Value {
        let (v, b) = (part(weights, 1), part(weights, 2)); // (H), (1)
        let hidden = part(states, 0).sigmoid(); // (N,H)
        hidden.linear(&v.unsqueeze(0), Some(&b)) // (N,1)
    }

    fn after(&self, x: &Value, states: &[Value], weights: &[Value]) -> Vec<Value> {
        vec![part(states, 0) + x * part(weights, 0).unsqueeze(0)]
    }
}
