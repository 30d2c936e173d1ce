//! Drawing images by a network that is written on fields.

use std::{cell::RefCell, rc::Rc};

use super::{
    Field, Form,
    grid::{Grid, repeated},
    layer::{AtPixel, AtRow, Knows, part, unknown},
    run::{Now, Phase, Run},
    together::Together,
};
use crate::{Error, Net, Pixel, Raster, Result, Row, Value, dist::PixelDistribution, raster_scan};

/// Images `[N,C,H,W]`, drawn pixel by pixel from what `network` says of each: the parameters of `pixel`. Work for a pixel does not grow with the image.
///
/// `inputs` are noise `[N,C,H,W]`, uniform, and where a part of the image is given, an image and its mask, 1 for what is given.
#[track_caller]
pub fn draw(
    net: &Net,
    pixel: &PixelDistribution,
    inputs: &[&Value],
    network: impl Fn(&Net, &Field) -> Field,
) -> Value {
    let (first, known) = (net.again(), net.known());
    let place = |x: &Field| if x.is_planned() { &known } else { &first };
    match Drawing::new(inputs, |x| network(place(x), x)) {
        Ok(drawing) => drawing.draw(pixel, inputs),
        Err(error) => Value::failed(error),
    }
}

struct Drawing<F> {
    run: Rc<Run>,
    network: F,
    like: Value,
    colours: usize,
    width: usize,
    layout: RefCell<Layout>,
    /// Where there are several resolutions.
    grid: Option<Grid>,
    /// Whether a layer sees a pixel's own colours: then the network runs for each of them.
    by_colour: bool,
    /// Whether layers keep of the image itself alone.
    image_alone: bool,
}

impl<F: Fn(&Field) -> Field> Drawing<F> {
    fn new(inputs: &[&Value], network: F) -> Result<Self> {
        let like = inputs
            .first()
            .ok_or_else(|| Error::input("an image is drawn from noise, and there is none"))?;
        let (colours, width) = (like.dim(1)?, like.dim(3)?);
        let run = Run::new(width);
        let image = run.begin(Phase::Plan, Now::default(), colours, None);
        let result = network(&image.into());
        match result.0 {
            Form::Drawn(result) if result.level == 0 => run.at_pixel(&result),
            _ => {
                return Err(Error::input(
                    "the network's result has another resolution than the image, or is none of its fields",
                ));
            }
        };
        if let Some(fault) = run.fault() {
            return Err(fault);
        }
        run.finish_plan();
        let (levels, by_colour) = {
            let plan = run.plan.borrow();
            let layers = plan.layers.iter();
            let levels = layers.clone().map(|planned| planned.layer.gives().level);
            let mut of_image = layers.filter(|planned| planned.knows == Knows::Own);
            let by_colour = of_image.any(|planned| {
                planned.layer.gives().knows == Knows::Left && planned.layer.reads_own()
            });
            (levels.max().unwrap_or(0), by_colour)
        };
        let grid = match levels {
            0 => None,
            levels => Some(Grid::new(width, levels, like.tensor()?.device())?),
        };
        Ok(Self {
            image_alone: run.keeps_image_alone(),
            run,
            network,
            like: (*like).clone(),
            colours,
            width,
            layout: RefCell::default(),
            grid,
            by_colour,
        })
    }

    #[track_caller]
    fn draw(&self, pixel: &PixelDistribution, inputs: &[&Value]) -> Value {
        let raster = Raster {
            inputs,
            states: self.start(),
            last: self.last(),
        };
        raster_scan(
            raster,
            |states, last| self.row(states, last),
            |states, inputs, context| self.pixel(pixel, states, inputs, context),
        )
    }

    /// What is carried from row to row: the row's number where that matters, then what layers carry.
    fn start(&self) -> Vec<Value> {
        let plan = self.run.plan.borrow();
        let mut layout = self.layout.borrow_mut();
        let mut states = Vec::new();
        if self.grid.is_some() {
            states.push(self.like.zeros_like_batch(&[1, 1, 1]));
        }
        for planned in &plan.layers {
            let own = match planned.together {
                None => planned.layer.start(&self.like, self.width),
                Some(_) => vec![],
            };
            layout.rows.push(own.len());
            states.extend(own);
        }
        for with in &plan.together {
            let own = with.start(&self.like, self.width);
            layout.rows.push(own.len());
            states.extend(own);
        }
        states
    }

