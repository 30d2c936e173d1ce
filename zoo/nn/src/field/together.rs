//! Windows of successive layers that are drawn together.

use super::{
    layer::part,
    windowed::{Rows, Windowed},
};
use crate::{Value, concat, stack};

/// Windows of one shape in L successive layers. What the rows above and the pixels to the left give each layer is known before the pixel is, so it is
/// computed for all at once; a layer adds its product with the pixel itself. Maps of all layers stand side by side, L*C of them.
#[derive(Debug)]
pub(crate) struct Together {
    /// Of all layers side by side, the rows in a group for each.
    rows: Option<Rows>,
    /// For the pixels to the left, `[L,columns*C,O]`.
    left: Option<Value>,
    /// For the pixel itself, `[O,C]` of each layer.
    own: Vec<Value>,
    /// Where no rows are seen: `[L*O]`, and as a row `[1,L*O,1,1]`.
    bias: Option<[Value; 2]>,
    columns: usize,
    /// L*C
    inputs: usize,
}

/// Those of `windows` that have neighbours and are alike, at least two of each kind.
pub(crate) fn alike<'a>(windows: impl Iterator<Item = (usize, &'a Windowed)>) -> Vec<Vec<usize>> {
    let mut kinds: Vec<(Vec<Vec<usize>>, Vec<usize>)> = Vec::new();
    for (i, window) in windows {
        let Some(own) = &window.own else { continue };
        if !window.has_neighbours() || !window.sees_own {
            continue;
        }
        let rows = window.rows.as_ref();
        let rows = rows.map(|rows| [rows.weight.dims(), &[rows.pad]].concat());
        let kind = vec![
            own.dims().to_vec(),
            vec![window.columns],
            rows.unwrap_or_default(),
        ];
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, members)) => members.push(i),
            None => kinds.push((kind, vec![i])),
        }
    }
    let several = kinds.into_iter().filter(|(_, members)| members.len() > 1);
    several.map(|(_, members)| members).collect()
}

impl Together {
    /// From windows that are alike, the first layer's first.
    #[track_caller]
    pub fn new(windows: &[&Windowed]) -> Self {
        let joined = |values: Vec<&Value>| (!values.is_empty()).then(|| concat(&values, 0));
        let rows: Vec<&Rows> = windows.iter().filter_map(|w| w.rows.as_ref()).collect();
        let weight = joined(rows.iter().map(|rows| &rows.weight).collect());
        let biases = joined(rows.iter().filter_map(|rows| rows.bias.as_ref()).collect());
        let first = windows.first();
        let (columns, inputs) = first.map_or((0, 0), |w| (w.columns, w.inputs));
        let seen = columns * inputs;
        let own: Vec<&Value> = windows.iter().filter_map(|w| w.own.as_ref()).collect();
        let left = || {
            let of = |own: &&Value| own.slice(1, 0, seen).permute(&[1, 0]);
            stack(&own.iter().map(of).collect::<Vec<_>>(), 0)
        };
        let bias = joined(windows.iter().filter_map(|w| w.bias.as_ref()).collect());
        Self {
            rows: weight.map(|weight| Rows {
                weight,
                bias: biases,
                pad: rows[0].pad,
                groups: rows.len(),
                own: false,
            }),
            left: (columns > 0).then(left),
            own: own
                .iter()
                .map(|own| own.slice(1, seen, seen + inputs).packed())
                .collect(),
            bias: bias.map(|bias| {
                let row = bias.reshape(&[1, -1, 1, 1]);
                [bias, row]
            }),
            columns,
            inputs: windows.len() * inputs,
        }
    }

    /// Maps that pixels keep for the row below, if it is seen.
    pub fn keeps(&self) -> Option<usize> {
        self.rows.as_ref().map(|_| self.inputs)
    }

    /// What is carried from row to row, before the first.
    pub fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        let rows = self.rows.as_ref();
        rows.map_or(vec![], |rows| rows.start(like, self.inputs, width))
    }

    /// What is carried from pixel to pixel, before a row's first.
    pub fn start_row(&self, like: &Value) -> Vec<Value> {
        match self.columns {
            0 => vec![],
            columns => vec![like.zeros_like_batch(&[columns * self.inputs])],
        }
    }

    /// What a row adds to all layers `[N,L*O,1,W]`: by the row above `[N,L*C,W]`, and what the network adds to each, if it adds something to one.
    #[track_caller]
    pub fn row(
        &self,
        above: Option<&Value>,
        added: &[Option<Value>],
        states: &[Value],
        next: &mut Vec<Value>,
    ) -> Option<Value> {
        let seen = self.rows.as_ref().zip(above).map(|(rows, above)| {
            let newest = above.unsqueeze(2); // [N,L*C,1,W]
            rows.forward(&newest, states, next, |_, next| next)
        });
        let like = added.iter().flatten().next();
        let added = like.map(|like| {
            let none = || like * 0.0;
            let all = added.iter().map(|a| a.clone().unwrap_or_else(none));
            let all = concat(&all.collect::<Vec<_>>(), 1); // [N,L*O,1,W]
            match &self.bias {
                Some([_, row]) => all + row,
                None => all,
            }
        });
        match (seen, added) {
            (Some(seen), Some(added)) => Some(seen + added),
            (seen, added) => seen.or(added),
        }
    }

    /// Begins a pixel, with what its row adds `[N,L*O]` and what is carried: what each layer's output is without the pixel, `[N,O]`.
    #[track_caller]
    pub fn begin(&self, known: Option<&Value>, states: &[Value]) -> Vec<Value> {
        let layers = self.own.len() as i64;
        let left = self.left.as_ref().map(|left| {
            let seen = part(states, 0)
                .reshape(&[0, layers, -1])
                .permute(&[1, 0, 2]); // [L,N,columns*C]
            let sums = seen.matmul(left).permute(&[1, 0, 2]); // [N,L,O]
            sums.reshape(&[0, -1])
        });
        let bias = self.bias.as_ref().map(|[bias, _]| bias);
        let terms = [left.as_ref(), known.or(bias)]
            .into_iter()
            .flatten()
            .cloned();
        match terms.reduce(|sum, term| sum + term) {
            Some(all) if all.check().is_ok() && all.rank() == 2 => all.chunk(self.own.len(), 1),
            Some(all) => vec![all; self.own.len()],
            None => vec![super::layer::unknown(); self.own.len()],
        }
    }

    /// Layer number `layer` at a pixel `[N,C] -> [N,O]`.
    #[track_caller]
    pub fn pixel(&self, layer: usize, x: &Value, known: &Value) -> Value {
        x.linear(&self.own[layer], None) + known
    }

    /// Ends a pixel, of which `inputs` were given to the layers: what is kept for the row below `[N,L*C]`, and what is carried on.
    #[track_caller]
    pub fn end(&self, inputs: &[Value], states: &[Value]) -> (Value, Vec<Value>) {
        let all = concat(inputs, 1); // [N,L*C]
        let layers = self.own.len() as i64;
        let next = match self.columns {
            0 => vec![],
            1 => vec![all.clone()],
            columns => {
                let by_column = |value: &Value, columns: usize| {
                    value.reshape(&[0, layers, columns as i64, -1]) // [N,L,columns,C]
                };
                let newer = by_column(&part(states, 0), columns).slice(2, 1, columns);
                vec![concat(&[newer, by_column(&all, 1)], 2).reshape(&[0, -1])]
            }
        };
        (all, next)
    }
}
