//! A graph that knows who makes and who reads each of its values, while it is changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use zoo_graph::{Array, Graph, Initializer, Node, Port, ValueType};

use crate::{
    edit,
    ops::{Args, Values},
};

/// A graph taken apart. Nodes have places, in execution order, which they keep while others go.
///
/// Every change goes through a method that keeps the index up to date, so that a change costs what it touches, not the graph.
pub(super) struct Network<'o> {
    name: String,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    initializers: Vec<Option<Initializer>>,
    nodes: Vec<Option<Node>>,
    types: BTreeMap<String, ValueType>,
    outer: Option<&'o dyn Values>,
    /// Where each initializer stands.
    constants: HashMap<String, usize>,
    /// The node that gives a value.
    makers: HashMap<String, usize>,
    /// The nodes that read a value, in their bodies too, and how often.
    readers: HashMap<String, BTreeMap<usize, usize>>,
    /// How often a value is an output.
    given: HashMap<String, usize>,
    /// The nodes that have bodies.
    with_bodies: BTreeSet<usize>,
}

impl<'o> Network<'o> {
    /// Takes a graph apart, which stands within `outer`.
    pub fn of(graph: Graph, outer: Option<&'o dyn Values>) -> Self {
        let mut network = Self {
            name: graph.name,
            inputs: graph.inputs,
            outputs: graph.outputs,
            initializers: Vec::with_capacity(graph.initializers.len()),
            nodes: Vec::with_capacity(graph.nodes.len()),
            types: graph.types,
            outer,
            constants: HashMap::new(),
            makers: HashMap::new(),
            readers: HashMap::new(),
            given: HashMap::new(),
            with_bodies: BTreeSet::new(),
        };
        for initializer in graph.initializers {
            let at = network.initializers.len();
            network.constants.insert(initializer.name.clone(), at);
            network.initializers.push(Some(initializer));
        }
        for port in &network.outputs {
            *network.given.entry(port.name.clone()).or_default() += 1;
        }
        for node in graph.nodes {
            let at = network.nodes.len();
            network.nodes.push(None);
            network.put(at, node);
        }
        network
    }

    /// The graph as it is now.
    pub fn into_graph(self) -> Graph {
        Graph {
            name: self.name,
            inputs: self.inputs,
            outputs: self.outputs,
            initializers: self.initializers.into_iter().flatten().collect(),
            nodes: self.nodes.into_iter().flatten().collect(),
            types: self.types,
        }
    }

    /// The places of all nodes, those that are gone included.
    pub fn places(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// The node at a place, unless it is gone.
    pub fn node(&self, at: usize) -> Option<&Node> {
        work(1);
        self.nodes.get(at)?.as_ref()
    }

    /// What is known of a node's inputs.
    pub fn args<'a>(&'a self, node: &'a Node) -> Args<'a> {
        Args::of(node, self)
    }

    /// The place of the node that gives a value.
    pub fn maker(&self, value: &str) -> Option<usize> {
        self.makers.get(value).copied()
    }

    /// The node that gives a value.
    pub fn made_by(&self, value: &str) -> Option<&Node> {
        self.node(self.maker(value)?)
    }

    /// The places of the nodes that read a value, in their bodies too, in order.
    pub fn readers(&self, value: &str) -> impl Iterator<Item = usize> + '_ {
        let readers = self.readers.get(value);
        readers.into_iter().flat_map(|r| r.keys().copied())
    }

    /// How often a value is read: by nodes, in their bodies, and as an output.
    pub fn reads(&self, value: &str) -> usize {
        let nodes = self.readers.get(value).map_or(0, |r| r.values().sum());
        nodes + self.given.get(value).copied().unwrap_or(0)
    }

    /// Whether this graph gives the value.
    pub fn is_output(&self, value: &str) -> bool {
        self.given.contains_key(value)
    }

    /// Whether other graphs are around this one.
    pub fn is_body(&self) -> bool {
        self.outer.is_some()
    }

    /// The value of an initializer of this graph.
    pub fn own_constant(&self, name: &str) -> Option<&Array> {
        let initializer = self.initializers[*self.constants.get(name)?].as_ref();
        initializer.map(|i| &i.value)
    }

    /// The type of a value of this graph.
    pub fn own_type(&self, name: &str) -> Option<&ValueType> {
        self.types.get(name)
    }