    /// What stands for the row above the first: of fields that are read, then of what layers keep.
    fn last(&self) -> Vec<Value> {
        let plan = self.run.plan.borrow();
        let read = plan.read.iter().map(|read| read.maps);
        let own = plan.layers.iter().flat_map(|planned| planned.layer.keeps());
        let together = plan.together.iter().filter_map(Together::keeps);
        read.chain(own)
            .chain(together)
            .map(|maps| self.like.zeros_like_batch(&[maps, self.width]))
            .collect()
    }

    /// Empty values of a phase.
    fn now(&self) -> Now {
        let plan = self.run.plan.borrow();
        Now {
            known: vec![None; plan.layers.len()],
            joined: vec![None; plan.joins.len()],
            read: vec![None; plan.read.len()],
            given: vec![vec![]; plan.together.len()],
            ..Now::default()
        }
    }

    #[track_caller]
    fn row(&self, states: &[Value], last: &[Value]) -> Row {
        let mut now = self.now();
        let (mut states, mut last) = (states.iter().cloned(), last.iter().cloned());
        let (mut after, mut told) = (vec![], Told::new(self.width));
        let mut new = vec![];
        if let Some(grid) = &self.grid {
            let number = states.next().unwrap_or_else(unknown);
            let (rows, flags) = grid.row(&number);
            told.tell(Slot::Flags, &flags);
            after.push(number + 1.0);
            new = rows;
        }
        let plan = self.run.plan.borrow();
        let mut layout = self.layout.borrow_mut();
        let Layout {
            rows: carried,
            pixels: starts,
            context,
        } = &mut *layout;
        let read: Vec<Value> = last.by_ref().take(plan.read.len()).collect();
        for (planned, &carried) in plan.layers.iter().zip(carried.iter()) {
            now.rows.push(AtRow {
                above: planned.read.map(|r| part(&read, r)),
                kept: last.by_ref().take(planned.layer.keeps().len()).collect(),
                states: states.by_ref().take(carried).collect(),
                new: new.clone(),
                ..AtRow::default()
            });
        }
        drop(plan);
        let image = self.run.begin(Phase::Row, now, self.colours, None);
        let result = (self.network)(&image.into());
        if let Form::Drawn(result) = result.0 {
            self.run.at_pixel(&result);
        }

        let now = self.run.now.take();
        let plan = self.run.plan.borrow();
        let mut pixels = Vec::new();
        starts.clear();
        let mut start = |own: Vec<Value>| {
            starts.push(own.len());
            pixels.extend(own);
        };
        let like = read.first().unwrap_or(&self.like);
        for (i, (planned, at)) in plan.layers.iter().zip(now.rows).enumerate() {
            after.extend(at.next);
            match planned.together {
                None => {
                    told.tell_all(Slot::Known(i), &now.known[i]);
                    start(planned.layer.start_row(like));
                }
                Some(_) => start(vec![]),
            }
            told.tell_all(Slot::Context(i), &at.context);
        }
        for (j, joined) in now.joined.iter().enumerate() {
            told.tell_all(Slot::Joined(j), joined);
        }
        let carried = carried.iter().skip(plan.layers.len());
        for (g, (with, &carried)) in plan.together.iter().zip(carried).enumerate() {
            let added: Vec<_> = plan.members(g).map(|i| now.known[i].clone()).collect();
            let above = with.keeps().and_then(|_| last.next());
            let own: Vec<Value> = states.by_ref().take(carried).collect();
            let known = with.row(above.as_ref(), &added, &own, &mut after);
            told.tell_all(Slot::Together(g), &known);
            start(with.start_row(like));
        }
        *context = told.slots;
        Row {
            states: after,
            context: told.context,
            pixels,
        }
    }

