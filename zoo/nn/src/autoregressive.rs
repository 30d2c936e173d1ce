//! Models of p(x) = prod_i p(x_i | x_<i), which say no more than their network.

use crate::{
    Batch, Field, GraphFn, List, Losses, Metrics, Model, Net, Port, Result, StepCx, Value,
    dist::{self, PixelDistribution},
    field,
};

/// What a causal network is written on: a [`Field`] or a [`List`].
pub trait Causal: Sized {
    /// Whole images `[N,C,H,W]`.
    fn whole(images: &Value) -> Self;

    /// What was computed for whole images.
    fn value(&self) -> Value;

    /// Images drawn by the network, from what the ports of [`dist::sample_ports`] or [`dist::complete_ports`] hold.
    fn draw(
        net: &Net,
        pixel: &PixelDistribution,
        inputs: &[&Value],
        network: impl Fn(&Net, &Self) -> Self,
    ) -> Value;
}

impl Causal for Field {
    fn whole(images: &Value) -> Self {
        images.into()
    }

    fn value(&self) -> Value {
        self.value()
    }

    #[track_caller]
    fn draw(
        net: &Net,
        pixel: &PixelDistribution,
        inputs: &[&Value],
        network: impl Fn(&Net, &Self) -> Self,
    ) -> Value {
        field::draw(net, pixel, inputs, network)
    }
}

impl Causal for List {
    fn whole(images: &Value) -> Self {
        images.into()
    }

    fn value(&self) -> Value {
        self.value()
    }

    #[track_caller]
    fn draw(
        net: &Net,
        _: &PixelDistribution,
        inputs: &[&Value],
        network: impl Fn(&Net, &Self) -> Self,
    ) -> Value {
        field::draw_list(net, inputs, network)
    }
}

/// A model that predicts values from those before them. Its network says everything: likelihood, sampler and graphs follow.
pub trait Autoregressive: Model + 'static {
    /// What its network computes on.
    type On: Causal;

    /// Channels, height and width of its images.
    fn image(&self) -> [usize; 3];

    /// p(x_i | x_<i).
    fn pixel(&self) -> PixelDistribution {
        PixelDistribution::BINARY
    }

    /// The number of classes, of a model of p(x | label).
    fn classes(&self) -> Option<usize> {
        None
    }

    /// Images, and their labels i64 `[N]` where there are classes -> the parameters of every p(x_i | x_<i).
    fn network(&self, net: &Net, x: &Self::On, label: Option<&Value>) -> Self::On;

    /// x `[N,C,H,W]` -> the parameters of every p(x_i | x_<i).
    #[track_caller]
    fn forward(&self, net: &Net, x: &Value, label: Option<&Value>) -> Value {
        self.network(net, &Self::On::whole(x), label).value()
    }

    /// -log p(x) `[N]` in nats.
    #[track_caller]
    fn nll(&self, net: &Net, x: &Value, label: Option<&Value>) -> Value {
        self.pixel().nll(&self.forward(net, x, label), x)
    }

    /// Images `[N,C,H,W]` from noise, and where a part of them is given, from images and a mask too.
    #[track_caller]
    fn draw(&self, net: &Net, inputs: &[&Value], label: Option<&Value>) -> Value {
        Self::On::draw(net, &self.pixel(), inputs, |net, x| {
            self.network(net, x, label)
        })
    }

    /// -log p(x) `[N]` of a batch.
    fn batch_nll(&self, batch: &Batch, cx: &StepCx) -> Value {
        let label = self.classes().map(|_| batch.label());
        self.nll(&cx.net(), &batch.image(), label.as_ref())
    }

    /// The loss of a batch: the mean of -log p(x).
    fn nll_loss(&self, batch: &Batch, cx: &StepCx) -> Result<Losses> {
        Ok(dist::nll_loss(&self.batch_nll(batch, cx)))
    }

    /// The metrics of a batch: `nll_nats` and `bits_per_dim`.
    fn nll_metrics(&self, batch: &Batch, cx: &StepCx) -> Result<Metrics> {
        dist::nll_metrics(&self.batch_nll(batch, cx), self.image().iter().product())
    }

    /// Its graphs, those of [`dist::GRAPHS`]. The label, where there is one, comes last.
    fn causal_graphs(&self) -> Vec<GraphFn<Self>> {
        let image = self.image();
        let labelled = |mut ports: Vec<Port>| {
            ports.extend(self.classes().map(|classes| Port::label("label", classes)));
            ports
        };
        let x = || vec![Port::image("x", image)];
        let draw = |m: &Self, net: &Net, io: &[Value]| {
            let (inputs, label) = io.split_at(io.len() - usize::from(m.classes().is_some()));
            let inputs: Vec<&Value> = inputs.iter().collect();
            m.draw(net, &inputs, label.first())
        };
        let (sample, complete) = (dist::sample_ports(image), dist::complete_ports(image));
        vec![
            GraphFn::new(
                "log_prob",
                labelled(x()),
                [Port::batched("log_prob", &[])],
                |m: &Self, net, io: &[Value]| -m.nll(net, &io[0], io.get(1)),
            ),
            GraphFn::new("sample", labelled(sample), x(), draw),
            GraphFn::new("complete", labelled(complete), x(), draw),
        ]
    }
}
