//! SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024, <https://arxiv.org/abs/2409.11321>, algorithm 3).
//!
//! A matrix of weights G (m,n) has covariances of its rows, L = E[G G'] (m,m), and columns, R = E[G' G] (n,n). In their eigenvectors the gradient's entries are
//! nearly uncorrelated, so that Adam's division by each entry's own size fits the loss much better.

use candle_core::{D, DType, Device, Tensor};

use crate::Result;

/// Sides longer than this keep their own basis: the work of a turn grows with the square of a side, that of a new basis with its cube.
const LONGEST: usize = 512;

/// Updates between new bases (the paper's precondition frequency).
const REFRESH: u64 = 10;

/// Moments of a matrix of weights in a turning basis. Kernels (O,C,KH,KW) are matrices (O,C*KH*KW).
#[derive(Debug)]
pub(super) struct Rotated {
    /// First moment, in the weights' own basis (m,n).
    pub m: Tensor,
    /// Second moment, in the turned basis (m,n).
    pub v: Tensor,
    /// Of rows and columns; `None` where a side is too long or a single one.
    pub sides: [Option<Side>; 2],
}

/// One side's covariance and its eigenvectors, as columns; both (k,k).
#[derive(Debug)]
pub(super) struct Side {
    pub covariance: Tensor,
    pub basis: Tensor,
}

/// What an update multiplies by.
pub(super) struct Step {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// Updates of this optimiser, this one included.
    pub update: u64,
}

impl Rotated {
    /// For weights of this shape; `None` where no side gains by a basis of its own.
    pub fn new(shape: &[usize], device: &Device) -> Result<Option<Self>> {
        let Some((&rows, rest)) = shape.split_first() else {
            return Ok(None);
        };
        let columns: usize = rest.iter().product();
        let gains = |side: usize| side <= LONGEST;
        if rows < 2 || columns < 2 || !(gains(rows) || gains(columns)) {
            return Ok(None);
        }
        let zeros = |shape| Tensor::zeros(shape, DType::F32, device);
        let side = |k: usize| -> Result<Option<Side>> {
            if !gains(k) {
                return Ok(None);
            }
            Ok(Some(Side {
                covariance: zeros((k, k))?,
                basis: Tensor::eye(k, DType::F32, device)?,
            }))
        };
        Ok(Some(Self {
            m: zeros((rows, columns))?,
            v: zeros((rows, columns))?,
            sides: [side(rows)?, side(columns)?],
        }))
    }

    /// The direction to go against, (m,n), for a gradient in the weights' shape; `None` at the first update, which finds the first bases only.
    pub fn direction(&mut self, gradient: &Tensor, step: &Step) -> Result<Option<Tensor>> {
        let g = gradient.reshape(self.m.dims())?; // (m,n)
        let across = g.t()?; // (n,m)
        let keep = if step.update == 1 { 0.0 } else { step.beta2 };
        for (side, by) in self.sides.iter_mut().zip([&g, &across]) {
            if let Some(side) = side {
                let new = (by.matmul(&by.t()?)? * (1.0 - keep))?; // (k,k)
                side.covariance = ((&side.covariance * keep)? + new)?;
            }
        }
        if step.update == 1 {
            // From the identity, a few turns come near enough to the eigenvectors.
            for _ in 0..8 {
                self.refresh()?;
            }
            return Ok(None);
        }
        self.m = ((&self.m * step.beta1)? + (&g * (1.0 - step.beta1))?)?;
        let turned = self.turn(&g)?; // (m,n)
        self.v = ((&self.v * step.beta2)? + (turned.sqr()? * (1.0 - step.beta2))?)?;
        let t = (step.update - 1) as f64;
        let (correct1, correct2) = (1.0 - step.beta1.powf(t), 1.0 - step.beta2.powf(t));
        let root = ((&self.v / correct2)?.sqrt()? + step.epsilon)?;
        let direction = (self.turn(&self.m)? / correct1)?.div(&root)?;
        let direction = self.turn_back(&direction)?; // (m,n)
        if step.update.is_multiple_of(REFRESH) {
            self.refresh()?;
        }
        Ok(Some(direction.reshape(gradient.shape())?))
    }

    /// L' x R, into the bases.
    fn turn(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = &self.sides;
        let mut x = x.clone();
        if let Some(side) = rows {
            x = side.basis.t()?.matmul(&x)?;
        }
        if let Some(side) = columns {
            x = x.matmul(&side.basis)?;
        }
        Ok(x)
    }

    /// L x R', out of them.
    fn turn_back(&self, x: &Tensor) -> Result<Tensor> {
        let [rows, columns] = &self.sides;
        let mut x = x.clone();
        if let Some(side) = rows {
            x = side.basis.matmul(&x)?;
        }
        if let Some(side) = columns {
            x = x.matmul(&side.basis.t()?)?;
        }
        Ok(x)
    }

    /// Each basis by one power iteration: the orthonormal columns of covariance times basis, the largest first (algorithm 4).
    fn refresh(&mut self) -> Result<()> {
        for (axis, side) in self.sides.iter_mut().enumerate() {
            let Some(Side { covariance, basis }) = side else {
                continue;
            };
            let image = covariance.matmul(basis)?; // (k,k)
            let sizes = (&*basis * &image)?.sum(0)?.to_vec1::<f32>()?;
            let mut order: Vec<u32> = (0..sizes.len() as u32).collect();
            order.sort_by(|&a, &b| sizes[b as usize].total_cmp(&sizes[a as usize]));
            let order = Tensor::new(order, image.device())?;
            self.v = self.v.index_select(&order, axis)?;
            let image = image.index_select(&order, D::Minus1)?;
            let (k, device) = (image.dim(0)?, image.device().clone());
            let mut columns = image.flatten_all()?.to_vec1::<f32>()?;
            zoo_kernels::orthonormal(k, &mut columns).map_err(candle_core::Error::wrap)?;
            *basis = Tensor::from_vec(columns, (k, k), &Device::Cpu)?.to_device(&device)?;
        }
        Ok(())
    }
}