    #[track_caller]
    fn pixel(
        &self,
        pixel: &PixelDistribution,
        states: &[Value],
        inputs: &[Value],
        context: &[Value],
    ) -> Pixel {
        let mut now = self.now();
        let layout = self.layout.borrow();
        let plan = self.run.plan.borrow();
        let mut states = states.iter().cloned();
        let mut carried = layout.pixels.iter();
        let mut take = || -> Vec<Value> {
            let count = carried.next().copied().unwrap_or(0);
            states.by_ref().take(count).collect()
        };
        now.pixels = plan
            .layers
            .iter()
            .map(|_| AtPixel {
                states: take(),
                ..AtPixel::default()
            })
            .collect();
        let of_together: Vec<Vec<Value>> = plan.together.iter().map(|_| take()).collect();
        let mut known = vec![None; plan.together.len()];
        for (slot, value) in layout.context.iter().zip(context) {
            match *slot {
                Slot::Flags => {
                    if let Some(grid) = &self.grid {
                        let new = grid.pixel(value);
                        now.pixels.iter_mut().for_each(|at| at.new.clone_from(&new));
                    }
                }
                Slot::Known(i) => now.known[i] = Some(value.clone()),
                Slot::Context(i) => now.pixels[i].context.push(value.clone()),
                Slot::Joined(j) => now.joined[j] = Some(value.clone()),
                Slot::Together(g) => known[g] = Some(value.clone()),
            }
        }
        for (g, with) in plan.together.iter().enumerate() {
            let each = with.begin(known[g].as_ref(), &of_together[g]);
            for (i, known) in plan.members(g).zip(each) {
                now.known[i] = Some(known);
            }
        }
        drop(plan);

        *self.run.now.borrow_mut() = now;
        let parameters = |x: Option<&Value>| {
            let image = self.run.again(Phase::Pixel, self.colours, x.cloned());
            match (self.network)(&image.into()).0 {
                Form::Drawn(result) => self.run.at_pixel(&result),
                Form::Whole(value) => value,
            }
        };
        let x = match self.by_colour {
            true => pixel.draw_pixel(inputs, |x| parameters(Some(x))),
            false => pixel.draw_colours(&parameters(None), inputs),
        };
        if self.image_alone {
            self.run.keep_image(&x);
        } else {
            let image = self.run.again(Phase::After, self.colours, Some(x.clone()));
            (self.network)(&image.into());
        }

        let now = self.run.now.take();
        let plan = self.run.plan.borrow();
        let mut outputs = vec![x];
        let read = now.read.into_iter().skip(1);
        outputs.extend(read.map(|read| read.unwrap_or_else(unknown)));
        let mut next = Vec::new();
        for at in now.pixels {
            next.extend(at.next);
            outputs.extend(at.keep);
        }
        for (g, with) in plan.together.iter().enumerate() {
            let (kept, own) = with.end(&now.given[g], &of_together[g]);
            next.extend(own);
            outputs.extend(with.keeps().map(|_| kept));
        }
        Pixel {
            states: next,
            outputs,
        }
    }
}

/// What a row's context is for.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Which resolutions are new.
    Flags,
    /// The layer adds it to its outputs.
    Known(usize),
    /// The layer reads it.
    Context(usize),
    /// A row's field meets a pixel's.
    Joined(usize),
    /// Layers drawn together add it to their outputs.
    Together(usize),
}

/// How many values each part has: the same for every row and pixel.
#[derive(Debug, Default)]
struct Layout {
    /// States of each layer, then of those drawn together, from row to row.
    rows: Vec<usize>,
    /// The same from pixel to pixel.
    pixels: Vec<usize>,
    context: Vec<Slot>,
}

/// The context of a row's pixels.
struct Told {
    width: usize,
    context: Vec<Value>,
    slots: Vec<Slot>,
}

impl Told {
    fn new(width: usize) -> Self {
        Self {
            width,
            context: vec![],
            slots: vec![],
        }
    }

    fn tell(&mut self, slot: Slot, row: &Value) {
        self.context.push(repeated(row, self.width));
        self.slots.push(slot);
    }

    fn tell_all<'a>(&mut self, slot: Slot, rows: impl IntoIterator<Item = &'a Value>) {
        rows.into_iter().for_each(|row| self.tell(slot, row));
    }
}
