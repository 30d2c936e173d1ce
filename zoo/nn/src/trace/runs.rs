//! The sizes that a network is run with.

use zoo_graph::{BATCH, Port, Sizes};

/// Batch sizes of the first run, of that with another batch, and of the one where all is different: primes that networks rarely use as sizes.
const BATCHES: [usize; 3] = [3, 5, 7];
/// Sides of images to begin with, if they may be any.
const SIDE: usize = 11;
/// How far a side is moved to see what follows it: a multiple of what sizes are usually divided by.
const FAR: usize = 48;

/// Sizes of all runs, and what varies in which.
pub(super) struct Runs {
    /// The symbols, the batch first. Run `1 + i` differs from the first in symbol `i` alone.
    pub symbols: Vec<String>,
    pub sizes: Vec<Sizes>,
}

impl Runs {
    /// For graphs with these inputs; an error where a size of theirs does not tell what its symbol stands for.
    pub fn of(inputs: &[Port]) -> Result<Self, String> {
        let mut free: Vec<(String, usize)> = Vec::new();
        for (port, dim) in inputs
            .iter()
            .flat_map(|p| p.shape.iter().map(move |d| (p, d)))
        {
            let Some(symbol) = dim.symbols().next() else {
                continue;
            };
            let step = dim
                .grows_by(symbol)
                .filter(|step| *step > 0 && dim.symbols().count() == 1);
            let Some(step) = step else {
                return Err(format!(
                    "input {:?}: the size {dim} does not tell what {symbol} is: use a symbol, a multiple of one, and a number added to that",
                    port.name
                ));
            };
            if symbol == BATCH {
                continue;
            }
            match free.iter_mut().find(|(known, _)| known == symbol) {
                Some((_, known)) => *known = step.max(*known),
                None => free.push((symbol.to_owned(), step)),
            }
        }
        let usual =
            |(i, (symbol, step)): (usize, &(String, usize)), sizes: Sizes, move_by: usize| {
                sizes.with(
                    symbol,
                    SIDE.div_ceil(*step).max(2) + 2 * i + move_by.div_ceil(*step),
                )
            };
        let all = |batch: usize, moved: &dyn Fn(usize) -> usize| {
            let each = free.iter().enumerate();
            each.fold(Sizes::batch(batch), |sizes, (i, of)| {
                usual((i, of), sizes, moved(i))
            })
        };
        let mut sizes = vec![all(BATCHES[0], &|_| 0), all(BATCHES[1], &|_| 0)];
        sizes.extend((0..free.len()).map(|i| all(BATCHES[0], &|k| if k == i { FAR } else { 0 })));
        sizes.push(all(BATCHES[2], &|i| 6 + 3 * i));
        let symbols = std::iter::once(BATCH.to_owned());
        Ok(Self {
            symbols: symbols
                .chain(free.into_iter().map(|(symbol, _)| symbol))
                .collect(),
            sizes,
        })
    }

    /// Further runs, in which every side leaves each remainder of a division by `divisor`.
    pub fn tell_remainders(&mut self, divisor: usize) {
        for by in 1..divisor {
            let moved = self.sizes[0].iter().map(|(symbol, size)| match symbol {
                BATCH => (symbol, size),
                _ => (symbol, size + by),
            });
            self.sizes
                .push(moved.fold(Sizes::default(), |sizes, (symbol, size)| {
                    sizes.with(symbol, size)
                }));
        }
    }

    /// Run `i`, for a message.
    pub fn said(&self, i: usize) -> String {
        self.said_of(&self.sizes[i])
    }

    /// Sizes, for a message.
    pub fn said_of(&self, sizes: &Sizes) -> String {
        match (self.symbols.len(), sizes.get(BATCH)) {
            (1, Some(n)) => format!("a batch of {n}"),
            _ => sizes.to_string(),
        }
    }

    /// The first run and that with these sizes, for a message.
    pub fn pair(&self, sizes: &Sizes) -> [String; 2] {
        [self.said(0), self.said_of(sizes)]
    }
}
