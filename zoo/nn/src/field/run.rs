//! A network's function while an image is drawn: which fields and layers it has, and what they know at the moment.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::{
    layer::{AtPixel, AtRow, Gives, Knows, Layer, part, unknown},
    together::{Together, alike},
    windowed::Windowed,
};
use crate::{Error, Result, Value};

/// Which run of the function it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first: which layers there are.
    #[default]
    Plan,
    Row,
    Pixel,
    /// The pixel's colours are drawn.
    After,
}

/// A drawing.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) phase: Cell<Phase>,
    pub(super) plan: RefCell<Plan>,
    pub(super) now: RefCell<Now>,
    fault: RefCell<Option<Error>>,
    /// Pixels of a row.
    pub width: usize,
}

/// What is known of the network.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub layers: Vec<Planned>,
    pub joins: Vec<Join>,
    /// Fields whose row above is read, by number: the image first.
    pub read: Vec<Read>,
    /// How often each field is used.
    uses: Vec<usize>,
    prepared: Vec<Value>,
    pub together: Vec<Together>,
}

impl Plan {
    /// The layers that are drawn together, the first one first.
    pub fn members(&self, with: usize) -> impl Iterator<Item = usize> {
        let of = move |planned: &Planned| planned.together.is_some_and(|(of, _)| of == with);
        let layers = self.layers.iter().enumerate();
        layers.filter(move |(_, p)| of(p)).map(|(i, _)| i)
    }
}

/// A field of which layers read the row above.
#[derive(Debug)]
pub(super) struct Read {
    number: usize,
    pub maps: usize,
}

#[derive(Debug)]
pub(super) struct Planned {
    pub layer: Rc<dyn Layer>,
    /// Which of the fields that are read its input is.
    pub read: Option<usize>,
    pub knows: Knows,
    /// Whether its input is the image itself.
    pub of_image: bool,
    /// Where it is drawn together with others: with which, and its place among them.
    pub together: Option<(usize, usize)>,
}

impl Planned {
    fn as_window(&self) -> Option<&Windowed> {
        self.layer.as_window()?.downcast_ref()
    }
}

/// A sum of a field that knows whole rows and one that knows pixels.
#[derive(Debug)]
pub(super) struct Join {
    /// The pixel's field.
    number: usize,
    /// The join that it comes from, if it does.
    after: Option<usize>,
    /// The layer that adds the row's field to its output, so that there is nothing to do for a pixel.
    pub by: Option<usize>,
}

/// Values of the running phase. Those of layers and joins stand in their order.
#[derive(Debug, Default)]
pub(super) struct Now {
    pub counted: Counted,
    pub rows: Vec<AtRow>,
    pub pixels: Vec<AtPixel>,
    /// What a layer's row adds to its outputs: `[N,O,1,W]` in a row, `[N,O]` at a pixel.
    pub known: Vec<Option<Value>>,
    /// What joins get from rows.
    pub joined: Vec<Option<Value>>,
    /// Of fields that are read: the row above in a row, the pixel at a pixel.
    pub read: Vec<Option<Value>>,
    /// What layers drawn together were given.
    pub given: Vec<Vec<Value>>,
}

/// What the phase has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    fields: usize,
    layers: usize,
    joins: usize,
    prepared: usize,
}

/// A field while an image is drawn.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub run: Rc<Run>,
    pub knows: Knows,
    pub maps: usize,
    pub level: usize,
    /// `[N,C,1,W]` or `[N,C]`, where it is known in this phase.
    pub value: Option<Value>,
    number: usize,
    /// The layer whose output it is, and the join behind that, if more was added.
    of: Option<(usize, Option<usize>)>,
}