    fn put(&mut self, at: usize, node: Node) {
        reads_of(&node, &mut |name| {
            work(1);
            let readers = self.readers.entry(name.into()).or_default();
            *readers.entry(at).or_default() += 1;
        });
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            self.makers.insert(output.clone(), at);
        }
        if node.bodies().next().is_some() {
            self.with_bodies.insert(at);
        }
        self.nodes[at] = Some(node);
    }

    /// Removes a node. The types of its outputs stay: another node may give them.
    pub fn take(&mut self, at: usize) -> Option<Node> {
        let node = self.nodes.get_mut(at)?.take()?;
        reads_of(&node, &mut |name| {
            work(1);
            if let Some(readers) = self.readers.get_mut(name) {
                readers.remove(&at);
                if readers.is_empty() {
                    self.readers.remove(name);
                }
            }
        });
        for output in &node.outputs {
            if self.makers.get(output) == Some(&at) {
                self.makers.remove(output);
            }
        }
        self.with_bodies.remove(&at);
        Some(node)
    }

    /// Changes a node.
    pub fn edit(&mut self, at: usize, change: impl FnOnce(&mut Node)) {
        if let Some(mut node) = self.take(at) {
            change(&mut node);
            self.put(at, node);
        }
    }

    /// Lets all nodes that read `from` read `to`.
    pub fn redirect(&mut self, from: &str, to: &str) {
        for at in self.readers(from).collect::<Vec<_>>() {
            self.edit(at, |node| {
                edit::redirect(std::slice::from_mut(node), from, to)
            });
        }
    }

    /// Drops the type of a value that is no longer there.
    pub fn forget(&mut self, value: &str) {
        self.types.remove(value);
    }

    /// Adds an initializer or replaces the one of this name.
    pub fn set(&mut self, name: &str, value: Array) {
        self.types.insert(name.into(), edit::type_of(&value));
        let name = name.to_owned();
        match self.constants.get(&name) {
            Some(&at) => self.initializers[at] = Some(Initializer { name, value }),
            None => {
                self.constants.insert(name.clone(), self.initializers.len());
                self.initializers.push(Some(Initializer { name, value }));
            }
        }
    }

    /// The initializers, in order.
    pub fn constants(&self) -> impl Iterator<Item = &Initializer> {
        self.initializers.iter().flatten()
    }

    /// Removes an initializer.
    pub fn unset(&mut self, name: &str) {
        if let Some(at) = self.constants.remove(name) {
            self.initializers[at] = None;
            self.types.remove(name);
        }
    }

    /// A name that nothing in the graph has, `stem` itself if it is free.
    pub fn fresh(&self, stem: &str) -> String {
        fn taken(graph: &Graph, name: &str) -> bool {
            let mut bodies = graph.nodes.iter().flat_map(Node::bodies);
            graph.types.contains_key(name) || bodies.any(|body| taken(body, name))
        }
        let bodies = || {
            let nodes = self.with_bodies.iter().filter_map(|&at| self.node(at));
            nodes.flat_map(Node::bodies)
        };
        let mut name = stem.to_string();
        let mut k = 2;
        while self.types.contains_key(&name) || bodies().any(|body| taken(body, &name)) {
            name = format!("{stem}_{k}");
            k += 1;
        }
        name
    }

    /// Changes every body, which sees the values of this graph.
    pub fn for_each_body(&mut self, change: impl Fn(Graph, &dyn Values) -> Graph) {
        for at in self.with_bodies.clone() {
            let Some(mut node) = self.take(at) else {
                continue;
            };
            for attribute in node.attributes.values_mut() {
                if let zoo_graph::Attribute::Graph(body) = attribute {
                    **body = change(mem::take(body), self);
                }
            }
            self.put(at, node);
        }
    }

    /// Removes what no output needs; whether anything went.
    pub fn sweep(&mut self) -> bool {
        let mut changed = false;
        for at in self.places().rev() {
            let dead = |node: &Node| !node.outputs.iter().any(|o| self.reads(o) > 0);
            if self.node(at).is_some_and(dead) {
                self.take(at);
                changed = true;
            }
        }
        let unread: Vec<String> = self
            .constants()
            .filter(|i| self.reads(&i.name) == 0)
            .map(|i| i.name.clone())
            .collect();
        for name in &unread {
            self.unset(name);
        }
        let inputs: BTreeSet<&str> = self.inputs.iter().map(|p| p.name.as_str()).collect();
        let (makers, constants) = (&self.makers, &self.constants);
        self.types.retain(|name, _| {
            makers.contains_key(name)
                || constants.contains_key(name)
                || inputs.contains(name.as_str())
        });
        changed || !unread.is_empty()
    }
}

impl Values for Network<'_> {
    fn ty(&self, name: &str) -> Option<&ValueType> {
        let own = self.types.get(name);
        own.or_else(|| self.outer.and_then(|outer| outer.ty(name)))
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        let own = self.own_constant(name);
        own.or_else(|| self.outer.and_then(|outer| outer.constant(name)))
    }
}

/// Calls `read` for each value that a node reads, also in its bodies.
fn reads_of(node: &Node, read: &mut impl FnMut(&str)) {
    node.inputs
        .iter()
        .filter(|i| !i.is_empty())
        .for_each(|i| read(i));
    for body in node.bodies() {
        body.outputs.iter().for_each(|port| read(&port.name));
        body.nodes.iter().for_each(|node| reads_of(node, read));
    }
}

/// Counts steps of work, which a test holds against the size of graphs.
#[cfg(not(test))]
fn work(_: usize) {}

#[cfg(test)]
pub(super) use counted::{work, worked};

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static WORK: Cell<usize> = const { Cell::new(0) };
    }

    pub fn work(steps: usize) {
        WORK.set(WORK.get() + steps);
    }

    /// The steps since the last call on this thread.
    pub fn worked() -> usize {
        WORK.take()
    }
}