impl Run {
    pub fn new(width: usize) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::default(),
            plan: RefCell::default(),
            now: RefCell::default(),
            fault: RefCell::default(),
            width,
        })
    }

    /// Notes what went wrong, if nothing did before.
    pub fn fail(&self, error: Error) {
        self.fault.borrow_mut().get_or_insert(error);
    }

    pub fn fault(&self) -> Option<Error> {
        self.fault.borrow_mut().take()
    }

    /// Begins a phase with these values, and gives the image's field.
    pub(super) fn begin(
        self: &Rc<Self>,
        phase: Phase,
        now: Now,
        maps: usize,
        x: Option<Value>,
    ) -> Drawn {
        self.phase.set(phase);
        *self.now.borrow_mut() = now;
        let image = self.field(Knows::Own, maps, 0, x);
        if phase == Phase::Plan {
            let mut plan = self.plan.borrow_mut();
            plan.read.push(Read {
                number: image.number,
                maps,
            });
        }
        image
    }

    /// Begins the phase again at its first field, such as for a pixel's next colour, or for what is known once it is drawn.
    pub(super) fn again(self: &Rc<Self>, phase: Phase, maps: usize, x: Option<Value>) -> Drawn {
        let mut now = self.now.take();
        now.counted = Counted::default();
        if phase == Phase::Pixel {
            now.given.iter_mut().for_each(Vec::clear);
            for at in &mut now.pixels {
                at.next.clear();
                at.keep.clear();
            }
        }
        self.begin(phase, now, maps, x)
    }

    fn field(
        self: &Rc<Self>,
        knows: Knows,
        maps: usize,
        level: usize,
        value: Option<Value>,
    ) -> Drawn {
        let mut now = self.now.borrow_mut();
        let number = now.counted.fields;
        now.counted.fields += 1;
        if self.phase.get() == Phase::Plan {
            self.plan.borrow_mut().uses.push(0);
        }
        Drawn {
            run: self.clone(),
            knows,
            maps,
            level,
            value,
            number,
            of: None,
        }
    }

    fn used(&self, field: &Drawn) {
        if self.phase.get() == Phase::Plan
            && let Some(uses) = self.plan.borrow_mut().uses.get_mut(field.number)
        {
            *uses += 1;
        }
    }

    /// What is computed once, in the plan.
    pub fn prepared(&self, make: impl FnOnce() -> Value) -> Value {
        let mut now = self.now.borrow_mut();
        now.counted.prepared += 1;
        if self.phase.get() == Phase::Plan {
            let made = make();
            self.plan.borrow_mut().prepared.push(made.clone());
            return made;
        }
        part(&self.plan.borrow().prepared, now.counted.prepared - 1)
    }

    /// What `f` makes of fields, element by element or map by map.
    #[track_caller]
    pub fn combine(fields: &[&Drawn], maps: usize, f: impl FnOnce(&[Value]) -> Value) -> Drawn {
        let run = &fields[0].run;
        let level = fields[0].level;
        let most = fields.iter().map(|field| field.knows).max();
        let knows = most.unwrap_or(Knows::Above);
        if fields.iter().any(|field| field.level != level) {
            run.fail(Error::input(
                "fields of different resolutions meet: bring them to one first",
            ));
        }
        if knows == Knows::Own && fields.iter().any(|field| field.knows != knows) {
            run.fail(Error::input(
                "the image itself meets what predicts it: let it go through a masked layer first",
            ));
        }
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            run.used(field);
            let crosses = field.knows == Knows::Above && knows == Knows::Left;
            values.push(match crosses {
                true => run.cross(field, None).0,
                false => field.value.clone(),
            });
        }
        let values: Option<Vec<Value>> = values.into_iter().collect();
        run.field(knows, maps, level, values.map(|values| f(&values)))
    }

    /// Takes a field of a row to its pixels: the value there. If it is to be added to another, a layer may do that.
    fn cross(&self, row: &Drawn, to: Option<&Drawn>) -> (Option<Value>, usize) {
        let mut now = self.now.borrow_mut();
        let join = now.counted.joins;
        now.counted.joins += 1;
        let by = match self.phase.get() {
            Phase::Plan => {
                let of = to.and_then(|to| to.of);
                self.plan.borrow_mut().joins.push(Join {
                    number: to.map_or(0, |to| to.number),
                    after: of.and_then(|(_, after)| after),
                    by: of.map(|(layer, _)| layer),
                });
                return (None, join);
            }
            _ => self.plan.borrow().joins.get(join).and_then(|join| join.by),
        };
        let value = match (self.phase.get(), by) {
            (Phase::Row, Some(layer)) => {
                let known = now.known[layer].take();
                let row = row.value.clone().unwrap_or_else(unknown);
                now.known[layer] = Some(match known {
                    Some(known) => known + row,
                    None => row,
                });
                None
            }
            (Phase::Row, None) => {
                now.joined[join].clone_from(&row.value);
                None
            }
            (Phase::Pixel, None) => Some(now.joined[join].clone().unwrap_or_else(unknown)),
            _ => None,
        };
        (value, join)
    }

    /// The sum of two fields.
    #[track_caller]
    pub fn sum(a: &Drawn, b: &Drawn) -> Drawn {
        let (row, pixel) = match (a.knows, b.knows) {
            (Knows::Above, Knows::Left) => (a, b),
            (Knows::Left, Knows::Above) => (b, a),
            _ => return Self::combine(&[a, b], a.maps, |all| &all[0] + &all[1]),
        };
        let run = &a.run;
        if row.level != pixel.level {
            run.fail(Error::input(
                "fields of different resolutions meet: bring them to one first",
            ));
        }
        run.used(row);
        run.used(pixel);
        let (value, join) = run.cross(row, Some(pixel));
        let sum = match (value, &pixel.value) {
            (Some(row), Some(pixel)) => Some(pixel + row),
            (None, pixel) => pixel.clone(),
            (Some(_), None) => None,
        };
        Drawn {
            of: pixel.of.map(|(layer, _)| (layer, Some(join))),
            ..run.field(Knows::Left, pixel.maps, pixel.level, sum)
        }
    }

    /// A layer over `x`, which `make` gives once.
    #[track_caller]
    pub fn apply(x: &Drawn, make: impl FnOnce(&Drawn) -> Result<Rc<dyn Layer>>) -> Drawn {
        let run = &x.run;
        let i = {
            let mut now = run.now.borrow_mut();
            now.counted.layers += 1;
            now.counted.layers - 1
        };
        if run.phase.get() == Phase::Plan {
            match make(x) {
                Ok(layer) => run.planned(x, layer),
                Err(error) => {
                    run.fail(error);
                    return x.clone();
                }
            }
        }
        let (layer, read, together) = {
            let plan = run.plan.borrow();
            let planned = &plan.layers[i];
            (planned.layer.clone(), planned.read, planned.together)
        };
        if layer.adds() == 0 {
            run.used(x); // else the sum does
        }
        let Gives { knows, maps, level } = layer.gives();
        let mut value = None;
        let mut added = None;
        if run.phase.get() == Phase::Row {
            // Together, they are computed when all is known that is added to them.
            if together.is_none() {
                let mut at = std::mem::take(&mut run.now.borrow_mut().rows[i]);
                at.x.clone_from(&x.value);
                value = layer.row(&mut at);
                added = at.added.take();
                let mut now = run.now.borrow_mut();
                now.known[i] = at.known.take();
                now.rows[i] = at;
            }
        }
        let mut x = x.clone();
        if layer.adds() > 0 {
            let row = run.field(Knows::Above, layer.adds(), x.level, added);
            x = Self::sum(&row, &x);
        }
        match (run.phase.get(), x.knows) {
            (Phase::Pixel, Knows::Left) => {
                value = run.pixel(i, &*layer, together, x.value.as_ref());
                let input = x.value.clone().unwrap_or_else(unknown);
                run.keep(i, &*layer, read, together, &input);
            }
            (Phase::Pixel, _) if knows == Knows::Left => {
                value = run.pixel(i, &*layer, together, x.value.as_ref());
            }
            (Phase::After, Knows::Own) => {
                let input = x.value.clone().unwrap_or_else(unknown);
                run.keep(i, &*layer, read, together, &input);
            }
            _ => {}
        }
        Drawn {
            of: (knows == Knows::Left).then_some((i, None)),
            ..run.field(knows, maps, level, value)
        }
    }

    fn planned(&self, x: &Drawn, layer: Rc<dyn Layer>) {
        let mut plan = self.plan.borrow_mut();
        let read = layer.reads_above().then(|| {
            let known = plan.read.iter().position(|read| read.number == x.number);
            known.unwrap_or_else(|| {
                plan.read.push(Read {
                    number: x.number,
                    maps: x.maps,
                });
                plan.read.len() - 1
            })
        });
        plan.layers.push(Planned {
            layer,
            read,
            knows: x.knows,
            of_image: x.number == 0,
            together: None,
        });
    }

    /// A layer's output at a pixel.
    fn pixel(
        &self,
        i: usize,
        layer: &dyn Layer,
        together: Option<(usize, usize)>,
        x: Option<&Value>,
    ) -> Option<Value> {
        if layer.gives().knows != Knows::Left {
            return None;
        }
        let known = self.now.borrow().known[i].clone();
        if let Some((with, place)) = together {
            let x = x.cloned().unwrap_or_else(unknown);
            let known = known.unwrap_or_else(unknown);
            return Some(self.plan.borrow().together[with].pixel(place, &x, &known));
        }
        let mut at = std::mem::take(&mut self.now.borrow_mut().pixels[i]);
        let own = layer.pixel(x, &mut at);
        self.now.borrow_mut().pixels[i] = at;
        Some(match known {
            Some(known) => own + known,
            None => own,
        })
    }

    /// Leaves what the next pixel and the row below are to see of a layer.
    fn keep(
        &self,
        i: usize,
        layer: &dyn Layer,
        read: Option<usize>,
        together: Option<(usize, usize)>,
        x: &Value,
    ) {
        if let Some((with, _)) = together {
            self.now.borrow_mut().given[with].push(x.clone());
            return;
        }
        let mut at = std::mem::take(&mut self.now.borrow_mut().pixels[i]);
        if self.phase.get() == Phase::After {
            at.seen = None;
        }
        layer.after(x, &mut at);
        let mut now = self.now.borrow_mut();
        now.pixels[i] = at;
        if let Some(read) = read {
            now.read[read] = Some(x.clone());
        }
    }

    /// Whether layers keep of the image itself alone, so that the network need not run to keep it.
    pub fn keeps_image_alone(&self) -> bool {
        let plan = self.plan.borrow();
        let mut own = plan.layers.iter().filter(|p| p.knows == Knows::Own);
        own.all(|planned| planned.of_image)
    }

    /// Leaves what the next pixel and the row below are to see of the image, whose pixel is known.
    #[track_caller]
    pub fn keep_image(&self, x: &Value) {
        self.phase.set(Phase::After);
        let plan = self.plan.borrow();
        for (i, planned) in plan.layers.iter().enumerate() {
            if planned.of_image {
                self.keep(i, &*planned.layer, planned.read, planned.together, x);
            }
        }
    }

    /// The network's result at a pixel.
    pub fn at_pixel(&self, field: &Drawn) -> Value {
        let value = match field.knows {
            Knows::Above => self.cross(field, None).0,
            _ => field.value.clone(),
        };
        value.unwrap_or_else(unknown)
    }

    /// Ends the plan: what is drawn together, and which layers add what rows give them.
    pub fn finish_plan(&self) {
        let mut plan = self.plan.borrow_mut();
        let Plan {
            layers,
            joins,
            uses,
            read,
            together,
            ..
        } = &mut *plan;
        for i in 0..joins.len() {
            let join = &joins[i];
            let alone = uses.get(join.number).is_some_and(|&uses| uses == 1);
            let behind = join.after.is_none_or(|after| joins[after].by.is_some());
            if !alone || !behind {
                joins[i].by = None;
            }
        }
        let of_pixels = layers
            .iter()
            .enumerate()
            .filter(|(_, planned)| planned.knows == Knows::Left)
            .filter_map(|(i, planned)| Some((i, planned.as_window()?)));
        for members in alike(of_pixels) {
            let windows: Vec<_> = members
                .iter()
                .filter_map(|&i| layers[i].as_window())
                .collect();
            let with = Together::new(&windows);
            for (place, &i) in members.iter().enumerate() {
                layers[i].together = Some((together.len(), place));
                layers[i].read = None;
            }
            together.push(with);
        }
        // Fields that only those drawn together read are kept by them.
        let still: Vec<bool> = (0..read.len())
            .map(|r| r == 0 || layers.iter().any(|planned| planned.read == Some(r)))
            .collect();
        let place = |r: usize| still[..r].iter().filter(|still| **still).count();
        for planned in layers.iter_mut() {
            planned.read = planned.read.map(place);
        }
        let mut kept = still.iter();
        read.retain(|_| kept.next().copied().unwrap_or(true));
    }
}
